"""The timeout of a scheduler names what its jobs waited for."""

import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.lowlevel
import pytest
from trioflow import Answer, Job, JobTimeout, Pool, ProcessJob, Rate, Retry, Scheduler, Service, Trace, current_job
from trioflow.abc import AbstractJob, Instrument, incidents_of
from ..bodies import at_once, fail_now, later, nap, printed, running, serve
from ..conftest import Virtual


@pytest.mark.parametrize("limit", ["timeout", "idle_timeout"])
@pytest.mark.parametrize(
    ("options", "needs", "text"),
    [
        ({}, {"api": 1}, "2 of 2 jobs waited for the rate 'api'"),
        ({}, {"cpu": 1}, "1 of 2 jobs waited for the resource 'cpu'"),
        ({"jobs_window": 1}, None, "1 of 2 jobs waited for a slot"),
        ({}, None, ""),
    ],
)
def test_a_timeout_names_the_waits(virtual: Virtual, options: Any, needs: Any, text: str, limit: str) -> None:
    """A nested scheduler's `JobTimeout`, and that of `check=True`, count the jobs by what they waited for."""
    pool = Pool(api=Rate(requests=1, per=60), cpu=1)

    def make(seconds: float | None) -> Scheduler:
        jobs = [Job(nap, 9, needs=needs) for _ in range(2)]
        return Scheduler(jobs, label="waiting", **{limit: seconds}, **options)

    async def both() -> list[JobTimeout]:
        await Scheduler(Job(nap, 0, needs=needs), pool=pool).co_run()  # takes the only request
        inner, outer = make(2), make(2)
        assert not await Scheduler(inner, pool=pool).co_run()
        outer.pool = pool
        with pytest.raises(JobTimeout) as raised:
            await outer.co_run(check=True)
        error = inner.raised_exception()
        assert isinstance(error, JobTimeout)
        return [error, raised.value]

    for error in virtual(both):
        assert error.waits == text
        assert text in str(error)
        assert ("waited" in str(error)) is bool(text)


# --- each wait for something that may never come is named: by the log, after a second, and by `explain` and the views

PAGE = Path(__file__).parents[2] / "docs" / "explained" / "time.md"


class Wait(NamedTuple):
    """What is said of a wait; empty where nothing is."""

    log: str
    explained: str
    listed: str


WAITS = {
    "limiter": Wait(
        "no job of 's' runs: 'j' waits for a token of the window of 's': its limiter is exhausted, with 1 elsewhere",
        "'j' waits for a token of the window of 's': its limiter is exhausted, with 1 elsewhere",
        "no free token",
    ),
    "pool": Wait(
        "no job of 's' runs: 'j' waits for x: 1 of 1 taken by 'a'",
        "'j' waits for x: 1 of 1 taken by 'a'",
        "x: 1 of 1 taken by 'a'",
    ),
    "pause": Wait(
        "no job of 's' runs: 'j' waits for a resume: its run was paused 1 s ago",
        "'j' waits for a resume: its run was paused 3 s ago",
        "paused 3 s ago",
    ),
    "service": Wait(
        "no job of 's' runs: 'j' waits for x: 1 of 2 taken by 'service'",
        "'j' waits for x: 1 of 2 taken by 'service'",
        "x: 1 of 2 taken by 'service'",
    ),
    "question": Wait("'j' asks: really?", "'j' has been running for 3 s, and asks: really?", "asks: really?"),
    "executor": Wait("", "'j' has been running for 3 s (called by Lost)", "called by Lost"),
    "circle": Wait(
        "'a' awaits 'b', which needs what is held by 'j', but holds what 'j' needs: "
        "'j' waits for a token of the window of 's': its limiter is exhausted, with 'a'",
        "'j' waits for a token of the window of 's': its limiter is exhausted, with 'a'",
        "no free token",
    ),
}


class Lost(Executor):
    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        return Future()


Look = Callable[[Scheduler, AbstractJob[Any]], Awaitable[None]]


async def limiter(look: Look) -> None:
    window = anyio.CapacityLimiter(1)
    async with window:
        job = Job(nap, label="j")
        await look(Scheduler(job, jobs_window=window, label="s"), job)


async def pool(look: Look) -> None:
    shared, job = Pool(x=1), Job(nap, needs={"x": 1}, label="j")
    async with running(Scheduler(Job(nap, 9, needs={"x": 1}, label="a"), pool=shared)):
        await anyio.lowlevel.checkpoint()
        await look(Scheduler(job, pool=shared, label="s"), job)


async def pause(look: Look) -> None:
    job, service = Job(nap, label="j"), Service(serve)
    scheduler = Scheduler(service, label="s")
    job.requires(scheduler.add(Job(at_once, scheduler.pause, required=service)))
    scheduler.add(job)
    await look(scheduler, job)


async def service(look: Look) -> None:
    has = Service(serve, needs={"x": 1}, label="service")
    failed = Job(fail_now, required=has, log=False)
    job = Job(nap, needs={"x": 2}, run_if="failed", required=failed, label="j")
    await look(Scheduler(has, failed, job, pool=Pool(x=2), label="s"), job)


