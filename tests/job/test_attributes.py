"""A user's job may use any attribute that `AbstractJob` lacks: attributes do not make it a scheduler."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from trioflow import AbstractJob, Job, Scheduler, current_job

SCHEDULERS_OWN = sorted(name for name in dir(Scheduler) if not name.startswith("_") and not hasattr(AbstractJob, name))


class Busy(AbstractJob[int]):
    """A user's job that names its attributes like those of a scheduler."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(**options)
        setattr(self, name, 7)

    async def co_run(self) -> int:
        await anyio.lowlevel.checkpoint()
        return 1


@pytest.mark.parametrize("name", SCHEDULERS_OWN)
def test_a_job_may_have_attributes_named_like_a_schedulers(backend: str, name: str) -> None:
    """Attributes such as `critical_jobs` do not make a job a scheduler: it runs, and every view shows it as a job."""
    job = Busy(name, label="busy")
    scheduler = Scheduler(Scheduler(job, label="inner"), label="outer")
    assert scheduler.rain_check()
    assert scheduler.run(backend=backend)  # type: ignore[arg-type]
    assert job.path == "inner/busy"
    assert "busy" in scheduler.graph().source
    assert "<Busy `busy`>" in scheduler.listing()
    assert scheduler.explain(job).startswith("'busy' succeeded")


@pytest.mark.parametrize("name", SCHEDULERS_OWN)
def test_such_a_job_may_be_added_late(backend: str, name: str) -> None:
    """A job with an attribute `iterate_jobs` was taken for a scheduler where it was added while the run was on."""

    async def adding() -> None:
        scheduler: Any = current_job().scheduler
        scheduler.add(Busy(name))

    scheduler = Scheduler(Job(adding))
    assert scheduler.run(backend=backend)  # type: ignore[arg-type]
    assert len(scheduler) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout", 5), ("idle_timeout", 5), ("own_task", True), ("retry", 2),
        ("run_if", "failed"), ("save", "pickle"), ("priority", 3), ("expected_duration", 2.0), ("needs", {"cpu": 1}),
        ("keep_result", False), ("redact", True), ("critical", True), ("forever", True),
    ],
)  # fmt: skip
def test_an_option_can_be_set_back_to_what_is_usual(name: str, value: Any) -> None:
    """Then the job is as one that was never given it."""
    job = Job(anyio.sleep, 0, **{name: value})
    usual = getattr(Job(anyio.sleep, 0), name)
    assert getattr(job, name) == value != usual
    setattr(job, name, usual)
    assert getattr(job, name) == usual


def test_requires_returns_the_job() -> None:
    """So that it can be told while it is added: `scheduler.add(job.requires(other))`."""
    job, other = Job(anyio.sleep, 0), Job(anyio.sleep, 0)
    assert job.requires(other) is job
    assert job.requires(other, remove=True) is job
    assert job.required == set()
