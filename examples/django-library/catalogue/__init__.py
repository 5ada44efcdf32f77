"""What the library has: works, editions, copies and where they stand."""
