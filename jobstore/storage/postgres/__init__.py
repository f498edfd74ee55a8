"""The history in a PostgreSQL database: its connection and its schema; what things mean is decided elsewhere."""

from importlib.util import find_spec

from jobstore.language.extras import missing

if find_spec("psycopg") is None:
    raise missing("A store on a PostgreSQL server", "postgres")
