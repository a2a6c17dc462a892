"""`Throttled`: a job that raises it waits again, and nothing starts on its key for a while."""

import math
from functools import partial
from typing import Any
import anyio
import pytest
import trioflow
from trioflow import (
    Budget,
    Job,
    JobState,
    PerKey,
    Pool,
    Rate,
    Retry,
    Scheduler,
    ThreadJob,
    Throttled,
    current_job,
)
from trioflow._core.run import _steps
from trioflow.abc import AbstractJob
from ..bodies import at_once, fail, fail_now, hooked, raising, running
from ..conftest import Virtual
from ..jobs.process.process_bodies import throttle


class Server:
    def __init__(self, refusals: int, after: float = 20, seconds: float = 1) -> None:
        self.refusals, self.after, self.seconds = refusals, after, seconds
        self.calls: list[tuple[float, str]] = []

    async def ask(self, *_: Any) -> str:
        """Answer, or refuse."""
        job = current_job()
        self.calls.append((anyio.current_time(), job.label))
        await anyio.sleep(self.seconds)
        if self.refusals:
            self.refusals -= 1
            raise Throttled("api", after=self.after)
        return job.label


def ask(server: Server, label: str, **options: Any) -> Job[str]:
    return Job(server.ask, label=label, **{"needs": {"api": 1}, **options})


def test_a_throttled_job_waits_for_a_token_first_even_after_a_change_of_the_policy(
    virtual: Virtual,
) -> None:
    """The throttle is over before it gets a token, and meanwhile a job comes with a priority and a duration."""

    async def main() -> None:
        server = Server(1, after=1)
        limits: dict[str, Any] = {
            "pool": Pool(api=8),
            "jobs_window": anyio.CapacityLimiter(1),
        }
        scheduler = Scheduler(ask(server, "throttled"), Job(anyio.sleep, 5), **limits)

        async def add() -> None:
            await anyio.sleep(3)
            scheduler.add(
                ask(server, "added", priority=9, expected_duration=1, needs={})
            )

        scheduler.add(Job(add, forever=True))
        assert await scheduler.co_run()
        assert server.calls == [(0, "throttled"), (6, "throttled"), (7, "added")]

    virtual(main)


def test_a_throttled_job_goes_first_even_after_a_change_of_the_policy(
    virtual: Virtual,
) -> None:
    server = Server(1)
    throttled, other = ask(server, "throttled"), ask(server, "other")
    scheduler = Scheduler(
        throttled,
        other,
        ask(server, "after other", required=other),
        pool=Pool(api=8),
        jobs_window=1,
    )
    scheduler.add(
        Job(at_once, lambda: scheduler.add(ask(server, "added", expected_duration=1)))
    )
    assert virtual(scheduler.co_run)
    assert [label for _, label in server.calls] == [
        "throttled",
        "throttled",
        "other",
        "added",
        "after other",
    ]


def test_a_group_of_throttles_from_a_nursery_throttles_the_job(
    virtual: Virtual,
) -> None:
    async def refuse(error: Exception | None) -> None:
        if error is not None:
            raise error

    async def body(*given: Any) -> None:
        errors = given if not calls else [None, None]
        calls.append(anyio.current_time())
        async with anyio.create_task_group() as group:
            for error in errors:
                group.start_soon(refuse, error)

    calls: list[float] = []
    job = Job(body, Throttled("api", 3), Throttled("api", 7), needs={"api": 1})
    assert virtual(Scheduler(job, pool=Pool(api=1)).co_run)
    assert calls == [0, 7]
    calls.clear()
    job = Job(body, Throttled("api", 3), ValueError("bad"), needs={"api": 1})
    assert not virtual(Scheduler(job, pool=Pool(api=1)).co_run)
    assert (calls, job.state) == ([0], JobState.FAILED)


