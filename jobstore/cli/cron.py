"""``cron import``: rewrites a crontab so that its commands are recorded."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from contextlib import suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import click

from jobstore.cli.command import Command, Entry, LazyGroup
from jobstore.cli.options import STORE_VARIABLE, flag, once, optional
from jobstore.cli.phrases import count
from jobstore.cli.screen import say
from jobstore.language.address import Address, location_of
from jobstore.language.errors import InvalidParameter, NotFound, StoreUnreadable, shown

_CRONTAB = "crontab"
_ETC = "/etc/"
_SYSTEM_FILES = f"{_ETC}crontab", f"{_ETC}cron.d/"
_MARK = "before-jobstore"


def _import(file: str | None, user: str | None, store: str | None, system: bool | None, install: bool) -> None:
    if file is not None and user is not None:
        raise click.UsageError("FILE and --user exclude each other; give one.", click.get_current_context())
    if install and file == "-":
        raise click.UsageError("--install needs a file, or a user's crontab.", click.get_current_context())
    from jobstore.integrations.crontab import rewritten

    text = _of_user(user) if file is None else _of_file(file)
    is_system = _is_system(file, text) if system is None else system
    program = _program()
    made = rewritten(
        text, program=program, store=_store(store), is_user=_is_user if is_system else None,
        why_not=lambda each: _why_not(tuple(program), each or user),
    )  # fmt: skip
    for number, reason in made.left:
        say(f"jobstore: line {number} stays as it is: {reason}")
    if made.unscheduled:
        say(f"jobstore: no schedule for {', '.join(made.unscheduled)}: CRON_TZ may mean another zone than the store's")
    if not install:
        sys.stdout.buffer.write(f"{made.text}\n".encode("utf-8", "surrogateescape"))
        say(f"jobstore: {count(len(made.jobs), 'job')}; nothing was changed. To use this crontab, add --install")
    elif not made.jobs:
        say("jobstore: there is nothing to change")
    elif file is None:
        _install_for_user(user, text, made.text)
    else:
        _install_file(Path(file), text, made.text)


def _is_system(file: str | None, text: str) -> bool:
    """Whether each line names a user before its command, and say so. Only files in /etc are taken for such.

    In a user's own crontab, ``mail`` at the beginning of each line is a command, although there is a user of that name.
    """
    from jobstore.integrations.crontab import is_system_crontab

    if file is None:
        return False
    path = os.path.realpath(file)
    has_users = is_system_crontab(text, _is_user)
    is_system = path.startswith(_SYSTEM_FILES) or (has_users and path.startswith(_ETC))
    if is_system:
        say("jobstore: read as a system crontab, with a user before each command; if it is not, add --no-system")
    elif has_users:
        say("jobstore: the first word of each command is also a user; if this is a system crontab, add --system")
    return is_system


def _of_user(user: str | None) -> str:
    done = _crontab(["-l"], user)
    if done.returncode:
        raise NotFound(f"No crontab: {done.stderr.decode('utf-8', 'replace').strip() or f'{_CRONTAB} -l failed'}")
    return done.stdout.decode("utf-8", "surrogateescape")


def _crontab(words: list[str], user: str | None, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [_CRONTAB, *(["-u", user] if user else []), *words]
    try:
        return subprocess.run(command, input=given, capture_output=True, check=False)  # noqa: S603 - cron's own program
    except FileNotFoundError:
        raise NotFound(f"No crontab: there is no program {_CRONTAB!r} on this machine; give a FILE") from None


def _of_file(file: str) -> str:
    raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    return raw.decode("utf-8", "surrogateescape")


def _is_user(name: str) -> bool:
    import pwd

    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _store(given: str | None) -> str:
    """Return the absolute path (cron runs commands in their user's home folder), or the address without password."""
    path = given or os.environ.get(STORE_VARIABLE)
    if not path:
        raise InvalidParameter(
            f"--store is missing: name the store, such as --store /var/lib/jobs.db, or set {STORE_VARIABLE}"
        )
    location = location_of(path)
    if isinstance(location, Address) and str(location) != path:
        say("jobstore: the password was left out of the crontab; put it into ~/.pgpass")
    return str(location.absolute() if isinstance(location, Path) else location)


def _program() -> list[str]:
    """Return the words that start this program, with absolute paths."""
    started = Path(sys.argv[0])
    is_command = started.name == "jobstore" and started.exists()
    return [str(started.absolute())] if is_command else [sys.executable, "-m", "jobstore"]


@cache
def _why_not(program: tuple[str, ...], user: str | None) -> str | None:
    """Return why cron could not run a program for a user; None if it can. Only root can try as another."""
    import pwd

    as_user: dict[str, Any] = {}
    if user is not None and os.geteuid() == 0:
        found = pwd.getpwnam(user)
        groups = os.getgrouplist(user, found.pw_gid)  # cron gives a job all of them
        as_user = {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": groups}
    try:
        done = subprocess.run(  # noqa: S603 - this program
            [*program, "--version"], cwd="/", env={"PATH": "/usr/bin:/bin"}, stdin=subprocess.DEVNULL,
            capture_output=True, check=False, **as_user,
        )  # fmt: skip
        reason = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2] if done.returncode else None
    except OSError as error:
        reason = str(error.strerror)
    if reason is None:
        return None
    who = f"user {shown(user)}" if user else "this user"
    return f"{who} cannot run {program[0]} as cron would ({reason}); install jobstore for all, such as in /opt"


def _install_for_user(user: str | None, old: str, new: str) -> None:
    kept = Path.home() / f"crontab{f'-{user}' if user else ''}.{_MARK}-{datetime.now():%Y%m%dT%H%M%S}"  # noqa: DTZ005 - for its reader
    _keep(kept, old.encode("utf-8", "surrogateescape"))
    done = _crontab(["-"], user, f"{new}\n".encode("utf-8", "surrogateescape"))
    if done.returncode:
        raise InvalidParameter(f"crontab refused the new crontab: {done.stderr.decode('utf-8', 'replace').strip()}")
    undo = shlex.join([_CRONTAB, *(["-u", user] if user else []), str(kept)])
    say(f"jobstore: installed; the old crontab is in {kept}. To undo: {undo}")


def _install_file(file: Path, old: str, new: str) -> None:
    """Overwrite the file in place, to keep its owner, mode and links; the copy beside it has a name that cron ignores.

    Debian's cron ignores every name with a dot, cronie one that begins with it.
    """
    if not os.access(file, os.W_OK):
        raise StoreUnreadable(f"{file} is not writable by this user; check its permissions")
    kept = file.absolute().with_name(f".{file.name}.{_MARK}")
    _keep(kept, old.encode("utf-8", "surrogateescape"))
    try:
        _overwrite(file, f"{new}\n".encode("utf-8", "surrogateescape"))
    except OSError as error:
        _overwrite(file, old.encode("utf-8", "surrogateescape"))  # its space on the disk is still there
        kept.unlink()
        raise StoreUnreadable(f"{file} cannot be written: {error.strerror}; it is as it was") from error
    undo = f"{shlex.join(['cp', str(kept), str(file.absolute())])} && {shlex.join(['rm', str(kept)])}"
    say(f"jobstore: changed {file}; the old one is {kept}. To undo: {undo}")


def _overwrite(file: Path, content: bytes) -> None:
    with file.open("r+b", buffering=0) as stream:
        rest = memoryview(content)
        while rest:
            rest = rest[stream.write(rest) :]
        stream.truncate(len(content))
        os.fsync(stream.fileno())


def _keep(kept: Path, old: bytes) -> None:
    """Save the old crontab, readable only by its owner: its variables may be secrets."""
    try:
        with open(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:  # noqa: PTH123
            stream.write(old)
            stream.flush()
            os.fsync(stream.fileno())
    except FileExistsError:
        raise InvalidParameter(f"{kept} already exists; move it away first") from None
    except OSError as error:
        with suppress(OSError):
            kept.unlink()  # half a copy is none
        raise StoreUnreadable(
            f"The old crontab cannot be kept in {kept}: {error.strerror}; nothing was changed"
        ) from error


_import_command = Command(
    "import",
    callback=_import,
    help="""Print a crontab with each command run by 'jobstore exec'.

    It reads your crontab, another user's, or a FILE (- for stdin). Each job is named after the command it runs and gets
    the schedule of its line. Comments, variables and lines that cron would refuse, or read differently
    from jobstore, stay as they are. Nothing is changed unless you pass --install, which also prints how to undo it.""",
    params=[
        optional("file", "[FILE]", is_path=True),
        once("--user", "USER", "This user's crontab instead of yours."),
        once("--store", "PATH", f"The store to record into. Default: {STORE_VARIABLE}."),
        click.Option(
            ["--system/--no-system"],
            default=None,
            help="Each line names a user before its command. Default: detected in /etc, else no.",
        ),
        flag("--install", "Install the new crontab; a copy of the old one is kept."),
    ],
    examples=[
        ("jobstore cron import --store /var/lib/jobs.db", "look first"),
        ("jobstore cron import --store /var/lib/jobs.db --install", "then change it"),
        ("jobstore cron import /etc/cron.d/backup --store /var/lib/jobs.db", ""),
    ],
)
cron = LazyGroup(
    [("Commands", [Entry("import", "Print a crontab rewritten to record its commands.", __name__, "_import_command")])],
    name="cron",
    help="Rewrite a crontab so that its commands are recorded.",
)
