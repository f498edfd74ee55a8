"""The state of a job: the one definition, from facts to a state and when it began. Pure.

Everything that reports a job's state (lists, page, tools, command line, metrics) calls `state_of`; everything that
sorts jobs by urgency uses the order of `State`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from jobstore.language.instants import MICROSECONDS


class State(StrEnum):
    """The states, most urgent first (``order_by=attention``)."""

    LOST = "lost"
    LATE = "late"
    FAILING = "failing"
    RUNNING = "running"
    WAITING = "waiting"
    NEW = "new"
    OK = "ok"
    DISABLED = "disabled"


STATES: Final[tuple[State, ...]] = tuple(State)
ATTENTION: Final = {state: rank for rank, state in enumerate(State)}
"""The rank of each state in attention order."""
WRONG: Final = (State.LOST, State.LATE, State.FAILING)
"""The states that need attention."""

LATE_GRACE_US: Final = 300 * MICROSECONDS
"""How long after its scheduled time a job may start before it counts as late."""
LOST_GRACE_US: Final = 60 * MICROSECONDS
"""How far a run may exceed its job's timeout before it counts as lost; `close_interrupted` waits as long."""


class Facts(NamedTuple):
    """What a job's state depends on, besides the time and how its runs ended. A tuple, because each job has one.

    Attributes:
        changed_us: when the job was last changed or started.
        last_run_us: the start of its latest started execution.
        late_from_us: the first moment at which it is late; None if never, as while an execution is RUNNING or PENDING.
        lost_from_us: the first moment at which its oldest run has exceeded timeout and grace; None if never.
        running_us: the start of its oldest RUNNING execution.
        waiting_us: the creation of its oldest PENDING execution.
    """

    is_enabled: bool
    created_us: int
    changed_us: int
    last_run_us: int | None
    late_from_us: int | None
    lost_from_us: int | None
    running_us: int | None
    waiting_us: int | None


class Outcome(NamedTuple):
    """How the executions of a job ended.

    Attributes:
        is_failing: whether its last finished execution is FAILURE or TIMEOUT; None if none has finished.
        streak_us: the effective start of the first of the newest finished executions that all succeeded, or all failed.
    """

    is_failing: bool | None
    streak_us: int | None


def late_from_us(due_us: int) -> int:
    """The first moment at which a job that is due at `due_us` is late."""
    return due_us + LATE_GRACE_US + 1


def lost_from_us(running_us: int, timeout_us: int) -> int:
    """The first moment at which a run that exceeds its timeout is lost."""
    return running_us + timeout_us + LOST_GRACE_US + 1


def next_change_us(facts: Facts, now_us: int) -> int | None:
    """The next moment after now at which the state changes by time alone; None if it does not."""
    late, lost = facts.late_from_us, facts.lost_from_us
    # At most one is set: a job with a running execution is not late.
    moment = lost if late is None else late
    return moment if moment is not None and moment > now_us else None


def state_of(facts: Facts, now_us: int, gone_us: int | None = None) -> tuple[State, int] | None:
    """The state of a job and when it began: the first state that holds, in this order.

    ========  ===================================================================  ==================================
    state     holds when                                                           since
    ========  ===================================================================  ==================================
    disabled  the job is switched off                                              its last change (or start)
    lost      a RUNNING execution's process is gone, or it exceeded its timeout    that execution's start
    late      it was due more than 300 s ago, and nothing has started, runs or     the time it was due
              waits since
    running   an execution is RUNNING                                              the oldest one's start
    waiting   an execution is PENDING                                              the oldest one's creation
    failing   the last finished execution is FAILURE or TIMEOUT                    the start of the first failure
    ok        an execution has started before                                      the start of the first success
                                                                                   after the last failure
    new       none has                                                             its creation
    ========  ===================================================================  ==================================

    None means one of the last three; `settled` says which.

    Args:
        facts: what is known of the job.
        now_us: the moment.
        gone_us: the start of its oldest RUNNING execution whose process is known to be gone.
    """
    is_enabled, _, changed_us, _, late, lost, running_us, waiting_us = facts
    if not is_enabled:
        return State.DISABLED, changed_us
    if lost is not None and running_us is not None and now_us >= lost:
        return State.LOST, running_us
    if gone_us is not None:
        return State.LOST, gone_us
    if late is not None and now_us >= late:
        return State.LATE, late - late_from_us(0)  # the time it was due, not when it became late
    if running_us is not None:
        return State.RUNNING, running_us
    return None if waiting_us is None else (State.WAITING, waiting_us)


def settled(facts: Facts, outcome: Outcome) -> tuple[State, int]:
    """The state of a job that is not late and has nothing running or waiting: decided by what finished last."""
    if outcome.is_failing and outcome.streak_us is not None:
        return State.FAILING, outcome.streak_us
    if facts.last_run_us is None:
        return State.NEW, facts.created_us
    # After a prune of its whole history, only the job's row still has its last run.
    return State.OK, facts.last_run_us if outcome.streak_us is None else outcome.streak_us
