"""Every timeout, size and pause of the storage, in one place."""

from __future__ import annotations

from typing import Final

# In WAL mode readers hardly ever wait; a longer wait than this is a fault that the user should see.
READ_TIMEOUT_SECONDS: Final = 5.0
# How long a writer waits for others by default.
TIMEOUT_SECONDS: Final = 10.0
# Eleven days, which every system call and server can count in milliseconds.
LONGEST_TIMEOUT_SECONDS: Final = 1_000_000
# How long a fork waits for running reads and writes; afterwards the child is refused the file.
FORK_TIMEOUT_SECONDS: Final = 5.0
# How often a fork looks for stores that threads have opened meanwhile. Each look is shorter and so finds fewer, but
# threads that never pause open new ones without end; what the last look misses is refused to the child.
FORK_LOOKS: Final = 20
# The first process in line sleeps about this long between two looks; those behind it sleep longer.
LOCK_PAUSE_SECONDS: Final = 0.0005
# The first in line may be suspended: if it leaves the lock free for this long, the next one takes it.
LINE_STUCK_SECONDS: Final = 1.0
# Counting each process in line costs a system call. Beyond this number, pauses grow no longer.
MOST_COUNTED: Final = 40

# Rows that a long read fetches at once. Between two batches a fork may pass.
ROWS_AT_ONCE: Final = 500
# Page cache of a reading connection; with the engine's memory, a reader stays below 150 MB.
READER_CACHE_KIB: Final = 32 * 1024
WRITER_CACHE_KIB: Final = 16 * 1024

# Pages of the log after which SQLite writes it back; with half as many, recorders wait more often.
LOG_PAGES: Final = 2_000
# The log is usually half as large; only readers that never pause, or a large prune, make it grow.
LOG_BYTES: Final = 16 * 1024 * 1024
SHORTEN_EVERY_SECONDS: Final = 0.5
# How long shortening the log waits for readers before it gives up until next time; recorders wait meanwhile.
SHORTEN_MILLISECONDS: Final = 100

RESERVE_BYTES: Final = 4 * 1024 * 1024
# A smaller store gets no reserve: it contains nothing worth pruning.
RESERVED_FROM_BYTES: Final = 1024 * 1024
# No reserve is made if it would take more than an eighth of the free space.
RESERVE_SHARE: Final = 8
# How often a recorder checks that the reserve is still there.
RESERVE_EVERY_SECONDS: Final = 60.0

# Two changes of a file within one tick of the system's clock leave the same change time; a tick is shorter than this.
SETTLED_NANOSECONDS: Final = 20_000_000
