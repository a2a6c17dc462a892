"""An injected error in the engine itself ends the run cleanly, and the run raises it."""

import contextlib
import functools
import itertools
from typing import Any
import anyio
import pytest
from trioflow import (
    Job,
    Pool,
    Rate,
    Scheduler,
    Service,
    StopReason,
    ThreadJob,
    Throttled,
    current_job,
)
from trioflow._core.admission._admission import Admission
from trioflow._core.admission._line import Line
from trioflow._core.admission._rates import RateResource
from trioflow._core.run import _ending, _steps
from trioflow._core.run._handle import TimeLimit
from trioflow._core.run._requirement_counts import RequirementCounts
from trioflow._core.run._run import Run
from trioflow._core.run._worker import Crew
from trioflow._core.words._failures import FailureLog
from trioflow.abc import incidents_of, run_of
from ..bodies import (
    CANCELLED,
    FAILED,
    IDLE,
    SUCCEEDED,
    Flaw,
    bad,
    crash,
    fail,
    hooked,
    nap,
    serve,
    timed,
)
from ..conftest import Virtual


@pytest.mark.parametrize(
    ("owner", "method", "options", "reason", "end"),
    [
        (
            _steps,
            "settle_error",
            {},
            StopReason.INTERRUPTED,
            1,
        ),  # before the job has settled
        (RequirementCounts, "count_down", {}, StopReason.INTERRUPTED, 1),  # afterwards
        (
            Crew,
            "spawn_more",
            {},
            StopReason.INTERRUPTED,
            0,
        ),  # in a worker that has no job
        (
            Run,
            "_wait_while_running",
            {},
            StopReason.INTERRUPTED,
            0,
        ),  # in the task that waits for the run
        (
            Run,
            "cancel_scheduled",
            {"timeout": 3},
            StopReason.TIMEOUT,
            3,
        ),  # at the deadline, as the run stops
        (Run, "cancel_scheduled", {}, StopReason.FAILED, 5),  # as the ending begins
        (
            TimeLimit,
            "_check",
            {"idle_timeout": 2.75},
            StopReason.INTERRUPTED,
            2.75,
        ),  # in the timer of a part
        (
            FailureLog,
            "_on_timer",
            {},
            StopReason.INTERRUPTED,
            2.5,
        ),  # in the timer of what only words things
        (
            _ending,
            "_end_services",
            {"timeout": 3},
            StopReason.TIMEOUT,
            3,
        ),  # when the run ends
    ],
)
def test_an_error_in_the_engine_ends_the_run(
    virtual: Virtual,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    method: str,
    options: Any,
    reason: StopReason,
    end: float,
) -> None:
    """Wherever the engine raises an error, the run leaves no job running, and raises the error without a group."""
    works = getattr(owner, method)

    def break_once(*_: Any, **__: Any) -> None:
        monkeypatch.setattr(owner, method, works)
        raise Flaw

    failing, long, forever = Job(fail, 1), Job(nap, 5), Job(nap, 9, forever=True)
    behind = Job(nap, required=failing, run_if="settled")
    scheduler = Scheduler(
        failing, long, forever, behind, Job(nap, 2), Job(fail, 1.5), **options
    )
    monkeypatch.setattr(owner, method, break_once)
    with pytest.raises(Flaw):
        virtual(scheduler.co_run)
    assert scheduler.stop_reason is reason
    assert failing.state is (FAILED if end >= 1 else CANCELLED)
    assert behind.state is (SUCCEEDED if end >= 2 else IDLE)
    notices = (
        "timeout" in options and method == "cancel_scheduled"
    )  # on trio, `long` may notice the deadline first
    assert long.state in (
        (SUCCEEDED,) if end >= 5 else (CANCELLED, FAILED) if notices else (CANCELLED,)
    )
    assert (long.finished_at, forever.state, forever.finished_at) == (
        end,
        CANCELLED,
        end,
    )


@pytest.mark.parametrize("nested", [False, True])
def test_error_in_a_stop_leaves_no_scheduled(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch, nested: bool
) -> None:
    def break_once(self: Run) -> None:
        if self.scheduler is inner:
            monkeypatch.setattr(Run, "cancel_scheduled", works)
            self.line.drain()
            raise Flaw

    works = Run.cancel_scheduled
    jobs = [Job(nap, 2), Job(nap, 9), Job(nap, 9)]
    inner = Scheduler(jobs, jobs_window=1)
    scheduler = Scheduler(inner) if nested else inner
    monkeypatch.setattr(Run, "cancel_scheduled", break_once)
    with contextlib.suppress(
        Flaw
    ):  # if a nested run notices the deadline first, the error is that of its job
        virtual(functools.partial(scheduler.co_run, timeout=1))
    assert scheduler.stop_reason is not None
    assert [job.state for job in jobs[1:]] == [CANCELLED] * 2