def test_inputs_of_a_throttled_job_are_kept_until_its_end(virtual: Virtual) -> None:
    """A throttled job finds its inputs at the second call too; with `keep_result=False` they are dropped afterwards."""
    server = Server(1)
    rows = Job(at_once, lambda: "rows", keep_result=False)
    job = Job(server.ask, rows, label="a", needs={"api": 1})
    assert virtual(Scheduler(rows, job, pool=Pool(api=1)).co_run)
    assert job.result() == "a"
    assert rows.result(default="dropped") == "dropped"


def test_a_throttled_forever_job_waits_and_a_throttled_ready_service_fails(
    virtual: Virtual,
) -> None:
    async def watch() -> None:
        calls.append(anyio.current_time())
        await anyio.sleep(1)
        raise Throttled("api", 2)

    async def serve(*, task_status: Any) -> None:
        if not calls:
            raise Throttled("api", 1)
        task_status.started("ready")
        await anyio.sleep(1)
        raise Throttled("api", 1)

    calls: list[float] = []
    forever = Job(watch, forever=True, needs={"api": 1})
    assert virtual(Scheduler(forever, Job(anyio.sleep, 5), pool=Pool(api=1)).co_run)
    assert (calls, forever.state) == ([0, 3], JobState.CANCELLED)
    calls.clear()
    service = trioflow.Service(serve, needs={"api": 1})
    first = Job(watch, needs={"db": 1})
    user = Job(anyio.sleep, 3, required=service)
    assert not virtual(
        Scheduler(
            service, Job(anyio.sleep, 0.5), first, user, pool=Pool(api=1, db=1)
        ).co_run
    )
    assert user.started_at == 1
    assert service.state is JobState.FAILED
    assert (
        "is a service, and has reported that it is ready"
        in service.raised_exception().__notes__[0]
    )  # type: ignore[union-attr]


def test_started_at_is_the_time_of_the_first_start_that_counts(
    virtual: Virtual,
) -> None:
    """However often the job is throttled before its first attempt that counts, and after it."""

    async def ask_until_answered() -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    throttle = Throttled("api", after=5)
    answers = [throttle, throttle, OSError(), throttle, throttle, None]
    job = Job(ask_until_answered, needs={"api": 1}, retry=1)
    assert virtual(Scheduler(job, pool=Pool(api=1)).co_run)
    assert (job.started_at, job.elapsed, job.attempts) == (10, 10, 2)


def test_a_throttled_job_of_a_coroutine_object_fails(virtual: Virtual) -> None:
    """A job of a coroutine object fails if throttled, because it cannot be called again; the key is still throttled."""
    server = Server(1)

    async def main() -> None:
        job = Job(server.ask(), label="a", needs={"api": 1})
        other = ask(server, "b", required=job, run_if="settled")
        assert not await Scheduler(job, other, pool=Pool(api=1)).co_run()
        assert other.started_at == 21
        error = job.raised_exception()
        assert isinstance(error, Throttled)
        assert (
            "cannot be called again after it was throttled: it was made from a coroutine object"
            in error.__notes__[0]
        )

    virtual(main)


@pytest.mark.parametrize("needs", [None, {"db": 1}])
def test_a_throttle_of_a_key_that_the_job_does_not_need_fails_the_job(
    virtual: Virtual, needs: Any
) -> None:
    server = Server(1)
    job = ask(server, "a", needs=needs)
    assert not virtual(Scheduler(job, pool=Pool(api=1, db=1)).co_run)
    assert job.state is JobState.FAILED
    with pytest.raises(
        ValueError, match=r"'a' raised Throttled\('api'\), but has no such need: add it"
    ) as e:
        job.result()
    assert isinstance(e.value.__cause__, Throttled)


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("total", [1, 3])
def test_a_throttled_clean_up_job_goes_on_as_the_throttle_ends(
    virtual: Virtual, total: int, after: float
) -> None:
    """Perhaps at once; it waits among the clean-up jobs, which wait neither for needs nor behind the stopped run's."""
    server, failing = Server(1, after=after), Job(fail, 1, critical=True)
    cleaning = ask(server, "cleaning", run_if="failed", required=failing)
    holder = Job(anyio.sleep_forever, forever=True, needs={"api": 1})
    assert not virtual(
        Scheduler(holder, failing, cleaning, pool=Pool(api=total)).co_run
    )
    assert (cleaning.state, cleaning.result(), len(server.calls)) == (
        JobState.SUCCEEDED,
        "cleaning",
        2,
    )


