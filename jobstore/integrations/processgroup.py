"""Runs one command in a process group of its own, with a timeout, and passes signals and output on.

The command leads a new session, so that it and all it starts can be killed together. At a terminal it stays in our own
group instead: so the keyboard and the shell's ``fg`` and ``bg`` reach it, and it may read from the terminal.

What it starts may make a group of its own, as ``timeout`` and ``setsid`` do. So a signal goes to its group and to each
of its descendants outside of it. What has become a daemon, which has no living parent among them, gets none.
"""

from __future__ import annotations

import errno
import math
import os
import select
import signal
import subprocess
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from jobstore.integrations.output import TAIL_BYTES, Pump, Tail, is_one_file
from jobstore.integrations.programs import NOT_EXECUTABLE, NOT_FOUND, why_not_started, without_interpreter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import FrameType

__all__ = ["NOT_EXECUTABLE", "NOT_FOUND", "SIGNALLED", "TIMED_OUT", "Ended", "Group", "kill_all", "signals_passed_on"]

TIMED_OUT: Final = 124
"""The exit code of ``timeout``."""
SIGNALLED: Final = 128
"""Added to the number of the signal."""

GRACE_SECONDS: Final = 10.0
"""The time between SIGTERM and SIGKILL."""
DRAIN_SECONDS: Final = 5.0
"""How long to wait for a slow reader of the output before the end is recorded."""

