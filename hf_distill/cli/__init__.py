"""`hf-distill`: the command line."""