@pytest.mark.parametrize("cleans_up", [False, True])
@pytest.mark.parametrize("seconds", [(7, 3), (3, 7)])
def test_a_job_of_two_throttles_waits_twice(
    virtual: Virtual, seconds: tuple[float, float], cleans_up: bool
) -> None:
    calls: list[float] = []

    async def ask() -> None:
        calls.append(anyio.current_time())
        if len(calls) == 1:
            raise ExceptionGroup(
                "",
                [
                    Throttled(key, after=after)
                    for key, after in zip("ab", seconds, strict=True)
                ],
            )

    failing = Job(fail_now, critical=cleans_up)
    asking = Job(
        ask,
        needs={"a": 1, "b": 1},
        run_if="failed" if cleans_up else "settled",
        required=failing,
    )
    virtual(
        Scheduler(
            failing, asking, pool=Pool(a=3, b=3), cleanup_timeout=30, log=False
        ).co_run
    )
    assert (asking.state, calls[1] - calls[0]) == (JobState.SUCCEEDED, 7)


@pytest.mark.parametrize(
    ("cleanup_timeout", "end"),
    [(30, (JobState.SUCCEEDED, 22)), (7, (JobState.CANCELLED, 7))],
)
def test_throttled_clean_up_waits_in_time(
    virtual: Virtual, cleanup_timeout: float, end: tuple[JobState, int]
) -> None:
    """A clean-up job waits for the end of its throttle, as any job does, but only as long as the clean-up may take. It
    once failed, although an attempt that was throttled does not count."""
    server, seen = Server(1), list[str]()
    watch = hooked(
        job_scheduled=lambda scheduler, job: seen.append(scheduler.explain(job))
    )
    failing = Job(fail_now, ValueError(), critical=True)
    cleaning = ask(server, "c", run_if="failed", required=failing)
    scheduler = Scheduler(
        failing, cleaning, pool=Pool(api=1), cleanup_timeout=cleanup_timeout
    )
    assert not virtual(partial(scheduler.co_run, instruments=[watch]))
    assert cleaning.finished_at is not None
    assert (cleaning.state, round(cleaning.finished_at - server.calls[0][0])) == end
    assert seen[-1] == "'c' waits for api, throttled for 20 s"
    assert cleaning.attempts == (end[0] is JobState.SUCCEEDED)


@pytest.mark.parametrize(
    "total",
    [2, ["a", "b"], Budget(9), PerKey(2)],
    ids=["amount", "units", "budget", "key"],
)
def test_a_throttle_in_a_scheduler_with_needs_holds_outside_too(
    virtual: Virtual, total: Any
) -> None:
    server, needs = (
        Server(1, after=9),
        {"api": "host" if isinstance(total, PerKey) else 1},
    )
    group, gate = (
        Scheduler(ask(server, "inside", needs=needs), needs=needs),
        Job(anyio.sleep, 3),
    )
    outside = ask(server, "outside", needs=needs, required=gate)
    assert virtual(Scheduler(group, gate, outside, pool=Pool(api=total)).co_run)
    assert sorted(server.calls) == [(0, "inside"), (10, "inside"), (10, "outside")]


