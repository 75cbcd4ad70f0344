"""What a student is worth: quality, fidelity to its teacher, latency."""
