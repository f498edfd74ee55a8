"""An exception at every moment of every call (Ctrl-C, a timeout that raises in a signal handler): the next call works.

The trace function of Python raises before each line, or each instruction, of this package in turn. After each, while
the exception is still being handled: the same store and recorder answer and record, so do another thread and another
process, what was acknowledged is there, and nothing is called damaged.
"""

from __future__ import annotations

import fcntl
import gc
import inspect
import itertools
import random
import signal
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from jobstore.storage.lock import _RANGE, _SET_LOCK
from jobstore.transfer.export import iter_executions
from tests.reliability.scale import SOAK
from tests.waiting import LONG_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

# What is opened at the very moment of an exception is closed by its finalizer, which Python 3.13 warns of.
interrupting = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")

PACKAGE = str(Path(jobstore.__file__).parent)
JOB = {"name": "a", "job_type": "kline", "job_category": "sync"}


class Interrupt(BaseException):
    """Comes from outside, as KeyboardInterrupt does."""


class Moments:
    """Runs a call once for each of its moments, or for every Nth, each time with an exception at the next one."""

    def __init__(self, events: set[str], step: int = 1) -> None:
        self.events = events
        self.step = step
        self.raised = 0

    def __call__(self, call: Callable[[], object], check: Callable[..., None]) -> int:
        """How many moments there were."""
        for number in itertools.count(random.randint(1, self.step), self.step):
            self._left = number
            here = inspect.currentframe()
            assert here is not None
            here.f_trace_opcodes = (
                "opcode" in self.events
            )  # Python 3.12.1 asks before the first call whether anybody wants them
            try:
                sys.settrace(self._trace)
                try:
                    call()
                finally:
                    sys.settrace(None)
            except Interrupt:
                self.raised += 1
                check(is_handled=False)
            if self._left > 0:
                return number
            check(is_handled=True)
        raise AssertionError

    def _trace(self, frame: FrameType, event: str, _argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE) or (event, frame.f_code.co_name) == ("return", "__enter__"):
            return self._trace  # no signal is handled between the return of __enter__ and the block
        frame.f_trace_opcodes = "opcode" in self.events
        if event in self.events:
            self._left -= 1
            if self._left == 0:
                raise Interrupt
        return self._trace


LINES = {"line", "return"}
STEPS = {
    "list": 13, "jobs": 3, "stats": 3, "export": 7, "open": 3, "record": 2, "save": 3, "run": 5, "finish": 5, "prune": 5,
    "recorder": 13,
}  # fmt: skip
"""Of long calls not every moment is tried each time, and each time others."""
OPCODES = {"opcode"}