@pytest.mark.parametrize("word", ["drain", "cancel"])
@pytest.mark.parametrize("when", ["in its body", "while it waits", "never"])
@pytest.mark.parametrize("used", [0, 1])
def test_a_throttled_attempt_uses_nothing_of_a_budget(
    virtual: Virtual, used: int, when: str, word: str
) -> None:
    def end() -> None:
        (scheduler.drain if word == "drain" else job.cancel)()

    async def body() -> None:
        calls.append(anyio.current_time())
        if len(calls) == 1:
            if used:
                current_job().used(usd=used)
            await anyio.sleep(1)
            if when == "in its body":
                end()
            raise Throttled("api", after=5)

    async def end_later() -> None:
        await anyio.sleep(2)
        if when == "while it waits":
            end()

    calls: list[float] = []
    job, pool = (
        Job(body, needs={"usd": 2, "api": 1}),
        Pool(usd=Budget(8), api=Rate(requests=100, per=1)),
    )
    scheduler = Scheduler(job, Job(end_later), pool=pool)
    assert virtual(scheduler.co_run) is (when == "never" or word == "cancel")
    again = 2 * (when == "never")
    assert (job.is_succeeded(), pool.free["usd"]) == (bool(again), 8 - used - again)


@pytest.mark.parametrize(
    ("backend", "kind"),
    [("trio", ThreadJob), ("asyncio", ThreadJob), ("asyncio", trioflow.ProcessJob)],
)
def test_throttled_may_be_raised_in_threads_and_processes(
    backend: str, kind: Any
) -> None:
    """`Throttled` may be raised in a thread or a worker process, and arrives unchanged, by way of a pickle."""

    def job_started(scheduler: Scheduler, job: AbstractJob[Any]) -> None:
        starts.append(job)
        if len(starts) == 3:
            scheduler.cancel()

    starts: list[Any] = []
    job = kind(throttle, needs={"api": 1})
    assert not Scheduler(
        job, pool=Pool(api=1), instruments=[hooked(job_started=job_started)]
    ).run(backend=backend)  # type: ignore[arg-type]
    assert starts == [job] * 3


def test_instruments_and_trace_see_a_throttle(virtual: Virtual) -> None:
    """Hooks report each call of a throttled job; the trace has one span, of the call that counts."""
    events: list[str] = []
    hooks = ("job_scheduled", "job_started", "job_settled")
    watch = hooked(
        **{hook: lambda *_, hook=hook: events.append(hook) for hook in hooks}
    )
    trace, job = trioflow.Trace(), ask(Server(2), "a")
    scheduler = Scheduler(job, pool=Pool(api=1), instruments=[watch, trace])

    async def main() -> str:
        async with running(scheduler, 5):
            assert (job.state, job.started_at, job.attempts) == (
                JobState.SCHEDULED,
                None,
                0,
            )
            return scheduler.explain(job)

    assert virtual(main) == "'a' waits for api, throttled for 16 s"
    assert events == [*hooks[:2] * 3, hooks[2]]
    (span,) = trace.spans
    assert (span.started_at, span.finished_at, span.attempts) == (42, 43, (42,))
    assert span.throttled == ((0, 1), (21, 22))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Throttled("api", -1),
            ValueError,
            r"Throttled\('api', after=-1\): give 0 seconds or more",
        ),
        (lambda: Throttled("api", math.nan), ValueError, r"after=nan"),
        (lambda: Throttled("api", math.inf), ValueError, r"after=inf"),
        (lambda: Throttled("api", 10**400), ValueError, r"give 0 seconds or more"),
        (
            lambda: Throttled("api", True),
            TypeError,
            r"after=True\): give a number of seconds",
        ),
        (
            lambda: Throttled("api", "20"),
            TypeError,
            r"after='20'\): give a number of seconds",
        ),  # type: ignore[arg-type]
        (
            lambda: Throttled(5),
            TypeError,
            r"Throttled\(5\): give the name of a resource",
        ),  # type: ignore[arg-type]
    ],
)
def test_invalid_throttles_are_rejected(
    make: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "limit",
    [3, Rate(requests=100, per=1), PerKey(3), PerKey(Rate(requests=100, per=1))],
    ids=str,
)
def test_a_server_may_say_at_once(virtual: Virtual, limit: Any) -> None:
    """`Retry-After: 0` is an answer of servers: the attempt does not count, and the job is called again at once."""
    calls: list[float] = []

    async def ask() -> None:
        calls.append(anyio.current_time())
        if len(calls) < 3:
            raise Throttled("api", after=0)

    job = Job(ask, needs={"api": "host" if isinstance(limit, PerKey) else 1})
    assert virtual(Scheduler(job, pool=Pool(api=limit), jobs_window=1).co_run)
    assert (calls, job.attempts) == ([0, 0, 0], 1)


