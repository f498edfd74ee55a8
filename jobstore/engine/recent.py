"""What was used last, up to a number: what a reader remembers of questions that may come in any number."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_K = TypeVar("_K")
_V = TypeVar("_V")


class Recent(OrderedDict[_K, _V]):
    """Entries in the order of their last use; beyond `most`, the one used longest ago is dropped."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def used(self, key: _K, make: Callable[[], _V]) -> _V:
        """The entry of a key, made where there is none."""
        found = self.get(key)
        if found is None:
            found = self[key] = make()
        self.move_to_end(key)
        if len(self) > self._most:
            self.popitem(last=False)
        return found
