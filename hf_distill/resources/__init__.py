"""Real data sets and real encoders that need no model hub, because packages on PyPI include them."""
