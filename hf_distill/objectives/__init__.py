"""Losses as pure functions of tensors, and the weighted objective built from them. Imports torch only."""
