"""What happened, in a database of its own."""
