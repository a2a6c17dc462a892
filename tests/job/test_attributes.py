"""A user's job may use any attribute that `AbstractJob` lacks: attributes do not make a job a scheduler."""

from __future__ import annotations

import itertools
import sys
import traceback
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from trioflow import AbstractJob, CommandJob, Job, Retry, Scheduler, current_job
from trioflow.view import listing

SCHEDULERS_OWN = sorted(name for name in dir(Scheduler) if not name.startswith("_") and not hasattr(AbstractJob, name))


class Busy(AbstractJob[int]):
    """A user's job that names its attributes like those of a scheduler."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(**options)
        setattr(self, name, 7)

    async def co_run(self) -> int:
        await anyio.lowlevel.checkpoint()
        return 1


def test_a_job_may_have_attributes_with_the_names_of_scheduler_attributes(backend: str) -> None:
    """Attributes such as `critical_jobs` do not make a job a scheduler: it runs, and every view shows it as a job."""
    jobs = {name: Busy(name, label=f"busy-{name}") for name in SCHEDULERS_OWN}
    scheduler = Scheduler(Scheduler(*jobs.values(), label="inner"), label="outer")
    assert scheduler.is_runnable()
    assert scheduler.run(backend=backend)  # type: ignore[arg-type]
    source, listed = scheduler.graph().source, listing(scheduler)
    for name, job in jobs.items():
        assert job.path == f"inner/busy-{name}"
        assert f"busy-{name}" in source
        assert f"<Busy busy-{name}>" in listed
        assert scheduler.explain(job).startswith(f"'busy-{name}' succeeded")


@pytest.mark.parametrize("make", [lambda: Job(anyio.sleep, 1), Scheduler])
def test_setting_an_unknown_attribute_of_a_job_or_scheduler_raises(make: Callable[[], Any]) -> None:
    """A misspelt option set as an attribute, such as `job_windows`, raises instead of being ignored silently."""
    job = make()
    with pytest.raises(AttributeError, match="job_windows") as caught:
        job.job_windows = 3
    if sys.version_info >= (3, 13) and make is Scheduler:
        text = "".join(traceback.format_exception(caught.value))
        assert "jobs_window'" in text.partition("Did you mean")[2]  # the words differ between versions of Python
    assert "job_windows" not in dir(job)


@pytest.mark.parametrize("base", [AbstractJob, Job, CommandJob, Scheduler])
def test_a_job_class_that_hides_an_attribute_of_all_jobs_raises(base: type[AbstractJob[Any]]) -> None:
    """A class with its own `state`, `label` or the like is rejected: views would show wrong values for its jobs."""
    values: list[object] = [5, property(lambda job: 5), lambda job: 5]
    for name, value in itertools.product(["state", "label", "timeout", "path", "attempts", "_state"], values):
        with pytest.raises(AttributeError, match=rf"class Hiding: '{name}' hides (AbstractJob|BaseScheduler).{name}; "):
            type("Hiding", (base,), {name: value})


def test_a_class_of_a_package_with_a_similar_name_is_checked_too() -> None:
    """A package named `trioflow_extras` is a user's: its classes may hide no attribute of jobs."""
    with pytest.raises(AttributeError, match="state"):
        type("Hiding", (AbstractJob,), {"__module__": "trioflow_extras", "state": 5})


@pytest.mark.parametrize("name", ["cancel", "is_running", "requires", "co_run"])
def test_a_job_class_may_override_a_method_only_with_a_function(name: str) -> None:
    """A number in place of a method such as `cancel` raises when the class is created, while a function is accepted."""
    with pytest.raises(AttributeError, match=rf"class Hiding: '{name}' hides \w+.{name}; choose another name"):
        type("Hiding", (Job,), {name: 5})
    type("Deriving", (Job,), {name: lambda job: None})


def test_a_job_with_scheduler_like_attributes_may_be_added_during_the_run(backend: str) -> None:
    """A job added during the run is not mistaken for a scheduler because of an attribute such as `iterate_jobs`."""
    late: list[Busy] = []

    async def adding() -> None:
        scheduler: Any = current_job().scheduler
        for name in SCHEDULERS_OWN:
            late.append(scheduler.add(Busy(name)))

    scheduler = Scheduler(Job(adding))
    assert scheduler.run(backend=backend)  # type: ignore[arg-type]
    assert [job.result() for job in late] == [1] * len(SCHEDULERS_OWN)
    assert len(scheduler) == 1 + len(SCHEDULERS_OWN)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout", 5), ("idle_timeout", 5), ("own_task", True), ("retry", Retry(2)),
        ("run_if", "failed"), ("save", "pickle"), ("priority", 3), ("expected_duration", 2.0), ("needs", {"cpu": 1}),
        ("keep_result", False), ("redact", True), ("critical", True), ("forever", True),
    ],
)  # fmt: skip
def test_an_option_can_be_reset_to_its_default(name: str, value: Any) -> None:
    job = Job(anyio.sleep, 0, **{name: value})
    usual = getattr(Job(anyio.sleep, 0), name)
    assert getattr(job, name) == value != usual
    setattr(job, name, usual)
    assert getattr(job, name) == usual


def test_requires_returns_the_job() -> None:
    job, other = Job(anyio.sleep, 0), Job(anyio.sleep, 0)
    assert job.requires(other) is job
    assert job.requires(other, remove=True) is job
    assert job.required == set()
