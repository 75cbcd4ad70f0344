"""Checks before training: arguments, models and data, with errors that name what was given and what is allowed."""
