"""The only package that touches the file or the database."""

import sqlite3
from typing import Final

# The first version with STRICT tables.
OLDEST_SQLITE: Final = (3, 37, 0)

if sqlite3.sqlite_version_info < OLDEST_SQLITE:
    raise ImportError(
        f"jobstore needs SQLite 3.37 or newer; this Python has {sqlite3.sqlite_version}. Use a newer Python or system"
    )
