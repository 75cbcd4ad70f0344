"""Text from anywhere, made safe to print, to publish and to log."""
