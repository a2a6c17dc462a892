"""A job that is counted twice is an error of the engine, told at once: the run would hang, or end too early."""

from typing import Any
import anyio
import pytest
from trioflow import Job, Scheduler
from trioflow._core.run._run_counts import RunCounts
from ..bodies import CANCELLED, SUCCEEDED, fail_now, nothing


@pytest.mark.parametrize("body", [nothing, fail_now])
def test_an_end_too_many_ends_the_run(
    body: Any, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunCounts, "begin", lambda *_: None)
    scheduler = Scheduler(Job(body, label="one"), Job(body, label="two"), log=False)
    with pytest.raises(AssertionError, match="was counted twice: unsettled -1, "):
        scheduler.run(backend=backend)


@pytest.mark.parametrize("forever", [False, True])
@pytest.mark.parametrize("state", [SUCCEEDED, CANCELLED])
def test_each_end_follows_a_beginning(forever: bool, state: Any) -> None:
    counts, job = RunCounts(), Job(nothing, label="one", forever=forever)
    counts.add(job)
    assert (counts.unsettled, counts.forever_unsettled, counts.had_ordinary_jobs) == (
        not forever,
        forever,
        not forever,
    )
    counts.end(job, state)
    assert (counts.unsettled, counts.forever_unsettled, counts.all_succeeded) == (
        0,
        0,
        state is SUCCEEDED,
    )
    assert counts.cancelled == (state is CANCELLED and not forever)
    with pytest.raises(AssertionError, match="'one' was counted twice"):
        counts.end(job, state)


def test_what_is_tried_again_has_ended_before() -> None:
    counts, job = RunCounts(), Job(anyio.sleep, 9, label="one")
    counts.add(job)
    Scheduler(job, timeout=0.01).run()
    assert job.state is CANCELLED
    with pytest.raises(
        AssertionError,
        match="'one' was counted twice: unsettled 2, forever_unsettled 0, cancelled -1",
    ):
        counts.begin_again(job)
