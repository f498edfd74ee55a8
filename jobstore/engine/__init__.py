"""The query engine over one SQLite file."""
