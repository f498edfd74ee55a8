"""The benchmark of jobstore: ``python -m benchmarks`` builds data, runs every candidate, prints the table.

``README.md`` in this folder says what is measured and how to read it.
"""
