"""What a search over jobs looks at, laid out so that a term never asked before costs little.

The names of many jobs are few words and an ending of their own (``sync_klines_bnc_00417``). So each name is cut
before the ASCII letters and digits it ends with, and jobs that share all but this ending are a group, searched
once for all of them. As no ending holds any other character, a term is found within what the group shares,
within an ending, or where the two meet, and there only one cut of the term fits.
"""

from __future__ import annotations

import string
from array import array
from bisect import bisect_left, bisect_right
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LINES_A_HIT = 20
"""Where more than one line in so many is hit, they are looked at one by one."""

_ENDING = string.ascii_lowercase + string.digits
_BEYOND = "\U0010ffff"
"""Sorts after every character of an ending."""

_Row = tuple[int, str, str, str, int]
"""A job's number, folded texts, type, category and switch."""
_T = TypeVar("_T")


class Group:
    """Jobs that share their type, category and switch, and of their names all but the ending."""

    __slots__ = ("exact", "head", "numbers", "text")

    def __init__(self, head: str, text: str, exact: tuple[str, str, int]) -> None:
        self.head = head  # what the names begin with, folded
        self.text = text  # the head, the type and the category, each folded, joined by line feeds
        self.exact = exact  # the type, the category and the switch, as they stand in the file
        self.numbers: list[int] = []

    def passes(self, wanted: tuple[str | None, str | None, bool | None]) -> bool:
        """Whether the jobs have exactly what is wanted; None: anything."""
        return all(value is None or value == own for value, own in zip(wanted, self.exact, strict=True))


class Found:
    """What a search found: all jobs of some groups, and single jobs of others."""

    __slots__ = ("_numbers", "count", "groups", "singles")

    def __init__(self, groups: list[Group], singles: list[int]) -> None:
        self.groups = groups
        self.singles = singles
        self.count = len(singles) + sum([len(group.numbers) for group in groups])
        self._numbers: set[int] | None = None

    @property
    def numbers(self) -> set[int]:
        """The numbers of the jobs, put together when they are first asked for."""
        if self._numbers is None:
            self._numbers = set(chain(self.singles, *[group.numbers for group in self.groups]))
        return self._numbers


class Lines(Generic[_T]):
    """Texts that are searched together, each for something of its own."""

    def __init__(self, texts: Sequence[str], owners: Sequence[_T]) -> None:
        self._texts = texts
        self._owners = owners
        self._joined = "\n".join(texts)
        self._starts = list(accumulate([len(text) + 1 for text in texts], initial=0))

    def containing(self, needle: str) -> list[_T]:
        """The owners of the texts with the needle in them; the needle holds no line feed."""
        joined, starts = self._joined, self._starts
        most = len(self._texts) // LINES_A_HIT
        found: list[_T] = []
        at = joined.find(needle)
        while at >= 0:
            if len(found) >= most:
                return [owner for text, owner in zip(self._texts, self._owners, strict=True) if needle in text]
            line = bisect_right(starts, at) - 1
            found.append(self._owners[line])
            at = joined.find(needle, starts[line + 1])
        return found