@pytest.mark.parametrize(
    "limit",
    [
        Rate(requests=100, per=1, give_up=60),
        PerKey(Rate(requests=100, per=1, give_up=60)),
    ],
)
def test_a_job_that_has_only_been_throttled_for_long_fails(
    virtual: Virtual, limit: Any
) -> None:
    calls: list[float] = []

    async def ask() -> None:
        calls.append(anyio.current_time())
        raise Throttled("api", after=25)

    need = "host" if isinstance(limit, PerKey) else 1
    job = Job(ask, needs={"api": need}, retry=5)
    assert not virtual(Scheduler(job, pool=Pool(api=limit)).co_run)
    assert calls == [0, 25, 50, 75]
    assert isinstance(job.raised_exception(), Throttled)
    assert job.attempts == 1


def test_a_job_fails_if_one_of_two_rates_gives_up(virtual: Virtual) -> None:
    calls: list[float] = []

    async def ask() -> None:
        calls.append(anyio.current_time())
        raise ExceptionGroup("", [Throttled(key, after=25) for key in "ab"])

    pool = Pool(
        a=Rate(requests=9, per=1, give_up=60), b=Rate(requests=9, per=1, give_up=None)
    )
    assert not virtual(
        Scheduler(Job(ask, needs={"a": 1, "b": 1}), pool=pool, timeout=999).co_run
    )
    assert calls == [0, 25, 50, 75]


@pytest.mark.parametrize(
    ("after", "state"), [(0.001, JobState.FAILED), (99, JobState.CANCELLED)]
)
def test_a_throttled_command_that_is_called_no_more_calls_on_settled(
    backend: str, after: float, state: JobState
) -> None:
    """It gives up, or the run stops while it waits."""
    settled: list[Any] = []
    refuses = raising(Throttled("api", after=after))
    job = trioflow.CommandJob(
        ["true"], needs={"api": 1}, on_start=refuses, on_settled=settled.append
    )
    stops = Job(fail, 0.3, critical=after > 1)
    rate = Rate(requests=10_000, per=1, give_up=0.01 if after < 1 else 99)
    Scheduler(job, stops, pool=Pool(api=rate)).run(backend=backend)
    assert (settled, job.state) == ([job], state)


def test_the_time_to_give_up_is_no_limit_of_that_name() -> None:
    rate = Rate(requests=10, per=1, give_up=60)
    assert (rate.limits, rate.give_up, repr(rate)) == (
        {"requests": 10},
        60,
        "Rate(requests=10, per=1, give_up=60.0)",
    )
    assert (
        Rate(requests=10, per=1).give_up,
        Rate(requests=10, per=1, give_up=None).give_up,
    ) == (900, None)
    with pytest.raises(
        ValueError, match=r"give_up=-1 of Rate: give a positive number of seconds"
    ):
        Rate(requests=10, per=1, give_up=-1)


def test_a_rate_gives_up_by_the_throttles_since_the_last_failure(
    virtual: Virtual,
) -> None:
    """A call that failed otherwise has met no throttle: those before it do not count for `Rate(give_up=)`."""

    async def ask_all() -> None:
        calls.append(anyio.current_time())
        await anyio.sleep(2 if len(calls) == 2 else 0)
        if len(calls) == 2:
            raise OSError("lost")
        if len(calls) < 5:
            raise Throttled("api", after=1)

    calls: list[float] = []
    job = Job(ask_all, needs={"api": 1}, retry=Retry(2, first=0, on=OSError))
    assert virtual(
        Scheduler(job, pool=Pool(api=Rate(requests=100, per=1, give_up=3))).co_run
    )
    assert calls == [0, 1, 3, 4, 5]


