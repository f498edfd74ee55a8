"""Sends a message through Apprise when a job gets into trouble or recovers, once for each change.

Run it from a timer: each call compares the jobs' states with those last sent to each receiver, which it keeps in a
small file beside the store. A message that a receiver did not accept is sent again at the next call.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jobstore.language.characters import escaped
from jobstore.language.errors import InvalidParameter, InvalidRecord, NotFound, StoreUnreadable, shown
from jobstore.language.states import WRONG, State
from jobstore.replacing import locked, replacing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from apprise import NotifyBase

    from jobstore.language.address import Location
    from jobstore.language.models import JobStateDocument
    from jobstore.store import JobStore

LARGEST_PAGE = 1000
LINES_SENT = 50
"""The most changes listed in one message; the rest are counted."""
UNSETTLED = (*WRONG, State.RUNNING, State.WAITING)
"""The states in which a job that was in trouble has not recovered yet: it may be running again."""

Told = dict[str, str]
"""For each job number, the state last sent to a receiver."""


class Change(NamedTuple):
    """A change of one job's state, with its text for a message."""

    number: str
    state: str
    text: str
    is_trouble: bool


def notify(store: JobStore, urls: Sequence[str], memory: Path | None = None) -> list[str]:
    """Send each receiver what has changed since its last message; return the receivers that failed, without secrets.

    Args:
        store: the store with the jobs.
        urls: the receivers' Apprise addresses (``mailto://``, ``json://``, ``slack://``, ...).
        memory: the file with the states last sent. Default: the store's name with ``.notified`` appended; for a store
            on a server, a file in this user's ``~/.local/state/jobstore`` (``$XDG_STATE_HOME``).

    Raises:
        InvalidParameter: Apprise does not accept an address.
        InvalidRecord: the file with the states last sent is damaged.
        ImportError: Apprise is not installed.
        StoreError: the store cannot be read.
        StoreUnreadable: the file with the states last sent cannot be written; the receivers have been told. Or there is
            no folder for it, and nobody has been told.
        OSError: it cannot be read.
    """
    memory = memory or _memory_of(store.path)
    receivers = _receivers(urls)
    told = _read(memory)
    jobs = {job["job_id"]: job for job in list_in_states(store, UNSETTLED)}
    failed, problem = [], None
    for place, (url, receiver) in enumerate(receivers, start=1):
        key = _key(url)
        before = told.get(key, {})
        changes = list(_changes(store, jobs, before))
        if changes and not _send(receiver, changes):
            failed.append(f"receiver {place} ({url.partition(':')[0]})")
            continue
        told[key] = _after(before, changes)
        try:  # at once: if the next receiver fails badly, this one gets nothing twice
            _remember(memory, key, told[key], store.path)
        except OSError as error:
            problem = error  # better twice than never: on a full disk, jobs fail
    if problem is not None:
        raise StoreUnreadable(
            f"{memory} cannot be written: {problem.strerror}; what was sent now will be sent again next time"
        ) from problem
    return failed


def _memory_of(location: Location) -> Path:
    if isinstance(location, Path):
        return location.with_name(f"{location.name}.notified")
    state = os.environ.get("XDG_STATE_HOME")
    try:
        folder = (Path(state) if state else Path.home() / ".local" / "state") / "jobstore"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # a user without a home, as in some containers
        raise StoreUnreadable(
            f"There is no folder to remember what was sent ({error}); set XDG_STATE_HOME to one this user may write"
        ) from None
    return folder / f"{hashlib.sha256(str(location).encode()).hexdigest()[:16]}.notified"


def list_in_states(store: JobStore, states: Iterable[str]) -> list[JobStateDocument]:
    """Return every job that is in one of the states, most urgent first."""
    found: list[JobStateDocument] = []
    has_next = True
    while has_next:
        page = store.list_job_states(state=list(states), limit=LARGEST_PAGE, offset=len(found))
        found += page["data"]
        has_next = page["pagination"]["has_next"]
    return found


# Changes.


