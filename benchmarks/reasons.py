"""Why a goal is missed: written by hand for the lines whose names begin so, and shown only where a figure misses."""

REASONS = {
    "order by job_name": "a page of many small groups is a statement for each",
    "first pages that match": "a scan that gives up before the next path answers may take half as long as bitmaps do",
    "40 and 90 % deep that match": "a pass over the bitmaps of an order, or over the groups of a window",
    "40 and 90 % deep, slowest": "the search of a quarter of the runs adds a bitmap of 2.5 million ids at 10M",
    "first query, then warm: list_job_states": "eight index entries and a due time for each of 10,000 jobs",
    "first query, then warm: dense": "names have no bitmaps in the file: an index entry of each matching run is read",
    "list_jobs, search, new term": "each name is compared in Python, three to five times as fast as naive",
    "get_job": "the look for changes of others costs as much as a row",
    "job_stats of one job": "its durations are read, 125,000 at 10M",
    "recording": "four counters, the change log and four indexes are kept in the same transaction",
    "log of a start": "four counters, the change log and four indexes are kept in the same transaction",
    "longest of": "not told apart from the pauses of the machine",
    "memory of a reader, 16": "a bitmap of a search over a quarter of the runs is held by each connection",
    "bulk load": "the counters; at 10M naive's indexes cost more",
    "page of 50 through serve": "the application takes 1.2 Python calls; the rest is the server and the socket",
    "search in three names": "half deep, the few runs of the search are sorted",
    "8 processes record": "nine indexes, the counting trigger and the round trips of a transaction",
}


def reason(name: str) -> str:
    """The reason of the longest beginning that fits."""
    fitting = [beginning for beginning in REASONS if name.startswith(beginning)]
    return REASONS[max(fitting, key=len)] if fitting else "not found out"