async def question(look: Look) -> None:
    job = Answer("really?", label="j")
    await look(Scheduler(job, label="s"), job)


async def executor(look: Look) -> None:
    job = ProcessJob(sum, [1], label="j")
    await look(Scheduler(job, processes=Lost(), label="s"), job)


async def circle(look: Look) -> None:
    async def wait() -> None:
        await anyio.lowlevel.checkpoint()
        await last

    first, job = Job(wait, label="a"), Job(nap, needs={"x": 1}, label="j")
    last = Job(nap, needs={"x": 1}, label="b")
    await look(Scheduler(first, job, last, jobs_window=anyio.CapacityLimiter(1), pool=Pool(x=1), label="s"), job)


@pytest.mark.parametrize("wait", WAITS)
def test_each_wait_has_a_name(virtual: Virtual, caplog: pytest.LogCaptureFixture, wait: str) -> None:
    """A wait that may never end once stood still without a word."""
    told: list[list[str]] = []

    async def look(scheduler: Scheduler, job: AbstractJob[Any]) -> None:
        async with running(scheduler, 0.5):
            told.append([*caplog.messages])
            await anyio.sleep(2.5)
            told.extend([[*caplog.messages], [scheduler.explain(job)], [printed(scheduler, None, details=True)]])
            caplog.clear()
            scheduler.cancel()

    virtual(globals()[wait], look)
    log, explained, listed = WAITS[wait]
    before, after, explanation, (listing,) = told
    after = [message.partition("; it is in no journal: ")[0] for message in after]  # which names this process
    assert (before, after, explanation) == ([], [log] if log else [], [explained])
    assert listed in listing


def test_a_question_is_no_incident(virtual: Virtual, capsys: pytest.CaptureFixture[str]) -> None:
    """A debrief had "incident at approve" of a run in which nothing went wrong."""
    approve = Answer("publish?", label="approve")
    scheduler = Scheduler(approve, Job(later, 3, lambda: approve.answer("yes")))
    assert virtual(scheduler.co_run)
    scheduler.debrief()
    # That somebody has answered is a word from outside.
    assert [incident.is_steering for incident in incidents_of(scheduler)] == [True]
    assert "incident" not in capsys.readouterr().out


def test_the_page_has_each_wait() -> None:
    """The table of waits says what the log says, or where it is silent, the views."""
    page = PAGE.read_text(encoding="utf-8")
    texts = [wait.log or wait.listed for wait in WAITS.values()]
    assert [text for text in texts if f"`{text}`" not in page] == []


def test_a_wait_that_time_ends_is_not_reported(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    async def pause_for_a_moment() -> None:
        scheduler.pause()
        await anyio.sleep(0.5)
        scheduler.resume()

    scheduler = Scheduler(Job(nap, 5))
    scheduler.add(Job(pause_for_a_moment))
    assert virtual(scheduler.co_run)
    assert caplog.messages == []


@pytest.mark.parametrize("is_inside", [False, True])
def test_a_paused_group_is_not_named_while_time_goes_on_with_another_job(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, is_inside: bool
) -> None:
    """The job waits for its next attempt, beside the group or in one of its own, and resumes the group then."""
    group = Scheduler(Job(nap, label="waits"), label="group")

    async def resume() -> None:
        if current_job().attempts == 1:
            group.pause()
            raise OSError
        group.resume()

    job = Job(resume, retry=Retry(1, first=5))
    assert virtual(Scheduler(Scheduler(job) if is_inside else job, group).co_run)
    assert caplog.messages == []


def test_a_pause_that_the_log_has_named_is_not_named_again(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    async def pause_for_long() -> None:
        assert scheduler._run is not None
        run = scheduler._run
        run.steering.set_pause(run, scheduler, True, "trioflow look, pid 7, user me")
        await anyio.sleep(3)
        scheduler.resume()

    scheduler = Scheduler(Job(nap, 1), Job(nap, 5, label="j"), jobs_window=1)
    scheduler.add(Job(pause_for_long, forever=True))
    assert virtual(scheduler.co_run)
    assert caplog.messages == []  # `steer` writes what it does


@pytest.mark.usefixtures("blocking_is_reported")
def test_an_instrument_that_blocks_the_loop_is_named_once(
    backend: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook that took long was named nowhere, or the job was."""

    class Slow(Instrument):
        def job_settled(self, scheduler: object, job: object) -> None:
            now[0] += 2

        def __repr__(self) -> str:
            return "Slow()"

    now = [time.monotonic()]
    monkeypatch.setattr("trioflow._core.run._instruments.time.monotonic", lambda: now[0])
    Scheduler(Job(nap, 0), Job(nap, 0), instruments=[Slow(), Trace()]).run(backend=backend)
    monkeypatch.undo()
    assert caplog.messages == ["Slow() blocked the event loop for 2.0 s in job_settled; do slow work in a thread"]