_POLL_SECONDS = 0.02
_LOOK_UP_MILLISECONDS = 200
_PAUSES_SECONDS = 0.1, 0.5, None
"""The pauses between attempts to create a process, if the system has none left."""
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
_COERCED = frozenset({"C.UTF-8", "C.utf8", "UTF-8"})
_KEYBOARD = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP})
_OURS = frozenset(
    {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU}
    | {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}  # a fault of this very process
    | {signal.SIGPIPE, signal.SIGXFSZ}  # Python ignores them, and the command gets its own
)


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        exit_code: 0 to 255, as a shell reports it; 124 after a timeout.
        reason: why it failed, in a few words; None for exit code 0.
        tail: the end of its output.
        seconds: how long it ran; None if it never started.
        timed_out: whether it exceeded its timeout.
        is_refused: whether the system could not create a process.
        lost: why some of its output could not be passed on; None if all of it was.
    """

    exit_code: int
    reason: str | None
    tail: Tail
    seconds: float | None = None
    timed_out: bool = False
    is_refused: bool = False
    lost: str | None = None


class Group:
    """A command and all it starts. Call `start`, then `wait`, then `drain`."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdout: int = 1,
        stderr: int = 2,
        keep_bytes: int = TAIL_BYTES,
    ) -> None:
        """Prepare to run a command, without a shell.

        Args:
            command: the program and its arguments.
            stdout: the file descriptor for its stdout.
            stderr: the file descriptor for its stderr.
            keep_bytes: how much of the end of its output to keep; with 0, it writes to the two descriptors directly.
        """
        self._command = list(command)
        self._targets = stdout, stderr
        self._keep_bytes = keep_bytes
        self._tail = Tail(keep_bytes or TAIL_BYTES)
        self._pumps: list[Pump] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._early: deque[int] = deque()
        self._is_over = False
        self._is_at_terminal = _is_at_terminal()
        self._family: dict[int, bytes] = {}
        self._started = self._seconds = 0.0

    def start(self) -> Ended | None:
        """Start the command; return None, or how it ended if it could not be started."""
        outputs = self._outputs()
        error = self._spawn(self._command, outputs)
        if isinstance(error, OSError) and error.errno in _NO_DESCRIPTORS and self._pumps:
            self._let_go_of_pumps()  # run the command without keeping its output
            outputs = self._targets
            error = self._spawn(self._command, outputs)
        if isinstance(error, OSError) and error.errno == errno.ENOEXEC:
            error = self._spawn(without_interpreter(self._command), outputs)
        if error is not None:
            return self._not_started(error)
        for pump in self._pumps:
            pump.close_inlet()
        while self._early:
            self.pass_on(self._early.popleft())
        return None

    def _outputs(self) -> tuple[int, int]:
        """Return the descriptors for the command's output: our pipes, or the targets if there can be no pipes."""
        if self._keep_bytes <= 0:
            return self._targets
        stdout, stderr = self._targets
        try:
            self._pumps.append(Pump(stdout, self._tail))
            # If both streams go to the same file, use one pipe, to keep the order of the lines.
            if not is_one_file(stdout, stderr):
                self._pumps.append(Pump(stderr, self._tail))
        except BaseException:  # noqa: BLE001 - run the command without keeping its output
            self._let_go_of_pumps()
            return self._targets
        return self._pumps[0].inlet, self._pumps[-1].inlet

    def _spawn(self, command: Sequence[str], outputs: tuple[int, int]) -> BaseException | None:
        """Start the command with all inherited descriptors (our own are close-on-exec); return the error, if any."""
        for pause in _PAUSES_SECONDS:
            self._started = time.monotonic()
            try:
                self._process = subprocess.Popen(  # noqa: S603 - running the given command is the purpose
                    command, stdout=outputs[0], stderr=outputs[1], close_fds=False,
                    start_new_session=not self._is_at_terminal, env=_environment(),
                )  # fmt: skip
            except BaseException as error:  # noqa: BLE001 - the caller must get any error
                if not _is_refusal(error) or pause is None:
                    return error
                time.sleep(pause)
            else:
                break
        return None

    def _not_started(self, error: BaseException) -> Ended:
        self._let_go_of_pumps()
        code, reason = why_not_started(self._command, error)
        return Ended(code, reason, self._tail, is_refused=_is_refusal(error))

    def _let_go_of_pumps(self) -> None:
        for pump in self._pumps:
            pump.close_inlet()
            pump.join()
            pump.close()
        self._pumps.clear()

    def send(self, signum: int) -> bool:
        """Send a signal to the command and all it started; return False if no process is left."""
        if self._process is None:
            return False
        if self._is_at_terminal:
            own = [] if self._process.poll() is not None else [self._process.pid]
            return sum(_is_sent(os.kill, each, signum) for each in [*own, *self._family]) > 0
        outside = [each for each in self._family if (seen := _seen(each)) and seen.group != self._process.pid]
        is_left = _is_sent(os.killpg, self._process.pid, signum)
        return sum(_is_sent(os.kill, each, signum) for each in outside) > 0 or is_left

    def _note_family(self) -> None:
        """List the descendants now: once a parent has ended, its children cannot be found."""
        if self._process is not None:
            self._forget_ended()
            own = [] if self._process.returncode is not None else [self._process.pid]
            self._family |= _descendants([*own, *self._family])

    def _forget_ended(self) -> None:
        """The system may use the number of a process that has ended again."""
        self._family = {pid: start for pid, start in self._family.items() if not _is_gone(pid, start)}

    def pass_on(self, signum: int) -> None:
        """Handle a signal to this process: send it to the command, unless the command already has it."""
        if self._process is None:  # not started yet: `start` delivers it
            self._early.append(signum)
        elif self._is_over:
            return
        else:
            is_from_keyboard = signum in _KEYBOARD and self._is_at_terminal and _is_in_foreground()
            if not is_from_keyboard:  # otherwise the terminal has sent it to the command, too
                self._note_family()
                # SIGTSTP has no effect on a session without a terminal.
                self.send(signal.SIGSTOP if signum == signal.SIGTSTP else signum)
            if signum == signal.SIGTSTP:
                os.kill(os.getpid(), signal.SIGSTOP)

    def wait(self, *, timeout_seconds: float | None = None, grace_seconds: float = GRACE_SECONDS) -> Ended:
        """Wait for the command's end; after the timeout, kill it and all it started."""
        process = self._process
        if process is None:
            raise ValueError("the command was not started")
        try:
            code = _exit_code(process, math.inf if timeout_seconds is None else timeout_seconds)
        except subprocess.TimeoutExpired:
            self._end_group(process, grace_seconds)
            self._stop_pumps()
            return self._ended(TIMED_OUT, f"Timed out after {timeout_seconds:g} s", timed_out=True)
        self._is_over = True  # its background processes get no signals from us
        self._stop_pumps()
        if code < 0:
            return self._ended(SIGNALLED - code, f"Killed by {_signal_name(-code)}")
        return self._ended(code, f"Exit code {code}" if code else None)

    def _ended(self, exit_code: int, reason: str | None, *, timed_out: bool = False) -> Ended:
        lost = next((pump.lost for pump in self._pumps if pump.lost), None)
        return Ended(exit_code, reason, self._tail, self._seconds, timed_out, lost=lost)

    def drain(self, *, patience_seconds: float | None = None) -> None:
        """Wait until all output is passed on, for at most `patience_seconds` (None: as long as its reader takes)."""
        for pump in self._pumps:
            pump.join(patience_seconds)
            pump.close()

    def _stop_pumps(self) -> None:
        self._seconds = time.monotonic() - self._started
        deadline = time.monotonic() + DRAIN_SECONDS
        for pump in self._pumps:
            pump.stop()
        for pump in self._pumps:
            pump.join(max(0, deadline - time.monotonic()))

    def _end_group(self, process: subprocess.Popen[bytes], grace_seconds: float) -> None:
        """Send SIGTERM to the command and all it started, and SIGKILL to those that are left after the grace period.

        The grace period ends early when no process is left. For example, a shell may exit at once on SIGTERM while its
        ``rsync`` still cleans up: that gets the rest of the grace period.
        """
        deadline = time.monotonic() + grace_seconds
        self._note_family()
        is_left = self.send(signal.SIGTERM)
        self.send(signal.SIGCONT)  # a stopped process cannot react to SIGTERM
        while is_left and time.monotonic() < deadline:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
            self._forget_ended()
            if process.returncode is not None:
                with suppress(ChildProcessError):  # as a container's first process, we inherit orphans
                    os.waitpid(-process.pid, os.WNOHANG)
                time.sleep(_POLL_SECONDS)
            is_left = self.send(0)
        self._note_family()
        self.send(signal.SIGKILL)
        process.wait()
        self._is_over = True


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kill the leader of a session, and all it started."""
    family = _descendants([process.pid])
    _is_sent(os.killpg, process.pid, signal.SIGKILL)
    for each in family:
        _is_sent(os.kill, each, signal.SIGKILL)
    process.wait()


@contextmanager
def signals_passed_on(group: Group) -> Iterator[None]:
    """Inside the block, pass signals that would end or stop this process on to the group instead.

    Ignored signals stay ignored (``nohup``), except for SIGCHLD: if that is ignored, the system keeps no exit codes.
    Outside the main thread, do nothing.
    """

    def pass_on(signum: int, _frame: FrameType | None) -> None:
        group.pass_on(signum)

    taken = {}
    if threading.current_thread() is threading.main_thread():
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            taken[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for each in signal.valid_signals() - _OURS:
            handler = signal.getsignal(each)
            if handler not in {signal.SIG_IGN, None}:
                with suppress(OSError, ValueError):  # some are reserved by the C library
                    taken[each] = signal.signal(each, pass_on)
    try:
        yield
    finally:
        for each, handler in taken.items():
            signal.signal(each, handler)


def _exit_code(process: subprocess.Popen[bytes], timeout_seconds: float) -> int:
    """Wait for the command's end, waking up several times a second.

    The system may deliver a signal to any of our threads and wakes only that one, while Python runs the handler in this
    one, the main thread: in one long wait, it would not run before the command ends.
    """
    deadline = time.monotonic() + timeout_seconds
    descriptor = -1
    try:
        descriptor = os.pidfd_open(process.pid)
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
    except BaseException:  # noqa: BLE001 - not on Linux, or no descriptors left: wait without
        return process.wait(None if timeout_seconds == math.inf else timeout_seconds)
    else:
        while not ended.poll(min(_LOOK_UP_MILLISECONDS, max(0, deadline - time.monotonic()) * 1000)):
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(process.args, timeout_seconds)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return process.wait()


def _is_refusal(error: BaseException) -> bool:
    """Whether the system could not create a process. An error of the program itself has a file name."""
    return not isinstance(error, ValueError) and getattr(error, "filename", None) is None


def _is_at_terminal() -> bool:
    """Whether stdin is our controlling terminal, even if we are in the background: the shell may bring us back."""
    try:
        return os.tcgetpgrp(0) > 0
    except OSError:
        return False


def _is_in_foreground() -> bool:
    """Whether the keyboard's signals go to our process group."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _is_sent(kill: Callable[[int, int], None], whom: int, signum: int) -> bool:
    """Send a signal; return False if there is no such process."""
    try:
        kill(whom, signum)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process runs as another user now
        pass
    return True


