"""The migrations of catalogue."""
