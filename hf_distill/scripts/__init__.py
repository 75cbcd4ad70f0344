"""Building blocks of the example scripts and the command line: arguments, models, data sets, and the stages of a run."""