class World:
    """A store with a reader, a recorder, and others that use it as well."""

    def __init__(self, path: Path) -> None:
        self.path = path
        jobstore.load(path, {"jobs": [JOB], "executions": []})
        self.recorder = jobstore.Recorder(path, timeout_seconds=30)
        self.store = jobstore.open(path)
        self.other = jobstore.Recorder(path, timeout_seconds=30)
        self.thread = ThreadPoolExecutor(1)
        self.acknowledged: set[str] = set()
        for _ in range(10):
            self.acknowledged.add(self.recorder.enqueue("a", at="2026-01-01"))

    def record(self) -> None:
        self.acknowledged.add(self.recorder.enqueue("a"))

    def check(self, *, is_handled: bool) -> None:
        """All go on: this thread at once, others when the exception, and with it every frame, is gone."""
        self.record()
        total = self.store.list_job_executions(limit=1)["pagination"]["total"]
        assert total >= len(self.acknowledged)
        if not is_handled:
            return
        with Path(f"{self.path}.lock").open("r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _SET_LOCK is not None:
                # nobody is left in line
                fcntl.fcntl(lock, _SET_LOCK, struct.pack(_RANGE, fcntl.F_WRLCK, 0, 0, 0, 0))
        self.acknowledged.add(self.thread.submit(self.other.enqueue, "a").result(60))
        assert self.thread.submit(self.store.list_jobs).result(60)["pagination"]["total"] == 1

    def close(self) -> None:
        self.thread.shutdown()
        self.recorder.close()
        self.other.close()
        assert self.acknowledged <= {run["id"] for run in iter_executions(self.store)}
        self.store.close()
        assert jobstore.check(self.path) == []


@pytest.fixture(autouse=True)
def _finalizers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is raised inside a finalizer reaches nobody but this hook."""
    before = sys.unraisablehook
    monkeypatch.setattr(
        sys, "unraisablehook", lambda found: None if found.exc_type is Interrupt else before(found)
    )  # fmt: skip
    yield
    gc.collect()  # here, not in another test


@pytest.fixture
def world(quick_folder: Path) -> Iterator[World]:
    made = World(quick_folder / "jobs.db")
    yield made
    made.close()
    opened = threading.Event()

    def open_another() -> None:
        jobstore.open(made.path).close()
        opened.set()

    threading.Thread(target=open_another, daemon=True).start()
    assert opened.wait(LONG_SECONDS), "a lock of the whole process is left locked"


def ask_for_nobody(world: World) -> None:
    with pytest.raises(jobstore.NotFound):
        world.store.get_job("nobody")


def run_one(world: World) -> None:
    with world.recorder.run("a"):
        pass


def end_one(world: World) -> None:
    world.recorder.finish(world.recorder.enqueue("a"), "SUCCESS")


def transact(world: World) -> None:
    with world.recorder._writer.transaction() as connection:
        connection.execute("UPDATE job SET description = 'x'")


def hold(world: World) -> None:
    with world.recorder._writer.held() as connection:
        connection.execute("PRAGMA wal_checkpoint").fetchall()


def pass_gate(world: World) -> None:
    with world.recorder._writer.lock.acquired(2):
        pass


CALLS: dict[str, Callable[[World], object]] = {
    "list": lambda world: world.store.list_job_executions(search="a", status="PENDING"),
    "jobs": lambda world: world.store.list_jobs(search="sync"),
    "not found": ask_for_nobody,
    "stats": lambda world: world.store.job_stats("a"),
    "export": lambda world: list(iter_executions(world.store, before="2026-01-01")),
    "open": lambda world: jobstore.open(world.path).close(),
    "record": lambda world: world.acknowledged.add(world.recorder.enqueue("a")),
    "save": lambda world: world.recorder.save_job("a", job_type="kline", job_category="sync"),
    "run": run_one,
    "finish": end_one,
    "prune": lambda world: world.recorder.prune(before="2020-01-01"),
    "recorder": lambda world: jobstore.Recorder(world.path).close(),
    "transaction": transact,
    "held": hold,
    "lock": pass_gate,
}


@interrupting
@pytest.mark.parametrize("name", CALLS)
def test_an_exception_at_any_line_of_a_call_breaks_nothing(world: World, name: str) -> None:
    moments = Moments(LINES, step=1 if SOAK > 1 else STEPS.get(name, 1))
    moments(lambda: CALLS[name](world), world.check)
    assert moments.raised > 10


@interrupting
@pytest.mark.parametrize("name", ["list", "record", "transaction", "lock"])
def test_an_exception_at_any_instruction_of_a_call_breaks_nothing(world: World, name: str) -> None:
    moments = Moments(OPCODES, step=1 if SOAK > 1 else 31)
    moments(lambda: CALLS[name](world), world.check)
    assert moments.raised > 10


@interrupting
@pytest.mark.parametrize("name", ["list", "run", "export"])
def test_a_timer_that_raises_at_random_moments_breaks_nothing(world: World, name: str) -> None:
    def ring(*_: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGALRM, ring)
    raised = 0
    try:
        for number in range(200):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00002 * (number + 1))
                CALLS[name](world)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupt:
                raised += 1
                world.check(is_handled=False)
            world.check(is_handled=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert raised


def test_a_signal_handler_may_ask_and_record_in_the_middle_of_a_call(world: World) -> None:
    said: list[int] = []

    def ask_within(frame: FrameType, event: str, _argument: object) -> Any:
        if frame.f_code.co_name == "sync" and event == "line" and not said:
            said.append(0)
            sys.settrace(None)
            said[0] = world.store.list_job_executions()["pagination"]["total"]
        return ask_within

    sys.settrace(ask_within)
    try:
        page = world.store.list_job_executions()
    finally:
        sys.settrace(None)
    assert said == [page["pagination"]["total"]]


def test_a_call_inside_a_transaction_of_the_same_thread_is_refused_and_harms_nothing(world: World) -> None:
    with world.recorder._writer.transaction() as connection:
        connection.execute("UPDATE job SET description = 'outer'")
        with pytest.raises(jobstore.StoreBusy, match="already"):
            world.recorder.enqueue("a")
    assert world.store.get_job("a")["description"] == "outer"


@interrupting
def test_threads_that_wait_while_one_is_interrupted_all_have_their_turn(world: World) -> None:
    stop = threading.Event()
    failed: list[BaseException] = []
    recorded = [0] * 3
    other = jobstore.Recorder(world.path, timeout_seconds=LONG_SECONDS)

    def record(number: int) -> None:
        try:
            while not stop.is_set():
                other.enqueue("a")
                recorded[number] += 1
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=record, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        Moments(LINES, step=5)(lambda: transact(world), lambda **_: None)
        by_then = tuple(recorded)
        until(lambda: failed or all(now > before for now, before in zip(recorded, by_then, strict=True)))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        other.close()
    assert not failed
