"""What is asked of an access path: a stretch of an order over a selection inside a window."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobstore.engine.selection import Selection


@dataclass(frozen=True, slots=True)
class Request:
    """A stretch of an order over a selection inside a window; `total` is what they hold together."""

    selection: Selection
    everything: int
    total: int
    after_us: int | None
    before_us: int | None
    descending: bool
    offset: int
    take: int

    @property
    def is_plain(self) -> bool:
        """Nothing is filtered."""
        return self.total == self.everything

    @property
    def is_windowed(self) -> bool:
        """The starts are bounded."""
        return self.after_us is not None or self.before_us is not None

    @property
    def direction(self) -> str:
        """The order in SQL."""
        return "DESC" if self.descending else "ASC"

    @property
    def expected(self) -> int:
        """Entries that an order evenly mixed would be walked for."""
        return (self.offset + self.take) * self.everything // self.total

    def turned(self) -> Request:
        """The same stretch, counted from the other end."""
        return replace(self, descending=not self.descending, offset=self.total - self.offset - self.take)
