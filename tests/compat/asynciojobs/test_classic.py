"""The early names of asynciojobs: programs in the style of its notebooks."""

import asyncio
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
import anyio
import pytest
from trioflow.compat import asynciojobs_classic
from trioflow.compat.asynciojobs_classic import (
    Engine,
    PrintJob,
    Scheduler,
    SchedulerJob,
    Sequence,
)
from trioflow.compat.asynciojobs_classic.engine import AbstractJob, Job
from trioflow.compat.asynciojobs_classic.engine import Engine as EngineOfModule
from trioflow.testing import run_virtual
from ...bodies import at_once
from .bodies import give

BUS = '''
import asyncio
from trioflow.compat.asynciojobs_classic import Engine, Job, Sequence, Watch
from trioflow.compat.asynciojobs_classic.engine import AbstractJob

class BusJob(AbstractJob):
    """A job that says on a message bus what it does."""

    def __init__(self, bus, label, duration=0.01, **options):
        self.bus, self.duration = bus, duration
        super().__init__(label=label, **options)

    async def co_run(self):
        await self.bus.put(f"{self.label} begins")
        await asyncio.sleep(self.duration)
        await self.bus.put(f"{self.label} ends")
        return self.label

    async def co_shutdown(self):
        seen.append(f"{self.label} is shut down")

seen = []
bus = asyncio.Queue()

async def monitor():
    while True:
        seen.append(await bus.get())

prepare, left, right, collect = [BusJob(bus, name) for name in ("prepare", "left", "right", "collect")]
left.requires(prepare)
right.requires(prepare)
engine = Engine(Sequence(prepare), left, right, Job(monitor(), forever=True, label="monitor"))
engine.add(collect.requires((left, right)))
'''


def test_requirements_may_be_given_at_creation_by_either_name() -> None:
    """The constructors accept requirements as `requires=`, like the method, or as `required=`, like the attribute."""
    first, second, third = (Job(give(number)) for number in range(3))
    last = Job(give(3), requires=(first, second), required=third)
    printed = PrintJob("x", requires=last)
    row = Sequence(Job(give(4)), Job(give(5)), requires=[printed])
    nested = SchedulerJob(Job(give(6)), requires=row)
    assert last.required == {first, second, third}
    assert (printed.required, row.jobs[0].required, nested.required) == (
        {last},
        {printed},
        {row.jobs[-1]},
    )
    assert Scheduler(first, second, third, last, printed, row, nested).run()


def test_str_of_a_job_shows_labels_of_requirements_until_they_have_numbers() -> None:
    """In the text of a job, requirements without a number once appeared as question marks."""
    first, unnamed = Job(give(1), label="first"), Job(give(2))
    last = Job(give(3), label="last", requires=[first, unnamed])
    assert (
        str(last)
        == "    ⚐   <Job `last`> [not done] requires={`Job[give (...)]`, `first`}"
    )
    assert Scheduler(first, unnamed, last).run()
    assert str(last) == "  ☉ ☓   <Job `last`> [[ -> 3]] requires={1, 2}"


async def _tick() -> None:
    await asyncio.Event().wait()


