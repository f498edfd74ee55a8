"""Writing jobs and executions."""
