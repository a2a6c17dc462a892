"""Each write of a job's state, in any test, is checked against the table of transitions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trioflow import AbstractJob, JobState
from trioflow._core._states import TRANSITIONS


class IllegalStep(AssertionError):
    """A job's state was written against the table."""


class CheckedState:
    """Stands in for the slot `AbstractJob._state`: reads through, and looks at each write.

    An illegal step raises there and then. It is kept in `illegal` too, in case whoever made it swallows that.
    """

    def __init__(self, slot: Any) -> None:
        self.slot = slot
        self.illegal: list[str] = []

    def __get__(self, job: AbstractJob[Any] | None, owner: type | None = None) -> Any:
        return self if job is None else self.slot.__get__(job, owner)

    def __set__(self, job: AbstractJob[Any], state: JobState) -> None:
        try:
            old: JobState | None = self.slot.__get__(job)
        except AttributeError:
            old = None
        if not self._is_legal(old, state, sys._getframe(1).f_code is AbstractJob._reset.__code__):
            step = f"{job._label!r}: {old} -> {state}"
            self.illegal.append(step)
            raise IllegalStep(step)
        self.slot.__set__(job, state)

    @staticmethod
    def _is_legal(old: JobState | None, new: JobState, in_reset: bool) -> bool:
        if old is None or in_reset:
            return new is JobState.IDLE
        return new in TRANSITIONS[old]


@contextmanager
def checked() -> Iterator[CheckedState]:
    """Check all writes until it is left."""
    slot: Any = AbstractJob._state
    watch: Any = CheckedState(slot)
    AbstractJob._state = watch
    try:
        yield watch
    finally:
        AbstractJob._state = slot
