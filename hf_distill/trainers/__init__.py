"""The trainers, their arguments, and the checks that run before training."""
