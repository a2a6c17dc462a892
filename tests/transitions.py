"""Each write of a job's state, in any test, is checked against the table of transitions; its function is recorded.

An assertion that fails in a job is recorded too: a job's failure alone fails no test."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any
from trioflow import AbstractJob, JobState
from trioflow._core.base._states import TRANSITIONS

# The hot loop calls `CheckedState.write`. By this name it is part of the engine, where no signal handler raises.
__name__ = "trioflow.tests.transitions"
TESTS = Path(__file__).parent
CHECKS = {TESTS / "testing/kinds.py"}
RESET = "_core.job._job", "AbstractJob._reset"
LEGAL = {
    (id(old), id(new)) for old, edges in TRANSITIONS.items() for new in edges.values()
}
"""The table by the identities of states: tests write a million of them, and an `Enum` is hashed by a function."""

WRITERS = {
    ("_core.job._job", "AbstractJob._initialize"): {JobState.IDLE},
    RESET: {JobState.IDLE},
    ("_core.run._reopening", "wait_again"): {JobState.IDLE},
    ("_core.run._steps", "requeue"): {JobState.SCHEDULED},
    ("_core.run._steps", "ready"): {JobState.SCHEDULED},
    ("_core.run._steps", "settle"): {state for state in JobState if state.is_settled},
    ("_core.run._worker", "Worker.work"): {JobState.RUNNING},
}
"""The functions of the package that write a job's state, each with its module, and which states; nobody else may."""


class IllegalStep(AssertionError):
    """A job's state was written against the table."""


class CheckedState:
    """What checks each write of the slot `AbstractJob._state`, whose reads go through. An illegal step raises
    immediately. It is kept in `illegal` too, in case the exception is swallowed. `assertions` has the failed assertions
    of jobs. `writers` has the functions of the package that have written a state."""

    def __init__(self, slot: Any) -> None:
        self.slot = slot
        self.illegal: list[str] = []
        self.assertions: list[str] = []
        self.writers: set[tuple[str, str]] = set()
        # By the identity of code, because to hash it takes long; with the identities of the states that it may write.
        self._writers: dict[int, tuple[CodeType, str, tuple[str, str], set[int]]] = {}

    def write(self, job: AbstractJob[Any], state: JobState) -> None:
        try:
            old: JobState | None = self.slot.__get__(job)
        except AttributeError:
            old = None
        frame = sys._getframe(1)
        code = frame.f_code
        if id(code) not in self._writers:
            package, _, module = frame.f_globals["__name__"].partition(".")
            allowed = WRITERS.get((module, code.co_qualname), set(JobState))
            self._writers[id(code)] = (
                code,
                package,
                (module, code.co_qualname),
                {id(state) for state in allowed},
            )
        _, package, writer, own = self._writers[id(code)]
        if package == "trioflow":
            self.writers.add(writer)
        is_first = old is None or writer == RESET
        if id(state) not in own or not (
            state is JobState.IDLE if is_first else (id(old), id(state)) in LEGAL
        ):
            step = f"{job._label!r}: {old} -> {state}"
            self.illegal.append(step)
            raise IllegalStep(step)
        if state is JobState.FAILED:
            self._note(job)
        self.slot.__set__(job, state)

    def _note(self, job: AbstractJob[Any]) -> None:
        error = getattr(job._outcome, "exception", None)
        if isinstance(error, AssertionError):
            where = [
                frame.f_code.co_filename
                for frame, _ in traceback.walk_tb(error.__traceback__)
            ]
            # not one of the examples in the documentation, nor what `check_kind` finds
            if (
                where
                and Path(where[-1]).is_relative_to(TESTS)
                and Path(where[-1]) not in CHECKS
            ):
                self.assertions.append(f"{job._label!r}: {error}")


@contextmanager
def checked() -> Iterator[CheckedState]:
    """Check all writes until the end of the block."""
    slot: Any = AbstractJob._state
    watch = CheckedState(slot)
    # A property reads in C: a function for each of a million reads takes as long as all writes.
    checked_slot: Any = property(slot.__get__, watch.write)
    AbstractJob._state = checked_slot
    try:
        yield watch
    finally:
        AbstractJob._state = slot


def lead_to(state: JobState, job: AbstractJob[Any]) -> None:
    """Put an IDLE job into a state, by a shortest path through the table of transitions."""
    ways: dict[JobState, list[JobState]] = {JobState.IDLE: []}
    for here in (reached := [JobState.IDLE]):
        for there in {*TRANSITIONS[here].values()} - ways.keys():
            ways[there] = [*ways[here], there]
            reached.append(there)
    for step in ways[state]:
        job._state = step
