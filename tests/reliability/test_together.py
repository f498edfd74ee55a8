"""Calls of threads that wait for each other: written in one transaction, each with its own error, whatever interrupts."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import jobstore
from jobstore.language.errors import NotFound, StoreBusy
from jobstore.recording.recorder import Recorder
from jobstore.storage.writer import Writer
from tests.waiting import LONG_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobstore.recording.together import Together

WATCHED = str(Path(jobstore.__file__).parent)


@pytest.fixture
def recorder(quick_folder: Path) -> Iterator[Recorder]:
    with Recorder(quick_folder / "jobs.db", timeout_seconds=LONG_SECONDS) as made:
        made.save_job("a", job_type="t", job_category="c")
        yield made


def together_of(recorder: Recorder) -> Together:
    return recorder._write.__self__  # type: ignore[attr-defined, no-any-return]


class Threads:
    """Calls on threads of their own; what each returned or raised."""

    def __init__(self, *calls: Callable[[], Any]) -> None:
        self.found: list[Any] = [None] * len(calls)
        self._threads = [threading.Thread(target=self._run, args=pair, daemon=True) for pair in enumerate(calls)]
        for thread in self._threads:
            thread.start()

    def _run(self, position: int, call: Callable[[], Any]) -> None:
        try:
            self.found[position] = call()
        except Exception as error:
            self.found[position] = error

    def join(self) -> list[Any]:
        for thread in self._threads:
            thread.join(LONG_SECONDS)
            assert not thread.is_alive()
        return self.found


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each transaction that was begun."""
    begun: list[int] = []
    transaction = Writer.transaction

    def counted(self: Writer, *words: Any, **more: Any) -> Any:
        begun.append(1)
        return transaction(self, *words, **more)

    monkeypatch.setattr(Writer, "transaction", counted)
    return begun


def test_those_who_wait_share_a_transaction_and_each_has_its_own_error(recorder, transactions):
    together = together_of(recorder)
    with recorder._writer.transaction():
        transactions.clear()
        names = ["a", "nobody", "a", "a", "nothing"]
        threads = Threads(*[lambda name=name: recorder.enqueue(name) for name in names])
        until(lambda: len(together._waiting) == len(names))
    first, nobody, second, third, nothing = threads.join()
    assert len(transactions) == 1
    assert str(nobody) == "Job not found: nobody"
    assert str(nothing) == "Job not found: nothing"
    found = [document["id"] for document in jobstore.dump(recorder.path)["executions"]]
    assert sorted(found) == sorted({first, second, third})
    assert jobstore.check(recorder.path) == []


def test_a_step_that_breaks_the_transaction_off_fails_alone(recorder):
    together = together_of(recorder)
    with recorder._writer.transaction():
        threads = Threads(
            lambda: recorder.enqueue("a"),
            lambda: together.write(lambda connection: connection.execute("SELECT nothing")),
            lambda: together.write(lambda _connection: 1 / 0),
            lambda: recorder.enqueue("a"),
        )
        until(lambda: len(together._waiting) == 4)
    first, ours, theirs, last = threads.join()
    assert {type(first), type(last)} == {str}
    assert isinstance(ours, jobstore.StoreError)
    assert isinstance(theirs, ZeroDivisionError)
    assert len(jobstore.dump(recorder.path)["executions"]) == 2


def test_nobody_returns_before_the_commit(recorder, monkeypatch):
    """Held at its COMMIT, the one that leads keeps all others from returning."""
    at_commit, go_on = threading.Event(), threading.Event()
    attempt = recorder._writer.transaction

    @contextmanager
    def held(*words: Any) -> Iterator[Any]:
        with attempt(*words) as connection:
            yield connection
            at_commit.set()
            assert go_on.wait(LONG_SECONDS)

    monkeypatch.setattr(recorder._writer, "transaction", held)
    with attempt():
        threads = Threads(*[lambda: recorder.enqueue("a") for _ in range(3)])
        until(lambda: len(together_of(recorder)._waiting) == 3)
    assert at_commit.wait(LONG_SECONDS)
    time.sleep(0.2)  # for one that would return now
    assert threads.found == [None, None, None]
    go_on.set()
    assert all(isinstance(number, str) for number in threads.join())


