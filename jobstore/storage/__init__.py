"""The only rooms that touch the file."""