def test_cancelled_jobs_are_not_shown_as_running(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ticker, late = (
        Job(_tick(), forever=True, label="ticker"),
        Job(asyncio.sleep(1000), label="late"),
    )
    scheduler = Scheduler(Job(give(1), label="give"), ticker)
    assert scheduler.run()
    scheduler.list()
    assert (
        capsys.readouterr().out.splitlines()[0]
        == "1   ☉ ☓ ∞ <Job `ticker`> [cancelled]"
    )
    assert (scheduler.stats(), str(scheduler)) == (
        "1D + 0R + 0I + 1C = 2",
        "Scheduler with 1 done + 0 ongoing + 0 idle + 1 cancelled = 2 job(s)",
    )
    assert not ticker.is_done()
    assert not run_virtual(
        partial(Engine(late).co_orchestrate, timeout=1), backend="asyncio"
    )
    assert "☓" in str(late)
    assert "[cancelled]" in str(late)


async def fail() -> None:
    raise KeyError("lost")


def test_a_program_with_a_message_bus_and_a_forever_monitor_works(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A forever job that reads a message bus gets the last message, and all jobs are shut down once."""
    space: dict[str, Any] = {}
    exec(BUS, space)
    engine, seen = space["engine"], space["seen"]
    assert engine.rain_check()
    assert engine.orchestrate(loop=None, timeout=10)
    engine.shutdown()
    assert seen[:2] == ["prepare begins", "prepare ends"]
    assert seen[6:8] == ["collect begins", "collect ends"]
    assert sorted(seen[8:]) == [
        f"{name} is shut down" for name in ("collect", "left", "prepare", "right")
    ]
    assert len(seen) == 12
    assert [
        space["collect"].is_done(),
        space["collect"].result(),
        space["collect"].raised_exception(),
    ] == [
        True,
        "collect",
        None,
    ]
    engine.list()
    assert (
        capsys.readouterr().out.splitlines()[-1]
        == "5   ☉ ☓   <BusJob `collect`> [[ -> collect]] requires={3, 4}"
    )


def test_the_early_names_work_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook, whose cells run in an event loop, `orchestrate` works, and so does `await co_orchestrate()`."""
    shell = SimpleNamespace(kernel=None)
    monkeypatch.setitem(
        sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell)
    )

    async def cells() -> None:
        exec(BUS, space)
        assert space["engine"].orchestrate(loop=asyncio.get_running_loop())
        jobs = [Job(give(n), label=str(n)) for n in range(4)]
        assert await Engine(Sequence(*jobs)).co_orchestrate(timeout=5)
        assert [job.result() for job in jobs] == [0, 1, 2, 3]

    space: dict[str, Any] = {}
    asyncio.run(cells())
    assert len(space["seen"]) == 12


def test_modules_have_the_names_that_notebooks_import() -> None:
    """The module `engine` and all names of the package exist, because notebooks import them."""
    assert EngineOfModule is Engine
    assert asynciojobs_classic.AbstractJob is AbstractJob
    for name in asynciojobs_classic.__all__:
        assert getattr(asynciojobs_classic, name).__module__.startswith(
            "trioflow.compat.asynciojobs"
        )


def test_nothing_is_critical_by_default() -> None:
    failed, other = Job(fail(), label="failed"), Job(give(1))
    assert Engine(Sequence(failed, other)).orchestrate()
    assert type(failed.raised_exception()) is KeyError
    assert other.result() == 1
    assert not any(
        job.is_critical() for job in (failed, PrintJob(), SchedulerJob(), AbstractJob())
    )


@pytest.mark.parametrize(
    ("of_job", "of_engine"), [(True, False), (False, True), (True, True)]
)
def test_a_critical_failure_makes_the_run_return_false(
    of_job: bool, of_engine: bool
) -> None:
    failed, cut = Job(fail(), critical=of_job), Job(give(1, 9.0))
    engine = Engine(failed, cut, critical=of_engine)
    assert run_virtual(engine.co_orchestrate, backend="asyncio") is False
    assert engine.failed_critical()
    assert failed.is_critical()
    assert not cut.is_done()


def test_timeout_and_window_given_to_a_run_count_for_that_run_only() -> None:
    async def timed(**options: Any) -> tuple[bool, float]:
        start = anyio.current_time()
        jobs = [Job(give(1, 1.0)) for _ in range(4)]
        return await Scheduler(*jobs).co_run(**options), anyio.current_time() - start

    async def main() -> list[tuple[bool, float]]:
        return [
            await timed(),
            await timed(jobs_window=2),
            await timed(jobs_window=1, timeout=2.5, loop=None),
        ]

    assert run_virtual(main, backend="asyncio") == [
        (True, 1.0),
        (True, 2.0),
        (False, 2.5),
    ]
    assert Scheduler(Job(give(1, 9.0))).run(timeout=0.01, jobs_window=3) is False
    assert Engine(Job(give(1, 9.0))).orchestrate(None, 0.01) is False


def test_the_given_event_loop_is_used() -> None:
    """A run uses the given event loop, so that futures created in that loop before still work."""
    loop = asyncio.new_event_loop()
    try:
        future = loop.create_future()
        loop.call_later(0.01, future.set_result, "from before")

        async def look() -> Any:
            return await future

        job = Job(look())
        assert Scheduler(job).run(loop=loop)
        assert job.result() == "from before"
    finally:
        loop.close()


def test_a_critical_nested_scheduler_job_ends_the_outer_run() -> None:
    """If a critical SchedulerJob fails, the outer run returns False, and so does its own if it is run alone."""
    for critical in (False, True):
        inner = SchedulerJob(
            Job(fail(), critical=True), critical=critical, label="inner"
        )
        after = Job(give(1), required=inner)
        assert Scheduler(inner, after).run() is not critical
        assert after.is_done() is not critical
        after.close()
    assert SchedulerJob(Job(fail(), critical=True), critical=True).run() is False
    assert Scheduler(SchedulerJob(Job(give(1)), label="inner", timeout=5)).run()


def test_coshutdown_and_exports_work_by_their_early_names(tmp_path: Path) -> None:
    notes: list[str] = []
    scheduler = Scheduler(Job(give(1), at_once(lambda: notes.append("down"))))
    scheduler.save_as_dotfile(tmp_path / "a.dot")
    scheduler.export_as_dotfile(tmp_path / "b.dot")
    assert (tmp_path / "a.dot").read_text() == (tmp_path / "b.dot").read_text()
    assert scheduler.run()
    assert notes == ["down"]
