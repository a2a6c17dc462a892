"""Timeouts of schedulers and of jobs: fail, be retried, move_on; nested schedulers, each of whose attempts is a run."""

import functools
import gc
import inspect
import itertools
import math
import os
import runpy
import time
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, NamedTuple
import anyio
import anyio.lowlevel
import pytest
import trio
import trioflow
from trioflow import (
    AbstractJob,
    Answer,
    Job,
    JobTimeout,
    Pool,
    Rate,
    Retry,
    Scheduler,
    Service,
    StopReason,
    Trace,
)
from trioflow._core.base._user_code import library_prefixes
from trioflow.abc import Instrument, incidents_of, run_of
from trioflow.view import listing
from .. import bodies
from ..bodies import (
    FAILED,
    SUCCEEDED,
    at_once,
    fail_now,
    later,
    nap,
    pass_time,
    printed,
    running,
    serve,
    timed,
)
from ..conftest import Virtual


# --- jobs
def test_job_timeout_fails_the_job(virtual: Virtual) -> None:
    job = Job(nap, 5, timeout=2, label="slow")
    after = Job(nap, 1, required=job, run_if="settled")
    scheduler = Scheduler(job, after)
    assert virtual(timed, scheduler) == (False, 3)
    assert job.state is FAILED
    assert job.timed_out is True
    assert job.elapsed == 2
    with pytest.raises(JobTimeout, match=r"'slow'.*2 s") as caught:
        job.result()
    assert isinstance(caught.value, TimeoutError)
    assert scheduler.timed_out is False


def test_job_cut_inside_its_own_nursery_fails_with_job_timeout(
    virtual: Virtual,
) -> None:
    job = Job(bodies.own_nursery, timeout=1)
    assert virtual(timed, Scheduler(job)) == (False, 1)
    assert isinstance(job.raised_exception(), JobTimeout)


def test_timeout_error_raised_by_the_body_is_an_ordinary_failure(
    virtual: Virtual,
) -> None:
    async def inside() -> None:
        with anyio.fail_after(0.5):
            await anyio.sleep(10)

    jobs = [
        Job(inside, timeout=2, retry=Retry(None, first=0, on=JobTimeout)),
        Job(
            lambda: Scheduler(Job(nap, 5)).co_run(timeout=1, check=True),
            timeout=2,
            on_timeout="move_on",
        ),
    ]
    assert virtual(timed, Scheduler(*jobs)) == (False, 1)
    assert [type(job.raised_exception()) for job in jobs] == [TimeoutError, JobTimeout]
    assert [job.timed_out for job in jobs] == [False, False]


@pytest.mark.both_backends
@pytest.mark.parametrize("again", ["the group", "the job"])
def test_what_has_moved_on_and_then_returned_has_succeeded(
    virtual: Virtual, again: str
) -> None:
    """A view calls it moved on only if its last attempt was ended by its timeout."""
    calls = itertools.count(1)

    async def answer() -> int:
        number = next(calls)
        await anyio.sleep(5 if number == 1 else 1)
        return number

    async def mend() -> None:
        await anyio.sleep(3)
        if again == "the job":
            job.try_again()
        elif group.attempts == 1:
            raise OSError

    job = Job(answer, timeout=2, on_timeout="move_on", label="job")
    group = Scheduler(job, Job(mend, label="mend"), retry=1, label="group")
    scheduler = Scheduler(group, log=False)
    assert virtual(scheduler.co_run)
    assert (job.result(), job.timed_out) == (2, True)
    assert "»" not in listing(scheduler)
    assert scheduler.explain(job) == "'job' succeeded after 3 s"


def test_timeout_between_runs_may_be_changed(virtual: Virtual) -> None:
    job = Job(nap, 2)
    scheduler = Scheduler(job)
    job.timeout = 1
    virtual(scheduler.co_run)
    assert job.state is FAILED
    job.timeout = None
    virtual(scheduler.co_run)
    assert job.state is SUCCEEDED
    with pytest.raises(ValueError, match="timeout"):
        job.timeout = 0


# --- schedulers
def test_timeout_just_after_the_end_does_not_affect_the_run(virtual: Virtual) -> None:
    scheduler = Scheduler(Job(nap, 1), timeout=1.25)
    assert virtual(timed, scheduler) == (True, 1)
    assert scheduler.timed_out is False


