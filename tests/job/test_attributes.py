"""A user's job may use any attribute that `AbstractJob` lacks: attributes do not make a job a scheduler."""

import itertools
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import anyio
import anyio.lowlevel
import pytest
from trioflow import AbstractJob, CommandJob, Job, Retry, Scheduler, Trace, current_job
from trioflow._core.job._job import is_job
from trioflow.view import listing
from ..bodies import nothing
from ..places import PATIENCE

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


# --- objects whose `__class__` is not their type, such as mocks and lazy proxies: their type alone says what is a job
class Proxy:
    """A lazy proxy outside of its context."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("outside of its context")

    @__class__.setter  # the type of `object.__class__` allows it to be set
    def __class__(self, _: Any) -> None: ...


async def same(value: Any) -> Any:
    return value


LIKE_JOBS: dict[str, Callable[[], Any]] = {  # pytest would look at the objects themselves
    "job": lambda: Mock(spec=Job),
    "scheduler": lambda: Mock(spec=Scheduler),
    "any": lambda: Mock(spec=AbstractJob),
    "mock": Mock,
    "proxy": Proxy,
}


@pytest.mark.parametrize("name", LIKE_JOBS)
def test_what_only_says_to_be_a_job_is_a_value(backend: str, name: str) -> None:
    """A run with `Mock(spec=Job)` as an argument looked for the outermost of its endless schedulers, without an end."""
    value = LIKE_JOBS[name]()
    jobs = [
        Job(same, value),
        Job(same, [value]),
        Job(same, {"key": value}),
        Job(same, required=None, kwargs={"value": value}),
    ]
    last = Job(same, jobs[0])
    scheduler = Scheduler(jobs, last)
    assert scheduler.run(backend=backend, instruments=[Trace()])
    assert jobs[0].result() is last.result() is value
    assert jobs[1].result()[0] is jobs[2].result()["key"] is jobs[3].result() is value
    assert "same" in listing(scheduler)
    scheduler.debrief()


@pytest.mark.parametrize("name", ["job", "scheduler", "any", "proxy"])
def test_what_only_says_to_be_a_job_is_no_member_and_no_requirement(name: str) -> None:
    value = LIKE_JOBS[name]()
    for call in (
        lambda: Scheduler(value), lambda: Job(nothing, required=value), lambda: Job(nothing, required=[value]),
        lambda: Job(nothing).requires(value), lambda: Scheduler().explain(value),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=r"is not a job|give a job"):
            call()
    with pytest.raises(KeyError):
        Scheduler().remove(value)
    assert not is_job(value)


SPIN = """
import signal, sys
from trioflow import AbstractJob, Scheduler

class Spin(AbstractJob):
    def check_before_run(self):
        print("checks", flush=True)
        while True:
            pass
    async def co_run(self):
        pass

def alarm(*_):
    raise TimeoutError

signal.signal(signal.SIGALRM, alarm)
try:
    Scheduler(Spin()).run(backend=sys.argv[1])
except BaseException as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGALRM, "TimeoutError")])
def test_the_check_before_a_run_hears_signals(backend: str, number: int, error: str) -> None:
    """What a user's object makes long ended by SIGKILL alone: Ctrl-C and what a handler raises waited for the loop."""
    with subprocess.Popen([sys.executable, "-c", SPIN, backend], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "checks\n"
        process.send_signal(number)
        assert process.communicate(timeout=PATIENCE)[0] == f"{error}\n"
