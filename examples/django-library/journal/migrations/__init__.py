"""The migrations of journal."""