@pytest.mark.fast_way("asyncio")  # with direct isolation, jobs do not see it there
def test_effective_deadline_in_a_job_is_that_of_its_run_or_its_own_if_that_is_earlier(
    virtual: Virtual,
) -> None:
    first = Job(at_once, anyio.current_effective_deadline, timeout=5)
    second = Job(
        at_once, anyio.current_effective_deadline, required=first
    )  # in the same task
    third = Job(at_once, anyio.current_effective_deadline, timeout=30, required=second)
    virtual(Scheduler(first, second, third, timeout=20).co_run)
    assert (first.result(), second.result(), third.result()) == (5, 20, 20)


def test_a_run_leaves_no_deadline_behind() -> None:
    async def main() -> float:
        assert await Scheduler(
            *(Job(trio.lowlevel.checkpoint, timeout=100) for _ in range(5))
        ).co_run()
        return trio.lowlevel.current_statistics().seconds_to_next_deadline

    assert trio.run(main) == math.inf


def test_unused_deadlines_do_not_keep_a_run_alive(virtual: Virtual) -> None:
    """A long-lived loop forgets a run when the run is over, not when the timeouts of its jobs would have expired."""

    async def main() -> object:
        scheduler = Scheduler(
            *(Job(anyio.lowlevel.checkpoint, timeout=1000) for _ in range(5))
        )
        assert await scheduler.co_run()
        left = weakref.ref(scheduler)
        del scheduler
        gc.collect()
        return left()

    assert virtual(main) is None


def test_timeouts_of_jobs_that_have_ended_are_forgotten(virtual: Virtual) -> None:
    left = weakref.WeakSet[Lost]()

    async def main() -> None:
        async with Scheduler(keep_jobs=False, jobs_window=3) as scheduler:
            for _ in range(100):
                left.add(held := Lost())
                job = scheduler.add(Job(nap, 0, held, timeout=1000))
                del held
                await job.wait_settled()
                del job
            gc.collect()
            assert len(left) < 5

    virtual(main)


