"""Mirrors of other schedulers: they record what a scheduler runs and do not change how it runs it.

Import each mirror by name (``jobstore.integrations.apscheduler``); it needs its scheduler to be installed. Importing
this package imports none of them.
"""