def test_a_rate_gives_up_by_the_throttles_since_the_job_was_tried_again(
    virtual: Virtual,
) -> None:
    async def ask() -> None:
        calls.append(anyio.current_time())
        if len(calls) < 3:
            raise Throttled("api", after=1)

    async def steer() -> None:
        await anyio.sleep(0.5)
        job.cancel()
        await anyio.sleep(9.5)
        job.try_again()

    calls: list[float] = []
    job = Job(ask, needs={"api": 1})
    assert virtual(
        Scheduler(
            job, Job(steer), pool=Pool(api=Rate(requests=100, per=1, give_up=3))
        ).co_run
    )
    assert calls == [0, 10, 11]


@pytest.mark.parametrize("kind", ["throttled", "retried"])
def test_a_job_that_stops_the_virtual_clock_fails(
    virtual: Virtual, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_steps, "MAX_INSTANT_ATTEMPTS", 200)

    class Calls:
        number = 0

        def __init__(self, sleeps: bool) -> None:
            self.sleeps = sleeps

        async def again(self) -> None:
            self.number += 1
            if self.sleeps and self.number == 150:
                await anyio.sleep(1)
            if self.number < 210:
                raise (
                    Throttled("api", after=0)
                    if kind == "throttled"
                    else OSError("broken")
                )

    for sleeps in (True, False):
        job = Job(
            Calls(sleeps).again,
            needs={"api": 1},
            retry=Retry(None, first=0),
            label="job",
        )
        assert (
            virtual(
                Scheduler(
                    job, pool=Pool(api=Rate(requests=10**6, per=1)), log=False
                ).co_run
            )
            is sleeps
        )
    assert str(job.raised_exception()).startswith(
        "'job' was called 200 times at one instant of a virtual clock"
    )


@pytest.mark.parametrize("give_up", [900, 20, None])
@pytest.mark.parametrize("after", [999_999, 1e30, 700, 10])
def test_a_throttle_is_no_longer_than_give_up_and_named_if_it_is_long(
    virtual: Virtual,
    give_up: float | None,
    after: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One wrong `Retry-After` once stopped all jobs of the pool for days, and no line of the log said so."""
    server = Server(2, after=after, seconds=0)
    pool = Pool(api=Rate(requests=60, per=60, give_up=give_up))
    jobs = [ask(server, f"get {number}", timeout=30) for number in range(4)]
    timeout = 2 * min(after, give_up or math.inf, 1e7) + 1
    succeeded = virtual(
        Scheduler(jobs, pool=pool, jobs_window=1, timeout=timeout).co_run
    )
    pause = min(after, give_up or math.inf)
    assert (
        server.calls[1][0] == pytest.approx(pause)
        if pause < 1e29
        else len(server.calls) == 1
    )
    is_long = pause >= 600
    told = [
        each.message
        for each in caplog.records
        if "nothing that needs 'api' starts for" in each.message
    ]
    assert bool(told) is is_long
    if is_long:
        assert told[0].startswith("'get 0' was throttled: ")
        assert ("because of give_up=" in told[0]) is (pause < after)
        assert ("raise Throttled with a shorter after=" in told[0]) is (pause == after)
    if pause == after == 10:
        assert succeeded


@pytest.mark.parametrize(
    "total",
    [20, Budget(20), ["unit"] * 1, Rate(requests=20, per=1, give_up=None), "per key"],
)
def test_many_jobs_that_are_throttled_for_long_at_once_are_one_line(
    virtual: Virtual, total: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever resource it is: only a `Rate` has a bound, but no throttle of days is silent."""
    server = Server(1 if isinstance(total, list) else 20, after=800)
    need: Any = 1
    if total == "per key":
        total = PerKey(20)
        need = "host"
    jobs = [ask(server, f"get {number}", needs={"api": need}) for number in range(20)]
    assert virtual(Scheduler(jobs, pool=Pool(api=total)).co_run)
    told = [
        each.message
        for each in caplog.records
        if "needs 'api' starts for 13 min 20 s" in each.message
    ]
    assert len(told) == 1
    assert told[0].endswith(
        "; if that is too long, raise Throttled with a shorter after="
    )