class Endings:
    """The endings of all names in order, each with its job: columns, since a term may pick thousands of them."""

    def __init__(self, rows: Iterable[tuple[str, int, Group]]) -> None:
        ordered = sorted(rows)
        self._texts = [text for text, _, _ in ordered]
        self._numbers = array("q", [number for _, number, _ in ordered])
        self._groups = [group for _, _, group in ordered]
        self._lines: dict[bool, Lines[int]] = {}

    def put(self, text: str, number: int, group: Group) -> None:
        """Takes in the ending of a job."""
        place = self._place(text, number)
        self._texts.insert(place, text)
        self._numbers.insert(place, number)
        self._groups.insert(place, group)
        self._lines.clear()

    def drop(self, text: str, number: int) -> None:
        """Forgets the ending of a job."""
        place = self._place(text, number)
        del self._texts[place], self._numbers[place], self._groups[place]
        self._lines.clear()

    def _place(self, text: str, number: int) -> int:
        first = bisect_left(self._texts, text)
        return bisect_left(self._numbers, number, first, bisect_right(self._texts, text, first))

    def beginning(self, text: str) -> tuple[Sequence[int], Sequence[Group]]:
        """The numbers and groups of the jobs whose endings begin so."""
        first = bisect_left(self._texts, text)
        last = bisect_left(self._texts, text + _BEYOND, first)
        return self._numbers[first:last], self._groups[first:last]

    def holding(self, needle: str) -> tuple[Sequence[int], Sequence[Group]]:
        """The numbers and groups of the jobs with the needle in their endings."""
        # most endings are numbers, which hold nothing but numbers
        kinds = (True, False) if needle.isdigit() else (False,)
        places = [place for numeric in kinds for place in self._joined(numeric=numeric).containing(needle)]
        return [self._numbers[place] for place in places], [self._groups[place] for place in places]

    def _joined(self, *, numeric: bool) -> Lines[int]:
        if numeric not in self._lines:
            places = [place for place, text in enumerate(self._texts) if text.isdigit() == numeric]
            self._lines[numeric] = Lines([self._texts[place] for place in places], places)
        return self._lines[numeric]


class JobTexts:
    """Every job in its group, with the ending of its name; kept as jobs come, change and go."""

    def __init__(self, rows: Iterable[_Row]) -> None:
        self._groups: dict[tuple[str, str, str, int], Group] = {}
        self._jobs: dict[int, tuple[str, Group]] = {}
        for row in rows:
            self._jobs[row[0]] = self._grouped(row)
        self._endings = Endings((text, number, group) for number, (text, group) in self._jobs.items())
        self._shared: Lines[Group] | None = None

    def _grouped(self, row: _Row) -> tuple[str, Group]:
        """Puts a job into its group; returns it, after the ending of the job's name."""
        number, folded, job_type, job_category, enabled = row
        name, _, kinds = str.partition(folded, "\n")
        head = name.rstrip(_ENDING)
        key = (f"{head}\n{kinds}", job_type, job_category, enabled)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(head, key[0], key[1:])
            self._shared = None
        group.numbers.append(number)
        return name[len(head) :], group

    def put(self, row: _Row) -> None:
        """Takes in a job that is not there."""
        number = row[0]
        text, group = self._jobs[number] = self._grouped(row)
        self._endings.put(text, number, group)

    def drop(self, number: int) -> None:
        """Forgets a job, if it is there."""
        if number not in self._jobs:
            return
        text, group = self._jobs.pop(number)
        self._endings.drop(text, number)
        group.numbers.remove(number)
        if not group.numbers:
            del self._groups[group.text, *group.exact]
            self._shared = None

    def group(self, number: int) -> Group:
        """The group of a job."""
        return self._jobs[number][1]

    def search(self, needle: str, job_type: str | None, job_category: str | None, enabled: bool | None) -> Found:
        """The jobs with the needle in name, type or category that have exactly the rest."""
        if "\n" in needle:
            return Found([], [])  # it parts the texts, and none of them holds one
        groups = self._sharing(needle) if needle else list(self._groups.values())
        singles = self._single(needle, groups) if needle else []
        wanted = (job_type, job_category, enabled)
        if wanted != (None, None, None):
            groups = [group for group in groups if group.passes(wanted)]
            singles = [number for number in singles if self.group(number).passes(wanted)]
        return Found(groups, singles)

    def _sharing(self, needle: str) -> list[Group]:
        """The groups with the needle in what their jobs share."""
        if self._shared is None:
            groups = list(self._groups.values())
            self._shared = Lines([group.text for group in groups], groups)
        return self._shared.containing(needle)

    def _single(self, needle: str, found: list[Group]) -> list[int]:
        """The jobs of other groups with the needle in their ending, or where it meets the rest of their name."""
        head = needle.rstrip(_ENDING)
        if head == needle:
            return []  # it would lie before the ending
        numbers, groups = self._endings.beginning(needle[len(head) :]) if head else self._endings.holding(needle)
        meeting = {group for group in set(groups) if group.head.endswith(head)}.difference(found)
        return [number for number, group in zip(numbers, groups, strict=True) if group in meeting]
