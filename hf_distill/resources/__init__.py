"""Real data sets and real encoders that need no model hub, because packages on PyPI (and one on npm) include them."""
