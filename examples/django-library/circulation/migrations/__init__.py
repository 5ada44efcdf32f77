"""The migrations of circulation."""
