"""Real data and a real encoder that need no model hub: both ship inside packages on PyPI."""
