"""The table of paths and their queries. The app, the OpenAPI document and the client are built from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from jobstore.language.parameters import (
    EXECUTION_HISTOGRAM,
    GET_EXECUTION,
    GET_JOB,
    GET_JOB_EXECUTIONS,
    JOB_STATS,
    LIST_JOB_EXECUTIONS,
    LIST_JOB_STATES,
    LIST_JOBS,
    Operation,
)


@dataclass(frozen=True, slots=True)
class Route:
    """A path of the API, its operation, and the name of its response schema."""

    template: str
    operation: Operation[Any]
    answer: str

    @property
    def path_parameters(self) -> tuple[str, ...]:
        """The names of the parameters in the path."""
        return tuple(each.name for each in self.operation.parameters if f"{{{each.name}}}" in self.template)


ROUTES: Final = (
    Route("/api/v1/jobs", LIST_JOBS, "JobPage"),
    Route("/api/v1/jobs/executions", LIST_JOB_EXECUTIONS, "ExecutionPage"),
    Route("/api/v1/jobs/{job_id}", GET_JOB, "Job"),
    Route("/api/v1/jobs/{job_id}/executions", GET_JOB_EXECUTIONS, "ExecutionPage"),
    Route("/api/v1/stats", JOB_STATS, "Stats"),
    Route("/api/v1/executions/{execution_id}", GET_EXECUTION, "Execution"),
    Route("/api/v1/states", LIST_JOB_STATES, "JobStatePage"),
    Route("/api/v1/histogram", EXECUTION_HISTOGRAM, "Histogram"),
)
HEALTH: Final = "/healthz"
DOCUMENT: Final = "/openapi.json"
METRICS: Final = "/metrics"
OPEN_PATHS: Final = frozenset({HEALTH, DOCUMENT})
"""Readable without a token: they reveal nothing about jobs."""
READING: Final = frozenset({"GET", "HEAD"})
METHODS: Final = READING | {"OPTIONS"}
ALLOW: Final = "GET, HEAD, OPTIONS"