class _Seen(NamedTuple):
    """A process as ``/proc`` shows it. Its number and its start together are never used again."""

    state: bytes
    parent: int
    group: int
    start: bytes


def _seen(pid: int) -> _Seen | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:  # it has ended, or the system has no /proc
        return None
    return _Seen(fields[0], int(fields[1]), int(fields[2]), fields[19])


def _is_gone(pid: int, start: bytes) -> bool:
    """Whether a descendant has ended; collects it if it was left to us, as to a container's first process."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    seen = _seen(pid)
    return seen is None or seen.start != start or seen.state == b"Z"


def _descendants(pids: Iterable[int]) -> dict[int, bytes]:
    """Return the numbers and starts of all descendants that ``/proc`` shows; none without it."""
    every = {int(each.name): _seen(int(each.name)) for each in Path("/proc").glob("[0-9]*")}
    found = list(pids)
    family = {}
    for parent in found:
        for child, seen in every.items():
            if seen and seen.parent == parent and child not in family:
                family[child] = seen.start
                found.append(child)
    return family


def _environment() -> dict[bytes, bytes] | None:
    """Return the environment without the LC_CTYPE that Python adds in a C locale; None to inherit it unchanged."""
    if os.environ.get("LC_CTYPE") not in _COERCED or os.environ.get("LC_ALL"):
        return None
    try:
        given = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    if any(each.startswith(b"LC_CTYPE=") for each in given):
        return None
    return {key: value for key, value in os.environb.items() if key != b"LC_CTYPE"}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
