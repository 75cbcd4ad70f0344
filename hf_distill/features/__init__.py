"""What a forward pass leaves behind for a loss to compare: hidden states, queries, keys, values."""
