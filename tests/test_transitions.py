"""The watch over states, which every test is under, does catch what it is there for."""

from __future__ import annotations

from typing import Any

import pytest

from trioflow import AbstractJob, JobState
from trioflow._core._states import TRANSITIONS

from .transitions import CheckedState, IllegalStep


@pytest.mark.parametrize("new", JobState)
@pytest.mark.parametrize("old", JobState)
def test_only_steps_of_the_table_pass(checked_states: CheckedState, old: JobState, new: JobState) -> None:
    """A step that is not in the table raises, is kept for the end of the test, and writes nothing."""
    job: AbstractJob[Any] = AbstractJob(label="mine")
    checked_states.slot.__set__(job, old)
    if new in TRANSITIONS[old]:
        job._state = new
        assert job.state is new
    else:
        with pytest.raises(IllegalStep, match=rf"'mine': {old} -> {new}"):
            job._state = new
        assert job.state is old
        assert len(checked_states.illegal) == 1
        checked_states.illegal.clear()


@pytest.mark.parametrize("old", JobState)
def test_reset_takes_any_job_back_to_idle(checked_states: CheckedState, old: JobState) -> None:
    """Whatever became of a job, a new run may forget it."""
    job: AbstractJob[Any] = AbstractJob()
    checked_states.slot.__set__(job, old)
    job._reset()
    assert job.state is JobState.IDLE
