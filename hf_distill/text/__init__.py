"""Untrusted text made safe for terminals, logs and published pages."""
