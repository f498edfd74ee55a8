"""A cache that keeps the most recently used entries, up to a fixed number."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_K = TypeVar("_K")
_V = TypeVar("_V")


class Recent(OrderedDict[_K, _V]):
    """Entries in order of their last use; beyond `most`, the least recently used is dropped."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def used(self, key: _K, make: Callable[[], _V]) -> _V:
        """The entry of a key; `make` creates a missing one."""
        found = self.get(key)
        if found is None:
            found = self[key] = make()
        self.move_to_end(key)
        if len(self) > self._most:
            self.popitem(last=False)
        return found
