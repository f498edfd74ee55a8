"""Rewrites a crontab so that each of its commands is recorded, following the syntax of Debian's cron.

Comments, variables and lines that are not understood stay unchanged, byte for byte. The same shell as before gets the
command, as one quoted word; the text after a ``%`` is still its standard input.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from itertools import pairwise
from pathlib import PurePath
from typing import TYPE_CHECKING, Final, NamedTuple

from jobstore.integrations.names import job_name
from jobstore.language.cron import MONTH_NAMES, WEEKDAY_NAMES, check_schedule
from jobstore.language.errors import InvalidSchedule, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_BLANK = "[ \t]"
_VARIABLE: Final = re.compile(
    rf"""{_BLANK}*(?P<name>"[^"]*"|'[^']*'|[^=\s"']+){_BLANK}*={_BLANK}*(?P<value>"[^"]*"|'[^']*'|[^\s"'].*?)\s*"""
)
_ENTRY: Final = re.compile(
    rf"(?P<indent>{_BLANK}*)(?P<when>@[A-Za-z]+|[0-9*]\S*(?:{_BLANK}+\S+){{4}})(?P<gap>{_BLANK}+)(?P<rest>[^\s*\0][^\0]*)"
)
_PART: Final = re.compile(r"\*(?:/\d+)?|(\w+)(?:-(\w+)(?:/\d+)?)?")
"""A part of a field; cron accepts a step only after a range or ``*``."""
_NUMBERS: Final = {
    **{name: number for number, name in enumerate(MONTH_NAMES, 1)},
    **{name: number for number, name in enumerate(WEEKDAY_NAMES)},
}
_LONGEST_COMMAND: Final = 998
"""The longest command in bytes: cron refuses a crontab with a longer one."""
_ALIASES: Final = frozenset(
    {"@reboot", "@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}
)
_USER: Final = re.compile(rf"(?P<user>\S+){_BLANK}+(?P<command>[^\s*].*)", re.DOTALL)
_RECORDED: Final = re.compile(r"jobstore(?:\s|\\ )+exec\b|-m jobstore exec\b")

_UNNAMED: Final = "command"

_SHELLS: Final = frozenset({"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh"})

_SCRIPTS: Final = frozenset({".sh", ".bash", ".py", ".pl", ".php", ".rb", ".js", ".jar", ".R"})
_CHECKS: Final = frozenset(
    {"[", "[[", "test", "cd", "pushd", "command", "type", "which", "sleep", "export", ".", "source"}
)
_AROUND: Final = frozenset({
    "nice", "ionice", "nohup", "setsid", "timeout", "flock", "sudo", "su", "env", "exec", "time", "chronic",
    "run-parts", "if", "then", "while", "for", "do", "true", "root", "www-data",
})  # fmt: skip
_INTERPRETERS: Final = re.compile(r"(?:python|perl|php|ruby|node|(?:ba|da|z|k)?sh|java|Rscript|pypy)[0-9.]*")
_ASSIGNMENT: Final = r"[A-Za-z_][A-Za-z0-9_]*="
_OPTION_OR_ASSIGNMENT: Final = re.compile(rf"-|{_ASSIGNMENT}")
_NO_PROGRAM: Final = re.compile(
    rf"{_ASSIGNMENT}|[0-9.]+[smhd]?$|/tmp/|/dev/|/run/|/var/(?:lock|run)/|.*\.(?:lock|pid)$"
)
_OPTIONS_WITH_VALUE: Final = frozenset({"-u", "-g", "-n", "-c", "-w", "-e"})
_SUBCOMMANDS: Final = frozenset({"manage.py", "artisan", "console", "rake", "docker", "npm", "composer", "git"})


class Rewritten(NamedTuple):
    """A rewritten crontab.

    Attributes:
        text: the whole crontab.
        jobs: the names of the jobs, in the order of their lines.
        left: the commands that stayed unchanged: line number and reason.
        unscheduled: the jobs after a CRON_TZ. They get no schedule, since a store has one time zone for all of them.
    """

    text: str
    jobs: list[str]
    left: list[tuple[int, str]]
    unscheduled: list[str]


class _NotRewritten(Exception):
    """A line must stay unchanged; the message says why."""


def is_system_crontab(text: str, is_user: Callable[[str], bool]) -> bool:
    """Whether a user name precedes each command, as in ``/etc/crontab`` and ``/etc/cron.d``."""
    entries = [_ENTRY.fullmatch(line) for line in text.split("\n") if not _is_other(line)]
    users = [_USER.fullmatch(entry["rest"]) for entry in entries if entry]
    return bool(users) and all(user is not None and is_user(user["user"]) for user in users)


def rewritten(
    text: str,
    *,
    program: Sequence[str],
    store: str,
    is_user: Callable[[str], bool] | None = None,
    why_not: Callable[[str], str | None] = lambda _user: None,
) -> Rewritten:
    """Rewrite a crontab so that ``jobstore exec`` runs each command.

    Args:
        text: the crontab.
        program: the words that start jobstore, with its absolute path, since cron's own PATH is short.
        store: the absolute path of the store.
        is_user: for a crontab with a user before each command: whether this machine has a user of that name.
        why_not: why a user (before the command, or empty) cannot run the program; None if that works.

    >>> print(rewritten("*/5 * * * * /srv/sync.sh -q", program=["/bin/jobstore"], store="/srv/jobs.db").text)
    */5 * * * * /bin/jobstore exec /srv/jobs.db sync --schedule '*/5 * * * *' -- /bin/sh -c '/srv/sync.sh -q'
    """
    writer = _Writer(list(program), store, is_user, why_not)
    lines = text.removesuffix("\n").split("\n")
    writer.keep_names(lines)
    made = "\n".join(writer.line(number, line) for number, line in enumerate(lines, 1))
    return Rewritten(made, writer.jobs, writer.left, writer.unscheduled)


class _Writer:
    """Rewrites line by line; a variable applies to the lines after it."""

    def __init__(
        self,
        program: list[str],
        store: str,
        is_user: Callable[[str], bool] | None,
        why_not: Callable[[str], str | None],
    ) -> None:
        self._program, self._store, self._is_user, self._why_not = program, store, is_user, why_not
        self._shell = "/bin/sh"
        self._zone = ""
        self._names: Counter[str] = Counter()
        self.jobs: list[str] = []
        self.left: list[tuple[int, str]] = []
        self.unscheduled: list[str] = []

    def keep_names(self, lines: Sequence[str]) -> None:
        """Give no new job the name of one that the crontab already records."""
        for line in lines:
            entry = None if _is_other(line) else _ENTRY.fullmatch(line)
            if entry and _RECORDED.search(entry["rest"]) and (name := _recorded_name(entry["rest"])):
                self._names[job_name(name)] += 1

    def line(self, number: int, line: str) -> str:
        if _is_other(line):
            self._note_variable(line)
            return line
        try:
            return self._rewritten(line)
        except _NotRewritten as reason:
            self.left.append((number, str(reason)))
            return line

    def _note_variable(self, line: str) -> None:
        found = _VARIABLE.fullmatch(line)
        if found and not line.lstrip().startswith("#"):
            name, value = (found[part].strip("\"'") for part in ("name", "value"))
            if name == "SHELL":
                self._shell = value or "/bin/sh"
            elif name == "CRON_TZ":
                self._zone = value

    def _rewritten(self, line: str) -> str:
        entry = _ENTRY.fullmatch(line)
        if entry is None or (entry["when"].startswith("@") and entry["when"] not in _ALIASES):
            raise _NotRewritten("cron does not understand this line")
        user, name, rest = "", "", entry["rest"]
        if self._is_user:
            parted = _USER.fullmatch(rest)
            if parted is None:
                raise _NotRewritten("there is no command after the user")
            if not self._is_user(parted["user"]):
                raise _NotRewritten(f"this machine has no user {shown(parted['user'])}")
            user, name, rest = rest[: parted.start("command")], parted["user"], parted["command"]
        if _RECORDED.search(rest):
            raise _NotRewritten("it is already recorded")
        if PurePath(self._shell).name not in _SHELLS:
            raise _NotRewritten(f"its SHELL, {self._shell}, has quoting rules of its own")
        if rest.endswith("\r"):
            raise _NotRewritten("it ends in CR LF, and cron takes the CR as part of the command")
        reason = self._why_not(name)
        if reason is not None:
            raise _NotRewritten(reason)
        return f"{entry['indent']}{entry['when']}{entry['gap']}{user}{self._recorded(entry['when'], *_parted(rest))}"

    def _recorded(self, when: str, command: str, given: str) -> str:
        schedule = _schedule(when)
        name = self._name(command)
        kept = [] if self._zone else schedule
        words = [*self._program, "exec", self._store, name, *kept, "--", self._shell, "-c", command]
        made = _escaped(" ".join(shlex.quote(word) for word in words)) + given
        if len(made.encode("utf-8", "surrogateescape")) > _LONGEST_COMMAND:
            raise _NotRewritten(f"its command would have over {_LONGEST_COMMAND} bytes, which cron refuses")
        if "\n" in made:  # in the path of the store or of this program
            raise _NotRewritten("its command would have a line break, where cron ends it")
        self.jobs.append(name)
        if kept != schedule:
            self.unscheduled.append(name)
        return made

    def _name(self, command: str) -> str:
        name = job_name(name_of(command).lstrip("-") or _UNNAMED)  # exec would take a dash for an option
        self._names[name] += 1
        return name if self._names[name] == 1 else self._name(f"{name}-{self._names[name]}")


def _is_other(line: str) -> bool:
    """Whether a line runs nothing: blank, a comment or a variable."""
    bare = line.strip(" \t")
    return not bare or bare.startswith("#") or _VARIABLE.fullmatch(line) is not None


def _schedule(when: str) -> list[str]:
    """Return the option for the schedule; none for ``@reboot``, which is not a time."""
    if when == "@reboot":
        return []
    if when not in _ALIASES:
        _check_parts(when)
    try:
        return ["--schedule", check_schedule(" ".join(when.split()))]
    except InvalidSchedule as error:
        raise _NotRewritten(error.message) from None


def _check_parts(when: str) -> None:
    """Raise for a field that cron refuses or reads differently: ``L``, ``fri#2`` (for cron, every Friday), ``5/10``."""
    for part in re.split(r"[\s,]+", when.lower()):
        found = _PART.fullmatch(part)
        words = [word for word in found.groups() if word] if found else [part]
        ends = [int(word) if word.isdecimal() else _NUMBERS.get(word, -1) for word in words]
        if min(ends, default=0) < 0:
            raise _NotRewritten(f"cron does not read {shown(part)} as this store does; see crontab(5)")
        if ends != sorted(ends):
            raise _NotRewritten(f"cron never runs it: {shown(part)} runs backwards")


def _recorded_name(rest: str) -> str | None:
    """Return the job of a command that is already recorded, None if it cannot be told.

    >>> _recorded_name("exec /bin/jobstore exec --timeout 5m /srv/jobs.db sync --category=io -- /bin/sh -c 'exec a b'")
    'sync'
    """
    try:
        words = shlex.split(_parted(rest)[0])
    except ValueError:
        return None
    started = [verb == "exec" and PurePath(program).name == "jobstore" for program, verb in pairwise(words)]
    if not any(started):
        return None
    places, is_value = [], False
    for word in words[started.index(True) + 2 :]:
        if word == "--":
            break
        is_option = word.startswith("-")
        if not (is_option or is_value):
            places.append(word)
        is_value = is_option and "=" not in word  # each of exec's options takes a value
    return places[1] if len(places) > 1 else None


def _parted(rest: str) -> tuple[str, str]:
    r"""Split a command at the first unescaped ``%``: the text for the shell, and the rest, unchanged.

    >>> _parted(r"date +\%F > x%first%second")
    ('date +%F > x', '%first%second')
    """
    command, is_escaped = "", False
    for at, letter in enumerate(rest):
        if letter == "%" and not is_escaped:
            return command, rest[at:]
        command = f"{command[:-1]}%" if letter == "%" else command + letter
        is_escaped = letter == "\\" and not is_escaped
    return command, ""


def _escaped(words: str) -> str:
    r"""Escape ``%`` as ``\%``, with ``''`` between it and a preceding backslash, since cron would keep ``\\%``.

    >>> print(_escaped("sh -c 'date +%F'"), _escaped(r"'\%'"))
    sh -c 'date +\%F' '\''\%'
    """
    return re.sub(r"(\\?)%", lambda found: "\\''\\%" if found[1] else "\\%", words)


def name_of(command: str) -> str:
    """Name a command after the script or program it runs, not after the shell, wrappers and checks around it.

    >>> [name_of(each) for each in ("cd /srv/app && ./bin/sync.sh -q", "flock -n /tmp/l python3 /srv/etl.py 5")]
    ['sync', 'etl']
    >>> name_of("test -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }")
    'cron.daily'
    >>> name_of("sudo -u www php /var/www/artisan schedule:run >> /dev/null 2>&1")
    'artisan-schedule:run'
    """
    words = _words(command)
    scripts = [
        at
        for at, word in enumerate(words)
        if PurePath(word).suffix in _SCRIPTS and not _OPTION_OR_ASSIGNMENT.match(word)
    ]
    at = scripts[0] if scripts else _program_in(words)
    if at is None:
        return _UNNAMED
    path = PurePath(words[at])
    name = path.stem if path.suffix in _SCRIPTS else path.name
    following = words[at + 1] if at + 1 < len(words) else ""
    is_subcommand = path.name in _SUBCOMMANDS and re.fullmatch(r"[a-z][\w:.-]*", following)
    return f"{name}-{following}" if is_subcommand else name


def _words(command: str) -> list[str]:
    """Split a command into shell words, also inside the argument of ``-c``; operators such as ``;`` are words."""
    reader = shlex.shlex(command, posix=True, punctuation_chars="();<>|&{}\n")
    reader.whitespace_split, reader.commenters = True, ""
    try:
        words = list(reader)
    except ValueError:
        words = command.split()
    pairs = zip(["", *words], words, strict=False)
    return [each for before, word in pairs for each in (_words(word) if before == "-c" and " " in word else [word])]


def _program_in(words: list[str]) -> int | None:
    """Return the index of the first program that is not a check, a wrapper or an interpreter."""
    is_checked, is_value = False, False
    for at, word in enumerate(words):
        name = PurePath(word).name
        if {word, name} & _CHECKS and not is_checked:
            is_checked = True
        elif not re.search(r"\w", word) or word.startswith((">", "<")):
            is_checked, is_value = is_checked and word in {"[", "]"}, word.startswith((">", "<"))
        elif is_value or is_checked:
            is_value = False
        elif word.startswith("-"):
            is_value = word in _OPTIONS_WITH_VALUE
        elif not (name in _AROUND or _INTERPRETERS.fullmatch(name) or _NO_PROGRAM.match(word)):
            return at
    return None
