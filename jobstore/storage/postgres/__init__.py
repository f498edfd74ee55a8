"""A store in a PostgreSQL database: its connection, schema and writer."""

from importlib.util import find_spec

from jobstore.language.extras import missing

if find_spec("psycopg") is None:
    raise missing("A store on a PostgreSQL server", "postgres")
