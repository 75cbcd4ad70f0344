"""Where a teacher's outputs come from: a live frozen model, or a column of the transfer set."""
