"""Small models: the 24 miniatures, and the weights a student starts from."""
