"""`hf-distill`: the command line, and what the example scripts share."""
