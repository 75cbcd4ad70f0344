"""Features of a forward pass that losses compare: hidden states, queries, keys and values, captured by hooks."""
