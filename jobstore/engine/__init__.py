"""The query engine, over a file or a PostgreSQL database."""