def _changes(store: JobStore, jobs: Mapping[str, JobStateDocument], told: Told) -> Iterator[Change]:
    for number, job in jobs.items():
        if job["state"] in WRONG and told.get(number) != job["state"]:
            yield Change(number, job["state"], _trouble(job), is_trouble=True)
    for number, state in told.items():
        if number not in jobs:
            yield Change(number, "", _recovery(store, number, state), is_trouble=False)


def _trouble(job: JobStateDocument) -> str:
    last = job["last"]
    failures = job["failures_in_a_row"]
    text = f"{job['name']} is {job['state']} since {job['since']}"
    if job["state"] != State.FAILING or last is None:
        return escaped(text)
    reason = f": {(last['error'] or last['status']).splitlines()[0][:500]}"
    return escaped(f"{text}, {failures} in a row{reason}")


def _recovery(store: JobStore, number: str, state: str) -> str:
    try:
        job = store.get_job(number)
    except NotFound:
        return f"job {number} was removed; it was {state}"
    return escaped(f"{job['name']} {'recovered' if job['enabled'] else 'was disabled'}; it was {state}")


def _after(told: Told, changes: Iterable[Change]) -> Told:
    after = dict(told)
    for change in changes:
        if change.is_trouble:
            after[change.number] = change.state
        else:
            del after[change.number]
    return after


# Apprise.


def _receivers(urls: Sequence[str]) -> list[tuple[str, NotifyBase]]:
    from apprise import Apprise  # an extra, and slow to import

    found = []
    for place, url in enumerate(urls, start=1):
        with _silence():
            receiver = Apprise.instantiate(url, suppress_exceptions=True)
        if receiver is None:
            # Show only the scheme: the rest may contain a password.
            scheme = shown(url.partition("://")[0]) if "://" in url else "no scheme"
            raise InvalidParameter(
                f"receiver {place} is not an address that Apprise accepts ({scheme}); see https://github.com/caronc/apprise"
            )
        found.append((url, receiver))
    return found


def _send(receiver: NotifyBase, changes: Sequence[Change]) -> bool:
    from apprise import Apprise, NotifyFormat, NotifyType

    sender = Apprise()
    sender.add(receiver)
    lines = [change.text for change in changes[:LINES_SENT]]
    if len(changes) > LINES_SENT:
        lines.append(f"and {len(changes) - LINES_SENT} more")
    troubles = sum(change.is_trouble for change in changes)
    title = lines[0] if len(changes) == 1 else f"{troubles} jobs in trouble, {len(changes) - troubles} recovered"
    kind = NotifyType.FAILURE if troubles else NotifyType.SUCCESS
    with _silence():
        try:
            return bool(
                sender.notify(
                    "\n".join(lines), title=f"jobstore: {title[:200]}", notify_type=kind, body_format=NotifyFormat.TEXT
                )
            )
        except Exception:  # noqa: BLE001 - a plug-in may raise anything; the error's message may hold the address
            return False


@contextmanager
def _silence() -> Iterator[None]:
    """Disable Apprise's log, which may contain addresses with their secrets."""
    log = logging.getLogger("apprise")
    before = log.disabled
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = before


# The states last sent.


def _key(url: str) -> str:
    """Return a receiver's key in the file: a digest, since an address may be secret."""
    return hashlib.blake2b(url.encode("utf-8", "surrogatepass"), digest_size=8, person=b"jobstore").hexdigest()


def _read(memory: Path) -> dict[str, Told]:
    try:
        kept = json.loads(memory.read_bytes())
        return {key: {str(number): str(state) for number, state in told.items()} for key, told in kept.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError):
        raise InvalidRecord(
            f"{memory} is damaged; delete it, and every receiver gets the current problems once more"
        ) from None


def _remember(memory: Path, key: str, told: Told, store: Location) -> None:
    # Read again inside the lock: another call may have told its own receivers meanwhile.
    # The file gets the store's owner: another user's timer must not lock the owner out. A server's store has none here.
    with locked(memory):
        kept = {**_read(memory), key: told}
        with replacing(memory, store if isinstance(store, Path) else None) as out:
            out.write(json.dumps(kept, indent=1) + "\n")
