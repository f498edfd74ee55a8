"""Many threads, processes and forks on one file: nobody is turned away, nothing is lost."""

from __future__ import annotations

import sys

import pytest

from tests.reliability.scale import SOAK, run_program, scaled

LONGEST_WAIT_SECONDS = 0.2


def test_three_writers_as_fast_as_they_can_lose_nothing_and_each_has_its_turn(quick_folder):
    figures = run_program("crowd", quick_folder, "writers", "--seconds", 2 * SOAK)
    assert figures["fewest"] > 0


def test_a_prune_keeps_no_writer_waiting_and_no_reader_out(quick_folder):
    for attempt in range(10):  # others may use the machine: what holds everybody up does so each time
        folder = quick_folder / str(attempt)
        folder.mkdir()
        figures = run_program("crowd", folder, "prune", "--rows", scaled(5000))
        if figures["longest_wait"] < LONGEST_WAIT_SECONDS:
            break
    assert figures["longest_wait"] < LONGEST_WAIT_SECONDS
    assert figures["recorded"] > 0
    assert figures["pages"] > 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells which locks a process holds")
def test_children_of_a_fork_have_connections_and_locks_of_their_own(quick_folder):
    figures = run_program("forks", quick_folder, "--forks", scaled(60), "--threads", 16)
    assert figures["fewest"] > 0
