"""Keys to order by, and the stretches of their indexes in order: what statements walk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobstore.storage.schema import HAS_ENDED, IS_NO_SUCCESS

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Key:
    """A field to order by: where it is stored, and the indexes that hold it in order."""

    column: str
    index: str
    name_index: str | None = None
    """Starts with name_id."""
    present: str | None = None
    """The counter in period_tally that says how many executions have it; null: all, or it is not counted."""
    nullable: bool = True
    is_covered: bool = False
    """Whether the index holds what filters look at, so that walking all of it is quicker than reading many rows."""


KEYS = {
    "created_at": Key("created_us", "execution_created", nullable=False),
    "completed_at": Key("completed_us", "execution_completed", present="completed"),
    "duration_ms": Key(
        "duration_ms", "execution_duration", "execution_name_duration", present="timed", is_covered=True
    ),
    "trace_id": Key("trace_id", "execution_trace"),
    "worker_id": Key("worker.name", "execution_worker"),
}


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of an index in order: the executions that have the key, or those that have none."""

    source: str
    condition: str
    order: str
    values: tuple[int, ...] = ()

    def select(self, columns: str, condition: str = "") -> str:
        """The statement that walks it."""
        where = " AND ".join(part for part in (self.condition, condition) if part)
        return f"SELECT {columns} FROM {self.source} {f'WHERE {where}' if where else ''} ORDER BY {self.order}"

    def bound(self, values: Sequence[int | bytes]) -> list[int | bytes]:
        """What the statement binds, with the values of the condition."""
        return [*self.values, *values]


@dataclass(frozen=True, slots=True)
class MergedSegment:
    """The same stretch of several names, in an index that begins with the name, merged by SQLite."""

    source: str
    condition: str
    key: str
    direction: str
    names: tuple[int, ...]

    def select(self, columns: str, condition: str = "") -> str:
        """The statement that walks all of them."""
        where = " AND ".join(part for part in ("name_id = ?", self.condition, condition) if part)
        arm = f"SELECT {columns}, {self.key} AS key FROM {self.source} WHERE {where}"
        return f"{' UNION ALL '.join([arm] * len(self.names))} ORDER BY key {self.direction}, id {self.direction}"

    def bound(self, values: Sequence[int | bytes]) -> list[int | bytes]:
        """What the statement binds, with the values of the condition."""
        return [value for name_id in self.names for value in (name_id, *values)]


@dataclass(frozen=True, slots=True)
class LackingSegment:
    """The executions without a key that comes with the end, in order of id, merged by SQLite.

    Those that have ended stand in the key's index; it leaves out what has not, which is found by its status.
    """

    key: Key
    direction: str
    unended: tuple[int, ...]
    """The statuses that are asked for with which an execution has not ended."""
    names: tuple[int, ...] | None = None

    def select(self, columns: str, condition: str = "") -> str:
        """The statement that merges them."""
        index, by_status = (
            (self.key.index, "execution_status") if self.names is None else (self.key.name_index, "execution_name")
        )
        named = "" if self.names is None else "name_id = ? AND "
        lacking = f"{named}{self.key.column} IS NULL{f' AND {condition}' if condition else ''}"
        arms = [f"SELECT {columns} FROM execution INDEXED BY {index} WHERE {lacking} AND {HAS_ENDED}"]
        arms += [
            f"""
            SELECT {columns} FROM execution INDEXED BY {by_status}
            WHERE {lacking} AND status = {status} AND {IS_NO_SUCCESS}
            """
            for status in self.unended
        ]
        return f"{' UNION ALL '.join(arms * len(self.names or (0,)))} ORDER BY id {self.direction}"

    def bound(self, values: Sequence[int | bytes]) -> list[int | bytes]:
        """What the statement binds, with the values of the condition."""
        arms = 1 + len(self.unended)
        if self.names is None:
            return [*values] * arms
        return [value for name_id in self.names for value in [name_id, *values] * arms]