# ---- where a job was
def decorated(function: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    @functools.wraps(function)
    async def call() -> None:
        await function()

    return call


async def hang() -> None:
    await anyio.sleep_forever()  # here


@pytest.mark.parametrize("options", [{}, {"retry": 1}, {"own_task": True}])
@pytest.mark.parametrize("body", [hang, decorated(hang)], ids=["plain", "decorated"])
def test_the_timeout_error_names_the_line_where_the_job_was(
    virtual: Virtual, body: Callable[[], Awaitable[None]], options: dict[str, Any]
) -> None:
    """The timeout error names the innermost line of the user's code, not a library's or a decorator's."""
    job = Job(body, timeout=1, label="slow", **options)
    assert not virtual(Scheduler(job).co_run)
    error = job.raised_exception()
    assert isinstance(error, JobTimeout)
    number = inspect.getsourcelines(hang)[1] + 1
    assert (
        error.place
        == f"in hang at test_timeouts.py:{number} (await anyio.sleep_forever()  # here)"
    )
    where = f"it was {error.place}"
    assert str(error) == f"'slow' did not end within its timeout of 1 s; {where}"
    choices = [
        "on_timeout='move_on'",
        *(["retry="] if "retry" not in options else []),
    ]  # it advises what is not there
    assert error.__notes__ == [
        f"give it more time with timeout=, or choose {' or '.join(choices)}"
    ]


@pytest.mark.parametrize("folder", ["site-packages", "dist-packages"])
def test_the_timeout_error_names_no_line_of_a_package_of_the_user_or_the_system(
    virtual: Virtual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """In a virtual environment that includes such packages, a line of trio itself was named."""
    package = tmp_path / folder / "package.py"
    package.parent.mkdir()
    package.write_text("import anyio\nasync def wait():\n    await anyio.sleep(9)\n")
    monkeypatch.syspath_prepend(package.parent)
    library_prefixes.cache_clear()
    wait = runpy.run_path(str(package))["wait"]

    async def call() -> None:
        await wait()

    job = Job(call, timeout=1)
    virtual(Scheduler(job).co_run)
    assert "it was in call at test_timeouts.py" in str(job.raised_exception())


def test_the_timeout_error_of_a_job_without_user_code_names_no_line(
    virtual: Virtual,
) -> None:
    job = Job(anyio.sleep, 9, timeout=1, label="slow")
    assert not virtual(Scheduler(job).co_run)
    error = job.raised_exception()
    assert isinstance(error, JobTimeout)
    assert error.place is None
    assert str(error) == "'slow' did not end within its timeout of 1 s"


@pytest.mark.parametrize("kind", ["job", "group", "group of a group"])
@pytest.mark.parametrize("number", [1, 2])
def test_timed_out_tells_of_each_attempt_of_the_run(
    virtual: Virtual, kind: str, number: int
) -> None:
    seconds = [9.0] * number + [1.0]
    job: Any = Job(
        lambda: anyio.sleep(seconds.pop(0)),
        **({"timeout": 2, "retry": number} if kind == "job" else {}),
    )
    if kind != "job":
        job = Scheduler(
            Scheduler(job) if kind == "group of a group" else job,
            timeout=2,
            retry=number,
        )
    scheduler = Scheduler(job, log=False)
    assert virtual(scheduler.co_run)
    assert (job.timed_out, job.attempts, scheduler.timed_out) == (
        True,
        number + 1,
        False,
    )
    seconds.append(1.0)
    assert virtual(scheduler.co_run)
    assert (job.timed_out, job.attempts) == (False, 1)


@pytest.mark.parametrize("ends", ["returns", "raises"])
def test_a_call_that_ends_in_its_own_way_after_its_timeout_has_not_timed_out(
    virtual: Virtual, ends: str
) -> None:
    """The outcome follows what leaves the body: a value, or what the clean-up raised, is no timeout."""

    async def body() -> None:
        try:
            await anyio.sleep(9)
        except BaseException:
            if ends == "raises":
                raise OSError("the clean-up has failed") from None
            return

    job = Job(body, timeout=1)
    virtual(Scheduler(job).co_run)
    assert (job.is_succeeded(), job.timed_out) == (ends == "returns", False)
    assert isinstance(job.raised_exception(), OSError) is (ends == "raises")


@pytest.mark.parametrize("critical", ["fails", "is blocked"])
def test_what_fails_after_the_deadline_of_its_run_is_no_culprit(
    virtual: Virtual, backend: str, critical: str
) -> None:
    """A timeout has none, also where the loop was blocked at the deadline, and a critical job has stopped the run."""

    async def block() -> None:
        pass_time(backend, 2)
        raise OSError("too late")

    late = Job(block, critical=critical == "fails" or None)
    scheduler = Scheduler(late, Job(nap, 1, required=late, critical=True), timeout=1)
    assert not virtual(scheduler.co_run)
    assert (scheduler.stop_reason, scheduler.culprit) == (StopReason.TIMEOUT, None)


@pytest.mark.parametrize(
    "end",
    ["return", "follower", "nested follower", "cancel", "critical", "drain", "outer"],
)
def test_a_job_that_blocks_the_loop_beyond_the_deadline_ends_the_run_by_its_timeout(
    virtual: Virtual, end: str
) -> None:
    async def late() -> None:
        await anyio.sleep(1)
        pass_time(virtual.backend, 5)
        if end == "cancel":
            scheduler.cancel()
        elif end == "drain":
            scheduler.drain()
        elif end == "critical":
            raise OSError("late")

    job = Job(late, critical=True)
    followers = [Job(nap, required=job)] if "follower" in end or end == "outer" else []
    scheduler = Scheduler(job, *followers, timeout=None if end == "outer" else 2)
    if end == "outer":
        outermost = Scheduler(scheduler, timeout=2)
    else:
        outermost = Scheduler(scheduler) if "nested" in end else scheduler
    assert virtual(outermost.co_run) is False
    timed_out = outermost if end == "outer" else scheduler
    assert timed_out.stop_reason is StopReason.TIMEOUT
    assert all(follower.started_at is None for follower in followers)


@pytest.mark.parametrize("first", [1.0, 9.0])
def test_each_job_has_its_own_timeout_whatever_ran_before_it_in_its_task(
    virtual: Virtual, first: float
) -> None:
    short, long = Job(nap, 0.01, timeout=first), Job(nap, 99, timeout=5)
    assert not virtual(Scheduler(short, long, jobs_window=1, log=False).co_run)
    assert (short.state, long.state, long.took) == (SUCCEEDED, FAILED, 5)


def test_a_limit_that_a_kind_sets_later_does_not_prolong_the_timeout(
    virtual: Virtual,
) -> None:
    class Kind(AbstractJob[None]):
        async def co_run(self) -> None:
            await nap(2)
            with run_of(self).time_limit(self, cancels=True):
                await nap(99)

    job = Kind(timeout=5)
    assert not virtual(Scheduler(job, log=False).co_run)
    assert (job.state, job.took) == (FAILED, 5)


# --- The timeout of a scheduler names what its jobs waited for
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
def test_a_timeout_names_the_waits(
    virtual: Virtual, options: Any, needs: Any, text: str, limit: str
) -> None:
    """A nested scheduler's `JobTimeout`, and that of `check=True`, count the jobs by what they waited for."""
    pool = Pool(api=Rate(requests=1, per=60), cpu=1)

    def make(seconds: float | None) -> Scheduler:
        jobs = [Job(nap, 9, needs=needs) for _ in range(2)]
        return Scheduler(jobs, label="waiting", **{limit: seconds}, **options)

    async def both() -> list[JobTimeout]:
        await Scheduler(
            Job(nap, 0, needs=needs), pool=pool
        ).co_run()  # takes the only request
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


def test_a_timeout_names_the_jobs_that_ran(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """Those of groups, too; a `First` is one job."""
    first = trioflow.First(
        Job(nap, 9, label="near"), Job(nap, 9, label="far"), label="fast"
    )
    inner = Scheduler(
        Job(nap, 9, label="a"),
        Job(nap, 1, label="done"),
        label="group",
        timeout=2,
        critical=False,
    )
    forever = Job(nap, 9, forever=True, label="watch")
    scheduler = Scheduler(
        inner, first, Job(nap, 9, label="b"), forever, label="page", timeout=3
    )
    with pytest.raises(
        JobTimeout,
        match="'page' did not end within its timeout of 3 s; it was running 'fast', 'b'",
    ):
        virtual(lambda: scheduler.co_run(check=True))
    assert (
        str(inner.raised_exception())
        == "'group' did not end within its timeout of 2 s; it was running 'a'"
    )
    ended = "the run of 'page' stopped after its timeout of 3 s; it was running 'fast', 'b'; "
    assert caplog.messages[-1].startswith(ended)


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
    "question": Wait(
        "'j' asks: really?",
        "'j' has been running for 3 s, and asks: really?",
        "asks: really?",
    ),
    "executor": Wait(
        "", "'j' has been running for 3 s (called by Lost)", "called by Lost"
    ),
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
    job = trioflow.ProcessJob(sum, [1], label="j")
    await look(Scheduler(job, processes=Lost(), label="s"), job)


async def circle(look: Look) -> None:
    async def wait() -> None:
        await anyio.lowlevel.checkpoint()
        await last

    first, job = Job(wait, label="a"), Job(nap, needs={"x": 1}, label="j")
    last = Job(nap, needs={"x": 1}, label="b")
    await look(
        Scheduler(
            first,
            job,
            last,
            jobs_window=anyio.CapacityLimiter(1),
            pool=Pool(x=1),
            label="s",
        ),
        job,
    )


@pytest.mark.parametrize("wait", WAITS)
def test_each_wait_has_a_name(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, wait: str
) -> None:
    """A wait that may never end once stood still without a word."""
    told: list[list[str]] = []

    async def look(scheduler: Scheduler, job: AbstractJob[Any]) -> None:
        async with running(scheduler, 0.5):
            told.append([*caplog.messages])
            await anyio.sleep(2.5)
            told.extend(
                [
                    [*caplog.messages],
                    [scheduler.explain(job)],
                    [printed(scheduler, None, details=True)],
                ]
            )
            caplog.clear()
            scheduler.cancel()

    virtual(globals()[wait], look)
    log, explained, listed = WAITS[wait]
    before, after, explanation, (listing,) = told
    assert wait != "question" or f" or `trioflow look {os.getpid()} --web`" in after[0]
    after = [
        message.partition("; it is in no journal: ")[0] for message in after
    ]  # which names this process
    assert (before, after, explanation) == ([], [log] if log else [], [explained])
    assert listed in listing


def test_a_token_of_the_task_that_awaits_the_run_is_named(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """The handler of a server took a token for itself, and its jobs waited for that for ever."""

    async def handle() -> None:
        window = anyio.CapacityLimiter(1)
        async with window:
            await Scheduler(Job(nap, label="j"), jobs_window=window, timeout=3).co_run()

    virtual(handle)
    assert (
        "; one is of the task that awaits the run: let it call that after its `async with`"
        in caplog.messages[0]
    )


def test_a_question_is_no_incident(
    virtual: Virtual, capsys: pytest.CaptureFixture[str]
) -> None:
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


def test_a_wait_that_time_ends_is_not_reported(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
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
        if trioflow.current_job().attempts == 1:
            group.pause()
            raise OSError
        group.resume()

    job = Job(resume, retry=Retry(1, first=5))
    assert virtual(Scheduler(Scheduler(job) if is_inside else job, group).co_run)
    assert caplog.messages == []


def test_a_pause_that_the_log_has_named_is_not_named_again(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
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
    monkeypatch.setattr(
        "trioflow._core.run._instruments.time.monotonic", lambda: now[0]
    )
    Scheduler(Job(nap, 0), Job(nap, 0), instruments=[Slow(), Trace()]).run(
        backend=backend
    )
    monkeypatch.undo()
    assert caplog.messages == [
        "Slow() blocked the event loop for 2.0 s in job_settled; do slow work in a thread"
    ]
