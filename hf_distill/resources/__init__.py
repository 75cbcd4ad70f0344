"""Real data sets and a real encoder that need no model hub, because packages on PyPI include them."""
