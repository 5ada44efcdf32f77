"""Management commands of catalogue."""
