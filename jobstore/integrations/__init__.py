"""Mirrors of other schedulers: what they run is recorded, how they run it stays theirs.

Each module needs the scheduler it mirrors and is imported by name (``jobstore.integrations.apscheduler``);
importing this package imports none of them.
"""
