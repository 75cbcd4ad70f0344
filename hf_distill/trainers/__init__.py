"""Trainers and their arguments: who runs, when, and on what."""
