"""`hf-distill`, the command line: each module parses the options of one command and prints its results."""
