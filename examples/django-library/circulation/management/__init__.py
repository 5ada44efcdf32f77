"""Management commands of circulation."""