def test_one_that_waits_too_long_is_busy_and_writes_nothing(quick_folder):
    with Recorder(quick_folder / "jobs.db", timeout_seconds=0.2) as recorder:
        recorder.save_job("a", job_type="t", job_category="c")
        with recorder._writer.transaction():
            found = Threads(*[lambda: recorder.enqueue("a") for _ in range(3)]).join()
        assert [type(error) for error in found] == [StoreBusy] * 3
        assert not together_of(recorder)._waiting
        recorder.enqueue("a")
        assert len(jobstore.dump(recorder.path)["executions"]) == 1


class Interrupt(BaseException):
    """What a signal handler raises."""


def _is_in_del(frame: Any) -> bool:
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


class Interrupted:
    """Raises at one moment of a call on this thread, where Python looks for signals: a function begins or C returns."""

    def __init__(self, at: int) -> None:
        self._left = at
        self.has_come = False

    def _profile(self, frame: Any, event: str, _arg: object) -> None:
        if self.has_come or event not in {"call", "c_return"} or not frame.f_code.co_filename.startswith(WATCHED):
            return
        if _is_in_del(frame):
            return  # Python swallows what is raised there
        self._left -= 1
        if self._left < 0:
            self.has_come = True
            raise Interrupt

    def __enter__(self) -> Interrupted:
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)


def record(recorder: Recorder, written: list[str]) -> None:
    with recorder.run("a", trace_id="mine") as run:
        written.append(run.execution_id)


@pytest.mark.parametrize("others", [0, 2])
def test_an_interrupt_at_any_moment_loses_nothing_and_stops_nobody(recorder, others):
    """At each moment of a run in turn, alone and while others wait to be written by the same thread."""
    together = together_of(recorder)
    written: list[str] = []
    expected = moment = 0
    while True:
        with recorder._writer.transaction():
            threads = Threads(*[lambda: recorder.enqueue("a", trace_id="others") for _ in range(others)])
            until(lambda: len(together._waiting) == others)
        interrupted = Interrupted(moment)
        with interrupted, suppress(Interrupt):
            record(recorder, written)
        assert all(isinstance(number, str) for number in threads.join())
        expected += others
        if not interrupted.has_come:
            break
        moment += 1
    assert moment > 150
    assert not together._waiting
    assert recorder.enqueue("a")
    documents = {document["id"]: document for document in jobstore.dump(recorder.path)["executions"]}
    assert Counter(document["trace_id"] for document in documents.values())["others"] == expected
    mine = [document for document in documents.values() if document["trace_id"] == "mine"]
    assert {document["status"] for document in mine} <= {"SUCCESS", "FAILURE"}
    assert {number for number in written if number} <= documents.keys()
    assert jobstore.check(recorder.path) == []


def test_one_that_is_interrupted_while_it_waits_writes_nothing(recorder):
    together = together_of(recorder)
    left: list[BaseException] = []

    def wait() -> None:
        try:
            recorder.enqueue("a")
        except Interrupt as error:
            left.append(error)

    with recorder._writer.transaction():
        leader = Threads(lambda: recorder.enqueue("a"))
        until(lambda: bool(together._leader))
        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        until(lambda: len(together._waiting) == 2)
        assert thread.ident is not None
        import ctypes

        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Interrupt))
        thread.join(LONG_SECONDS)
        assert len(left) == 1
    leader.join()
    assert len(jobstore.dump(recorder.path)["executions"]) == 1


def test_a_child_begins_without_those_that_waited(recorder):
    import os

    together = together_of(recorder)
    with recorder._writer.transaction():
        threads = Threads(lambda: recorder.enqueue("a"))
        until(lambda: len(together._waiting) == 1)
        together_before = together._leading
        together.after_fork_in_child()  # what the child of a fork at this moment does
        assert not together._waiting
        assert together._leading is not together_before
        together._leading = together_before
    threads.join()
    child = os.fork()
    if child == 0:
        try:
            recorder.enqueue("a")
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert len(jobstore.dump(recorder.path)["executions"]) >= 1


def test_the_error_is_raised_where_it_belongs(recorder):
    with pytest.raises(NotFound, match="Job not found: b"):
        recorder.enqueue("b")
