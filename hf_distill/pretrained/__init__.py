"""Trained models by name or folder: whole ones and adapters, and the files beside their weights."""
