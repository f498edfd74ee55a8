"""Processes that are killed at any moment: nothing acknowledged is lost, nothing is half."""

from __future__ import annotations

import random

from tests.reliability.scale import IS_PROGRAMME, figure, run_program, scaled

KILLS = figure(50, 200)
STEP = 1 if IS_PROGRAMME else 2
"""In the short form, a file that is made or upgraded dies at every second statement, in each run perhaps at the others."""


def test_what_was_acknowledged_survives_a_kill_at_any_moment_and_nothing_else_appears(quick_folder):
    figures = run_program("ledger", quick_folder, "--kills", KILLS)
    assert figures["operations"] > figures["kills"]
    assert figures["slowest_reopen_seconds"] < 30  # on any machine, however busy; the soak reports the figure


def test_a_prune_that_is_killed_at_any_moment_loses_nothing_and_archives_nothing_twice(quick_folder):
    assert run_program("archiving", quick_folder, "--kills", scaled(20))["kills"] >= scaled(20)


def test_a_file_that_is_made_loaded_or_upgraded_is_old_or_new_after_a_kill(quick_folder):
    outcomes = run_program(
        "births", quick_folder, "--kills", scaled(8), "--step", STEP, "--seed", random.randrange(1_000)
    )
    assert outcomes["make: none"] > 20
    assert outcomes["upgrade: old"] > 20
    assert outcomes["upgrade: new"] > 0


def test_whatever_happens_to_a_recorder_it_loses_nothing_and_goes_on(quick_folder):
    figures = run_program("nemeses", quick_folder, "--runs", scaled(24))
    assert figures["operations"] > figures["runs"]
