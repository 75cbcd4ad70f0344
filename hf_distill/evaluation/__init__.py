"""Evaluation of trained models: quality, fidelity to a teacher, calibration, significance and latency."""
