"""Loading of data sets, and model inputs from their rows: texts, words, questions with contexts, images."""
