"""Every time-out, size and pause of the storage, in one place."""

from __future__ import annotations

from typing import Final

READ_TIMEOUT_SECONDS: Final = 5.0
TIMEOUT_SECONDS: Final = 10.0
"""How long a writer waits for others by default."""
FORK_TIMEOUT_SECONDS: Final = 5.0
"""How long a fork waits for what reads or writes at that moment."""
LOCK_PAUSE_SECONDS: Final = 0.0005
"""The first process in line sleeps about this long before it looks again; those behind it longer."""
LINE_STUCK_SECONDS: Final = 1.0
"""The first in line may be stopped: if it has left the lock free for this time, the next one takes it."""
MOST_COUNTED: Final = 40
"""Of those in line; more make no pause longer."""

ROWS_AT_ONCE: Final = 500
"""Rows that a long reading takes from its statement at once."""
READER_CACHE_KIB: Final = 32 * 1024
"""Page cache of a reading connection; with what the engine remembers a reader stays below 150 MB."""
WRITER_CACHE_KIB: Final = 16 * 1024

LOG_PAGES: Final = 2_000
"""Pages of the log after which SQLite writes it back; with half of that, recorders wait more often."""
LOG_BYTES: Final = 16 * 1024 * 1024
"""The log is usually half of that; only readers that never pause, or a large prune, let it grow."""
SHORTEN_EVERY_SECONDS: Final = 0.5
SHORTEN_MILLISECONDS: Final = 100
"""How long a log that is too long waits for readers before it is left for the next time."""

RESERVE_BYTES: Final = 4 * 1024 * 1024
RESERVED_FROM_BYTES: Final = 1024 * 1024
"""A smaller store gets no reserve: there is nothing in it worth pruning."""
RESERVE_SHARE: Final = 8
"""No reserve is made where it would take more than an eighth of the free room."""
RESERVE_EVERY_SECONDS: Final = 60.0
"""How often a recorder looks whether the reserve is still there."""

SETTLED_NANOSECONDS: Final = 20_000_000
"""Two changes of a file within one tick of the system's clock leave the same time of change; a tick is shorter."""
