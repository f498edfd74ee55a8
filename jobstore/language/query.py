"""Query values: what a caller asks for, checked, frozen and complete.

A query is built once, by its `Operation` (`jobstore.language.parameters`), and its fields are the operation's
parameters: instants in microseconds (``after_us``), everything else under the parameter's own name. Code that answers
queries reads these fields and checks nothing again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from jobstore.language.errors import InvalidParameter
from jobstore.language.instants import instant_text
from jobstore.language.search import fold, statuses_meant

if TYPE_CHECKING:
    from jobstore.language.models import Status
    from jobstore.language.states import State

_LARGEST_NUMBER: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class JobRef:
    """How a caller named a job: try `name` first, then `number` (None if the text cannot be one)."""

    name: str
    number: int | None

    @classmethod
    def of(cls, name: str) -> JobRef:
        """Parse a text.

        >>> JobRef.of("sync_klines_1h").number, JobRef.of("007").number
        (None, 7)
        """
        number = int(name) if name.isascii() and name.isdigit() else None
        return cls(name, number if number is not None and number <= _LARGEST_NUMBER else None)


@dataclass(frozen=True, slots=True)
class ExecutionRef:
    """How a caller named an execution; if the text is not a number, `number` is None and no execution matches."""

    text: str
    number: int | None

    @classmethod
    def of(cls, text: str) -> ExecutionRef:
        """Parse a text.

        >>> ExecutionRef.of("17").number, ExecutionRef.of("latest").number
        (17, None)
        """
        return cls(text, JobRef.of(text).number)


@dataclass(frozen=True, slots=True)
class Term:
    """A search term: trimmed (`text`), and folded for comparison (`needle`); both are empty for no search."""

    text: str
    needle: str

    @classmethod
    def of(cls, text: str) -> Term:
        """Parse the term that a caller typed.

        >>> Term.of(" KLINE ")
        Term(text='KLINE', needle='kline')
        """
        trimmed = text.strip()
        return cls(trimmed, fold(trimmed))


NO_TERM: Final = Term("", "")


class Query:
    """The base class of query values."""

    __slots__ = ()


class Searching:
    """A query with a search term."""

    __slots__ = ()
    search: Term

    @property
    def needle(self) -> str:
        """The folded search term, "" for no search."""
        return self.search.needle

    @property
    def meant(self) -> frozenset[Status]:
        """The statuses that the search term names."""
        return statuses_meant(self.search.needle)


class Windowed:
    """A query with a time window: both bounds are inclusive, and `after` must not be later than `before`."""

    __slots__ = ()
    before_us: int | None
    after_us: int | None

    def __post_init__(self) -> None:
        if self.after_us is not None and self.before_us is not None and self.after_us > self.before_us:
            raise InvalidParameter(
                f"after must not be later than before; received after={instant_text(self.after_us)} "
                f"and before={instant_text(self.before_us)}; swap them"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsQuery(Query, Searching):
    """`list_jobs`."""

    search: Term
    limit: int
    offset: int
    order_by: str
    order_desc: bool
    job_type: str | None
    job_category: str | None
    enabled: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQuery(Query):
    """`get_job`."""

    job_id: JobRef


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionsQuery(Query, Searching, Windowed):
    """`list_job_executions`."""

    search: Term
    limit: int
    offset: int
    order_by: str
    order_desc: bool
    before_us: int | None
    after_us: int | None
    status: frozenset[Status] | None
    trace_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobExecutionsQuery(ExecutionsQuery):
    """`get_job_executions`: as `list_job_executions`, for one job."""

    job_id: JobRef


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsQuery(Query, Windowed):
    """`job_stats`."""

    job_id: JobRef | None
    before_us: int | None
    after_us: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionQuery(Query):
    """`get_execution`."""

    execution_id: ExecutionRef


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatesQuery(Query):
    """`list_job_states`."""

    search: Term
    limit: int
    offset: int
    order_by: str
    order_desc: bool
    state: frozenset[State] | None
    job_type: str | None
    job_category: str | None
    lang: str

    @property
    def jobs(self) -> JobsQuery:
        """The query for the jobs whose states are listed, before `state` filters them."""
        return JobsQuery(
            search=self.search, limit=self.limit, offset=0, order_by="name", order_desc=False,
            job_type=self.job_type, job_category=self.job_category, enabled=None,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramQuery(Query, Searching, Windowed):
    """`execution_histogram`."""

    job_id: JobRef | None
    search: Term
    status: frozenset[Status] | None
    before_us: int | None
    after_us: int | None
    bucket: str
    timezone: str
