"""Every timeout, size and pause of the storage, in one place."""

from __future__ import annotations

from typing import Final

# In WAL mode readers wait for hardly anything; a longer wait than this is a fault that the user should see.
READ_TIMEOUT_SECONDS: Final = 5.0
# How long a writer waits for others by default.
TIMEOUT_SECONDS: Final = 10.0
# How long a fork waits for what reads or writes at that moment; afterwards the child is refused the file.
FORK_TIMEOUT_SECONDS: Final = 5.0
# The first process in line sleeps about this long before it looks again; those behind it longer.
LOCK_PAUSE_SECONDS: Final = 0.0005
# The first in line may be stopped: if it has left the lock free for this time, the next one takes it.
LINE_STUCK_SECONDS: Final = 1.0
# Each process in line that is counted costs a system call. Beyond this number pauses grow no longer.
MOST_COUNTED: Final = 40

# Rows that a long reading takes from its statement at once. Between two batches a fork may pass.
ROWS_AT_ONCE: Final = 500
# Page cache of a reading connection; with what the engine remembers a reader stays below 150 MB.
READER_CACHE_KIB: Final = 32 * 1024
WRITER_CACHE_KIB: Final = 16 * 1024

# Pages of the log after which SQLite writes it back; with half of that, recorders wait more often.
LOG_PAGES: Final = 2_000
# The log is usually half of that; only readers that never pause, or a large prune, let it grow.
LOG_BYTES: Final = 16 * 1024 * 1024
SHORTEN_EVERY_SECONDS: Final = 0.5
# How long shortening the log waits for readers before it is left for the next time; recorders wait meanwhile.
SHORTEN_MILLISECONDS: Final = 100

RESERVE_BYTES: Final = 4 * 1024 * 1024
# A smaller store gets no reserve: there is nothing in it worth pruning.
RESERVED_FROM_BYTES: Final = 1024 * 1024
# No reserve is made where it would take more than an eighth of the free room.
RESERVE_SHARE: Final = 8
# How often a recorder looks whether the reserve is still there.
RESERVE_EVERY_SECONDS: Final = 60.0

# Two changes of a file within one tick of the system's clock leave the same time of change; a tick is shorter.
SETTLED_NANOSECONDS: Final = 20_000_000
