"""The log records of one run."""

from __future__ import annotations

import asyncio
import logging
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from jobstore.recording import logs
from jobstore.recording.logs import CHARACTERS, captured_logs

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("a.job")


@pytest.fixture(autouse=True)
def at_info() -> Iterator[None]:
    factory, level = logging.getLogRecordFactory(), log.level
    log.setLevel(logging.INFO)
    yield
    log.setLevel(level)
    assert logging.getLogRecordFactory() is factory
    assert logs._Factory.runs == 0


def messages(text: str) -> list[str]:
    return [line.partition(": ")[2] for line in text.splitlines()]


def test_what_a_run_logs_is_kept_with_its_level_and_logger() -> None:
    log.info("before")
    with captured_logs() as captured:
        log.info("read %s rows", 5)
        log.debug("not asked for")
        try:
            int("bad")
        except ValueError:
            log.exception("failed")
    log.info("after")
    first, second, *trace = captured.text.splitlines()
    assert first.endswith("INFO a.job: read 5 rows")
    assert second.endswith("ERROR a.job: failed")
    assert trace[-1] == "ValueError: invalid literal for int() with base 10: 'bad'"


def test_each_thread_has_its_own() -> None:
    both = threading.Barrier(2)
    found = {}

    def work(name: str) -> None:
        with captured_logs() as captured:
            both.wait(120)
            log.info(name)
            both.wait(120)
        found[name] = messages(captured.text)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"one": ["one"], "two": ["two"]}


def test_each_task_has_its_own() -> None:
    async def work(name: str) -> list[str]:
        with captured_logs() as captured:
            await asyncio.sleep(0)
            log.info(name)
            await asyncio.sleep(0)
        return messages(captured.text)

    async def all_of_them() -> list[list[str]]:
        return list(await asyncio.gather(work("one"), work("two")))

    assert asyncio.run(all_of_them()) == [["one"], ["two"]]


def test_an_inner_run_has_its_own() -> None:
    with captured_logs() as outer:
        log.info("one")
        with captured_logs() as inner:
            log.info("two")
        log.info("three")
    assert (messages(outer.text), messages(inner.text)) == (["one", "three"], ["two"])


def test_the_end_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    with captured_logs() as captured:
        log.info("first")
        for number in range(3000):
            log.info("row %s %s", number, "x" * 50)
        log.info("last %s", "y" * CHARACTERS)
        assert len(captured.text) == CHARACTERS
        monkeypatch.setattr(log, "propagate", False)  # pytest could not send it to its own process
        log.info("\ud800")
    assert captured.text.endswith("\\ud800")
    assert "first" not in captured.text
    assert len(captured.text) <= CHARACTERS


def test_a_message_that_does_not_fit_its_arguments_is_left_to_logging() -> None:
    log.propagate = False
    try:
        with captured_logs() as captured:
            log.info("%d rows", "many")
    finally:
        log.propagate = True
    assert captured.text == ""


def test_the_program_keeps_its_handlers_and_its_factory() -> None:
    class Record(logging.LogRecord):
        pass

    before, root = logging.getLogRecordFactory(), logging.getLogger()
    handlers = list(root.handlers)
    logging.setLogRecordFactory(Record)
    try:
        with captured_logs() as captured:
            assert root.handlers == handlers
            log.info("one")
            inside = logging.getLogRecordFactory()
            logging.setLogRecordFactory(partial(inside))  # set meanwhile: it stays
            with captured_logs() as inner:
                log.info("two")
            wrapped = logging.getLogRecordFactory()
        assert (messages(captured.text), messages(inner.text)) == (["one"], ["two"])
        assert isinstance(wrapped("n", 20, "", 1, "", (), None), Record)
    finally:
        logging.setLogRecordFactory(before)