@pytest.mark.parametrize("sign", ["progress", "used"])
def test_an_error_in_a_threads_call_ends_the_run(
    backend: str, monkeypatch: pytest.MonkeyPatch, sign: str
) -> None:
    monkeypatch.setattr(TimeLimit, "_renew", crash)
    monkeypatch.setattr(RateResource, "correct", crash)
    call: Any = (
        (lambda: current_job().progress())
        if sign == "progress"
        else (lambda: current_job().used(api=2))
    )
    job = ThreadJob(call, needs={"api": 1}, idle_timeout=60)
    long = Job(anyio.sleep_forever, required=job)
    with pytest.raises(Flaw):
        Scheduler(job, long, pool=Pool(api=Rate(requests=1, per=60))).run(
            backend=backend
        )


def test_the_first_of_several_engine_errors_during_the_clean_up_is_raised(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engine errors during the clean-up fail their own job only; the others run, and the run raises the first error."""
    works = _steps.settle_error

    def break_often(run: Run, worker: Any, job: Any, *rest: Any) -> None:
        if job is not stopping:
            raise Flaw(job.label)
        works(run, worker, job, *rest)

    stopping = bad()
    alarms = [
        Job(fail, seconds, label=f"{seconds}", required=stopping, run_if="failed")
        for seconds in (1, 2)
    ]
    scheduler = Scheduler(stopping, alarms)
    monkeypatch.setattr(_steps, "settle_error", break_often)
    with pytest.raises(Flaw, match="1"):
        virtual(scheduler.co_run)
    assert scheduler.stop_reason is StopReason.CRITICAL
    assert [str(job.raised_exception()) for job in alarms] == ["1", "2"]


def idle_jobs() -> Scheduler:
    return Scheduler(Job(nap, label="a"), Job(nap, label="b"))


def jobs_behind_a_job() -> Scheduler:
    first = Job(nap)
    ever = Job(nap, label="ever", forever=True, required=first)
    return Scheduler(
        first,
        Job(nap, label="a", required=first),
        Job(nap, label="b", required=first),
        ever,
    )


def nested_jobs() -> Scheduler:
    first = Job(nap)
    return Scheduler(
        first,
        Scheduler(
            Job(nap, label="a", required=(inner := Job(nap))), inner, label="inner"
        ),
    )


def jobs_that_wait_for_a_rate() -> Scheduler:
    jobs = [Job(nap, 0, needs={"api": 1}, label=label) for label in ("first", "a", "b")]
    return Scheduler(*jobs, pool=Pool(api=Rate(requests=1, per=5)))


@pytest.mark.breaks
@pytest.mark.parametrize(
    ("make", "owner", "method", "after"),
    [
        (idle_jobs, Crew, "spawn", 0),  # no worker ever
        (
            jobs_behind_a_job,
            RequirementCounts,
            "count_down",
            1,
        ),  # no successor becomes ready
        (nested_jobs, RequirementCounts, "count_down", 1),
        (
            jobs_that_wait_for_a_rate,
            Admission,
            "_set_timer",
            0,
        ),  # nothing looks at the rate again
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_run_that_stands_still_ends_with_an_error_that_says_so(
    virtual: Virtual,
    monkeypatch: pytest.MonkeyPatch,
    make: Any,
    owner: Any,
    method: str,
    after: float,
) -> None:
    """If a fault of the engine leaves jobs that nothing will start, the run ends at once, and the error names them."""
    monkeypatch.setattr(owner, method, lambda *_: None)
    scheduler = make()
    assert virtual(timed, scheduler) == (False, after)
    assert scheduler.stop_reason is StopReason.CRITICAL
    (incident,) = incidents_of(scheduler)
    assert incident.message.startswith(
        f"{scheduler.label!r} stands still: no job runs, and nothing can start one ("
    )
    assert "'a' " in incident.message
    assert "'ever'" not in incident.message
    assert "report it" in incident.message
    with pytest.raises(RuntimeError, match="stands still"):
        virtual(functools.partial(scheduler.co_run, check=True))


def test_a_run_whose_timer_lets_no_job_start_stands_still(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_round = Admission.round
    monkeypatch.setattr(
        Admission,
        "round",
        lambda self, caller=None: caller and take_round(self, caller),
    )
    scheduler = jobs_that_wait_for_a_rate()
    assert virtual(timed, scheduler) == (False, 5)
    assert "stands still" in incidents_of(scheduler)[0].message


def test_error_in_the_round_that_a_timer_begins_ends_the_run(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_at_timer(self: Admission, caller: Any = None) -> None:
        if caller is None:
            raise Flaw
        take_round(self, caller)

    take_round = Admission.round
    monkeypatch.setattr(Admission, "round", break_at_timer)
    with pytest.raises(Flaw):
        virtual(jobs_that_wait_for_a_rate().co_run)


@pytest.mark.parametrize("is_clean_up", [False, True])
def test_the_workers_of_each_nested_run_count_as_active(
    virtual: Virtual, is_clean_up: bool
) -> None:
    counts: list[int] = []

    async def count() -> None:
        await anyio.sleep(1)
        handle: Any = run_of(current_job())
        counts.append(handle._run.standstill._active_count)

    first = Job(fail, critical=True) if is_clean_up else Job(nap, 0)
    inner = Scheduler(
        Job(count), required=first, run_if="failed" if is_clean_up else "settled"
    )
    virtual(Scheduler(first, inner).co_run)
    assert counts == [1]


@pytest.mark.parametrize(
    "kind",
    ["rate", "throttled", "another run", "async with", "service", "limiter", "nested"],
)
def test_a_run_that_waits_for_something_goes_on(virtual: Virtual, kind: str) -> None:
    limiter = anyio.CapacityLimiter(1)

    async def throttled() -> None:
        if anyio.current_time() < 5:
            raise Throttled("api", after=5)

    async def hold(limiter: anyio.CapacityLimiter) -> None:
        async with limiter:
            await anyio.sleep(5)

    async def main() -> tuple[Any, list[Any]]:
        pool = Pool(api=Rate(requests=1, per=5), gpu=1)
        last = Job(nap, 0, label="last")
        scheduler = Scheduler(last, pool=pool)
        async with anyio.create_task_group() as tasks:
            match kind:
                case "rate":
                    last.needs = {"api": 1}
                    scheduler.add(Job(nap, 0, needs={"api": 1}))
                case "throttled":
                    scheduler = Scheduler(Job(throttled, needs={"api": 1}), pool=pool)
                case "another run":
                    other = Scheduler(Job(nap, 5, needs={"gpu": 1}), pool=pool)
                    tasks.start_soon(other.co_run)
                    await anyio.sleep(1)
                    last.needs = {"gpu": 1}
                case "service":
                    service = Service(serve, 5)
                    scheduler = Scheduler(service, Job(nap, required=service))
                case "limiter":
                    tasks.start_soon(hold, limiter)
                    await anyio.sleep(1)
                    scheduler = Scheduler(Job(nap), jobs_window=limiter)
                case "nested":
                    scheduler = Scheduler(
                        Scheduler(
                            Job(nap, 0, needs={"api": 1}),
                            Scheduler(Job(nap, 0, needs={"api": 1})),
                        ),
                        pool=pool,
                    )
            if kind == "async with":
                async with scheduler:
                    await anyio.sleep(5)
                    scheduler.add(Job(nap))
            else:
                await scheduler.co_run()
        return scheduler.stop_reason, [
            incident.message for incident in incidents_of(scheduler)
        ]

    reason, messages = virtual(main)
    assert reason is StopReason.COMPLETED
    assert [message.split(":")[0] for message in messages] == (
        ["no job of 'Scheduler' runs"] if kind in ("another run", "limiter") else []
    )


@pytest.mark.parametrize("failing_call", [1, 2, 3])
def test_task_that_cannot_start_is_fatal(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch, failing_call: int
) -> None:
    """If the loop cannot start a task, as without memory, the run ends with that error, and no other run waits for it.
    It once stood still, because it waited for the worker of this task."""

    def before_run(scheduler: Any) -> None:
        group_class, calls = type(scheduler._run.group), itertools.count(1)
        spawn = group_class.spawn

        def spawn_or_fail(group: Any, worker: Any) -> None:
            if next(calls) == failing_call:
                raise MemoryError
            spawn(group, worker)

        monkeypatch.setattr(group_class, "spawn", spawn_or_fail)

    async def main() -> None:
        with pytest.raises(MemoryError):
            await Scheduler(*[Job(nap) for _ in range(5)]).co_run(
                instruments=[hooked(before_run=before_run)]
            )
        assert await Scheduler(*[Job(nap) for _ in range(5)]).co_run()

    virtual(main)


def test_an_error_in_a_round_ends_all_runs_of_a_pool(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit_job, pool = Line.admit_job, Pool(cpu=1)

    def fail_for(self: Line, entry: Any) -> None:
        if entry[2].label == "admitted by the other run":
            raise MemoryError("injected")
        admit_job(self, entry)

    async def main() -> list[str]:
        found: list[str] = []

        async def co_run(*jobs: Job[Any]) -> None:
            try:
                await Scheduler(*jobs, pool=pool).co_run()
            except MemoryError as error:
                found.append(str(error))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(co_run, Job(nap, 1, needs={"cpu": 1}), Job(nap, 9))
                await anyio.sleep(0.5)
                group.start_soon(
                    co_run,
                    Job(nap, 1, needs={"cpu": 1}, label="admitted by the other run"),
                )
        return found

    monkeypatch.setattr(Line, "admit_job", fail_for)
    assert virtual(main) == ["injected", "injected"]
