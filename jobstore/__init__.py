"""Scheduled jobs and their execution history in one SQLite file."""
