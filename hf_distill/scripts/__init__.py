"""What the example scripts share: arguments, models, data sets, and the course of a run."""
