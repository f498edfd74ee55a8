"""The history in a PostgreSQL database: its connection and its schema; what things mean is decided elsewhere."""
