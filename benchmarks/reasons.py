"""Why a goal is missed: written by hand for the lines whose names begin so, and shown only where a figure misses."""

ABOVE_THE_FLOOR = "what is above 1 F is finding the total and the ids; other programs on the machine add to it"
MEASURED_WITH_LOAD = "pauses of the machine and of its disk are in it: the run cannot tell them apart"
ONE_TRANSACTION = "four counters, the change log and the indexes are kept in the transaction of each start and end"

REASONS = {
    "latest 50 of all": ABOVE_THE_FLOOR,
    "one job's": ABOVE_THE_FLOOR,
    "name search": ABOVE_THE_FLOOR,
    "name search, sparse": "naive scans all executions, at the speed of the disk or of its cache",
    "90 % deep: one job": ABOVE_THE_FLOOR,
    "order by duration_ms": ABOVE_THE_FLOOR,
    "order by job_name": "each name on the page is a statement, and with few runs a name a page has many names",
    "first pages that match": "a scan may take half as long as a pass over bitmaps before it gives up, so it reads "
    "more in a long history",
    "40 and 90 % deep": "a pass over bitmaps takes a millisecond or two for each million executions; the first pages "
    "that need a bitmap make or load it",
    "first query, then warm: deep": "the bitmaps of the order are loaded, for all executions of the file",
    "first query, then warm: fail": "the bitmaps of the order are loaded, for all executions of the file",
    "first query, then warm: dense search": "the 10,000 names are read and searched",
    "first query, then warm: dense, deep by duration": "the file has no bitmaps of names: an index entry of each "
    "matching run is read",
    "first query, then warm: dense, deep by job_name": "the 10,000 names are read and sorted, then the runs of "
    "one of them",
    "first query, then warm: list_job_states": "each of 10,000 jobs is read, and when it was due is computed",
    "opening": "the modules that a reader needs are imported: the same at every size",
    "list_jobs, search, seen term": ABOVE_THE_FLOOR,
    "list_jobs, search, new term": "each name is compared in Python",
    "get_job": "the look for changes of others costs as much as a row",
    "job_stats of one job": "its durations are read: 125,000 at 10M",
    "job_stats of all": "percentiles of all durations are walked to in their index",
    "recording": ONE_TRANSACTION,
    "log of a start": ONE_TRANSACTION,
    "longest of": MEASURED_WITH_LOAD,
    "memory of a reader": "the bitmaps that the queries need are held",
    "memory of a reader, 16": "glibc keeps what was freed in a pool for each thread; MALLOC_ARENA_MAX=1 saves a third "
    "(docs/deployment.md)",
    "bulk load": "each record is checked, and the counters and the bitmap index are made, too",
    "page of 50 through serve": "the server and the socket take most of it: the line above shows the application alone",
    "search in three names": "all runs of the three names are read and sorted",
    "8 processes record": "nine indexes, the counting trigger and the round trips of a transaction",
}


def reason(name: str) -> str:
    """The reason of the longest beginning that fits."""
    fitting = [beginning for beginning in REASONS if name.startswith(beginning)]
    return REASONS[max(fitting, key=len)] if fitting else "not found out"
