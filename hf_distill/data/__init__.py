"""From rows of a data set to what a model reads: sequences, words, questions with their contexts, images."""
