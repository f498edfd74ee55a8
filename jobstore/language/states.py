"""What state a job is in: the one definition, from facts to a state and since when. Pure.

Everything that speaks of a job's state (lists, page, tools, command line, metrics) asks `state_of`; everything that
shows jobs by urgency uses the order of `State`.
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
"""How long after its time a job may start before it counts as late."""
LOST_GRACE_US: Final = 60 * MICROSECONDS
"""How far a run may exceed its job's timeout before it counts as lost; `close_interrupted` waits as long."""


class Facts(NamedTuple):
    """What a job's state depends on, besides the time; a tuple, since there is one for each job.

    Attributes:
        is_enabled: whether the job is switched on.
        timeout_us: how long a run may take.
        created_us: when the job was created.
        changed_us: when it was last changed or started.
        last_run_us: the start of its latest started execution.
        due_us: the first time its schedule names after `changed_us`.
        gone_us: the start of its oldest RUNNING execution whose process is known to be gone.
        running_us: the start of its oldest RUNNING execution.
        waiting_us: the creation of its oldest PENDING execution.
        is_failing: whether its last finished execution is FAILURE or TIMEOUT; None where none has finished.
        streak_us: the effective start of the first of the newest finished executions that all succeeded, or all failed.
    """

    is_enabled: bool
    timeout_us: int | None
    created_us: int
    changed_us: int
    last_run_us: int | None
    due_us: int | None
    gone_us: int | None
    running_us: int | None
    waiting_us: int | None
    is_failing: bool | None
    streak_us: int | None

    @property
    def late_from_us(self) -> int | None:
        """The first moment at which the job is late unless something starts or is queued; None: never."""
        if self.due_us is None or not self.is_enabled or self.running_us is not None or self.waiting_us is not None:
            return None
        return self.due_us + LATE_GRACE_US + 1

    @property
    def overrun_from_us(self) -> int | None:
        """The first moment at which the oldest run has exceeded its timeout and the grace; None: never."""
        if self.running_us is None or self.timeout_us is None:
            return None
        return self.running_us + self.timeout_us + LOST_GRACE_US + 1

    def next_change_us(self, now_us: int) -> int | None:
        """The next moment at which the state changes by time alone, after now."""
        moments = [us for us in (self.late_from_us, self.overrun_from_us) if us is not None and us > now_us]
        return min(moments) if moments else None


def state_of(facts: Facts, now_us: int) -> tuple[State, int]:
    """The state of a job and since when it is in it: the first state that holds, in this order.

    ========  ===================================================================  ==================================
    state     holds when                                                           since
    ========  ===================================================================  ==================================
    disabled  the job is switched off                                              its last change (or start)
    lost      a RUNNING execution's process is gone, or it exceeded its timeout    that execution's start
    late      its time passed more than 300 s ago, nothing has started, runs or    the time that passed
              waits since
    running   an execution is RUNNING                                              the oldest one's start
    waiting   an execution is PENDING                                              the oldest one's creation
    failing   the last finished execution is FAILURE or TIMEOUT                    the start of the first failure
    ok        an execution has started before                                      the start of the first success
                                                                                   after the last failure
    new       none has                                                             its creation
    ========  ===================================================================  ==================================
    """
    if not facts.is_enabled:
        return State.DISABLED, facts.changed_us
    lost_us = _lost_us(facts, now_us)
    if lost_us is not None:
        return State.LOST, lost_us
    late_from_us = facts.late_from_us
    if late_from_us is not None and facts.due_us is not None and now_us >= late_from_us:
        return State.LATE, facts.due_us
    if facts.running_us is not None:
        return State.RUNNING, facts.running_us
    if facts.waiting_us is not None:
        return State.WAITING, facts.waiting_us
    return _settled(facts)


def _lost_us(facts: Facts, now_us: int) -> int | None:
    """The start of the oldest lost execution."""
    overrun_from_us = facts.overrun_from_us
    if overrun_from_us is not None and now_us >= overrun_from_us:
        return facts.running_us
    return facts.gone_us


def _settled(facts: Facts) -> tuple[State, int]:
    """The state of a job of which nothing runs, waits or is late: by what finished last."""
    if facts.is_failing and facts.streak_us is not None:
        return State.FAILING, facts.streak_us
    if facts.last_run_us is None:
        return State.NEW, facts.created_us
    # After a prune of the whole history only the job itself remembers its last run.
    return State.OK, facts.last_run_us if facts.streak_us is None else facts.streak_us
