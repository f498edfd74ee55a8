"""Finds the IANA name of this machine's time zone.

The C library reads ``TZ`` or ``/etc/localtime``. In a container, the latter is often a copy without a name, or a link
with another file mounted over its target; ``/etc/timezone`` may be outdated. So each possible name is compared with
the offsets that the C library's clock shows.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCALTIME = Path("/etc/localtime")
_TIMEZONE = Path("/etc/timezone")
_WEEK_SECONDS = 7 * 86_400
_WEEKS_BACK, _WEEKS_AHEAD = 104, 104


class Zone(NamedTuple):
    """A time zone's IANA name, and why it is uncertain, if it is."""

    name: str
    doubt: str | None = None


def local_timezone() -> Zone:
    """Return this machine's time zone; ``UTC`` with a doubt if no name matches.

    If the machine does not name its zone, return the first one that matches its clock, with a doubt: several may match
    (``Europe/Berlin`` and ``Europe/Oslo`` have been the same for decades).
    """
    time.tzset()
    moments = _moments()
    offsets = [time.localtime(moment).tm_gmtoff for moment in moments]
    for name in _named():
        if _offsets(name, moments) == offsets:
            return Zone(name)
    if not any(offsets):
        return Zone("UTC")
    for name in _all_names():
        if _offsets(name, moments[-1:]) == offsets[-1:] and _offsets(name, moments) == offsets:
            return Zone(name, "this machine does not name its time zone, and this one matches its clock")
    return Zone("UTC", "no known time zone matches this machine's clock")


def _moments() -> list[int]:
    now = int(time.time())
    return [now + week * _WEEK_SECONDS for week in range(-_WEEKS_BACK, _WEEKS_AHEAD)]


def _named() -> Iterator[str]:
    """Yield the names that the machine gives, most reliable first."""
    variable = os.environ.get("TZ")
    if variable is not None:
        yield _after_zoneinfo(variable.removeprefix(":")) or "UTC"
        return
    yield _after_zoneinfo(os.path.realpath(_LOCALTIME))
    try:
        yield _TIMEZONE.read_text("utf-8").split("#")[0].strip()
    except (OSError, ValueError):
        return


def _after_zoneinfo(text: str) -> str:
    """Return the name in a path of the zone database; any other text is returned as a name."""
    name = text.rpartition("zoneinfo/")[2]
    return name.removeprefix("posix/").removeprefix("right/")


def _all_names() -> list[str]:
    """Return all zones: first those whose file equals /etc/localtime; cities before ``Etc/GMT+9`` before ``Japan``."""
    from zoneinfo import TZPATH, available_timezones  # reads folders, and is rarely needed

    try:
        copy = _LOCALTIME.read_bytes()
    except OSError:
        copy = b""

    def is_copied(name: str) -> bool:
        return any(_is_same(Path(folder, name), copy) for folder in TZPATH)

    names = sorted(available_timezones(), key=lambda name: ("/" not in name, name.startswith("Etc/"), name))
    return sorted(names, key=is_copied, reverse=True)


def _is_same(file: Path, contents: bytes) -> bool:
    try:
        return file.stat().st_size == len(contents) and file.read_bytes() == contents
    except OSError:
        return False


def _offsets(name: str, moments: list[int]) -> list[int] | None:
    """Return the zone's offsets by the package tzdata: another file may be mounted over the system's own."""
    from datetime import UTC, datetime  # needed only for a new store
    from importlib.resources import files
    from zoneinfo import ZoneInfo

    from jobstore.language.errors import InvalidRecord
    from jobstore.language.zones import check_timezone  # zoneinfo is slow to import

    try:
        check_timezone(name)
        with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
            zone = ZoneInfo.from_file(file, name)
    except (InvalidRecord, OSError, ValueError):
        return None
    shifts = [datetime.fromtimestamp(moment, UTC).astimezone(zone).utcoffset() for moment in moments]
    return [0 if shift is None else round(shift.total_seconds()) for shift in shifts]
