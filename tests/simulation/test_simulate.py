"""`simulate`: the engine on a virtual clock, without the jobs' own code."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args
import anyio
import pytest
import trioflow
from hypothesis import given
from hypothesis import strategies as st
from trioflow import (
    Job,
    JobTimeout,
    Pool,
    Rate,
    Retry,
    Scheduler,
    Sequence,
    Service,
    StopReason,
    Trace,
    simulate,
)
from trioflow._core.admission import _admission
from trioflow._core.admission._policies import PolicyName
from trioflow._core.job._job_options import RUN_RESOURCES, RunResource
from trioflow._core.job._option_descriptors import set_run_need
from trioflow.abc import AbstractJob, Instrument
from trioflow.simulation import _scenario_copy
from trioflow.simulation._duration_sources import read_durations
from trioflow.testing import run_virtual
from trioflow.view import listing
from trioflow.view._estimate import Estimate
from ..bodies import at_once
from ..conftest import Virtual


def stand_in(
    seconds: float | None = None, *required: AbstractJob[Any], **options: Any
) -> Job[None]:
    return Job(never, expected_duration=seconds, required=required, **options)


async def never(*arguments: object, **options: object) -> None:
    raise AssertionError("this must not run")


class Loud(AbstractJob[None], Instrument):
    """A job whose methods all fail the test."""

    async def co_run(self) -> None:
        await never()

    async def co_shutdown(self) -> None:
        await never()

    def before_run(self, scheduler: object) -> None:
        raise AssertionError("this must not run")


def test_simulate_runs_no_code_of_the_user(caplog: pytest.LogCaptureFixture) -> None:
    """`simulate` calls no body, shutdown, condition of a retry, callback or instrument, and changes no scheduler."""

    def fail_the_test() -> None:
        raise AssertionError("this must not run")

    a = stand_in(1, retry=Retry(1, on=fail_the_test))
    jobs = [
        a, Loud(), trioflow.ThreadJob(fail_the_test), Service(never), Job(never, a),
        Scheduler(Loud(label="inner"), label="nested"),
    ]  # fmt: skip
    scheduler = Scheduler(*jobs, instruments=[Loud()], timeout=1.5)
    before = listing(scheduler, details=True)
    with caplog.at_level(logging.DEBUG, "trioflow"):
        assert simulate(scheduler).stop_reason is StopReason.TIMEOUT
    assert listing(scheduler, details=True) == before
    assert (scheduler.stop_reason, scheduler.is_runnable(), caplog.text) == (
        None,
        True,
        "",
    )


@given(data=st.data())
def test_jobs_start_and_end_in_a_simulation_exactly_as_in_a_run(
    data: st.DataObject,
) -> None:
    """In random scenarios, jobs start and end exactly as in a run under virtual time, on both backends. Many jobs end
    at the same time, and the order of their ends decides which start next."""
    policy = data.draw(st.sampled_from(get_args(PolicyName)))
    window = data.draw(st.integers(0, 4))
    pool = Pool(cpu=3, gpu=["0", "1"])
    jobs: list[AbstractJob[Any]] = []
    for number in range(data.draw(st.integers(1, 12))):
        seconds = data.draw(st.integers(1, 3))
        required = (
            data.draw(st.lists(st.sampled_from(jobs), max_size=3)) if jobs else []
        )
        options: dict[str, Any] = {
            "required": required,
            "priority": data.draw(st.integers(0, 1)),
        }
        if number % 5 == 4:
            inner = [sleeper(seconds) for _ in range(3)]
            jobs.append(
                Scheduler(*inner, jobs_window=data.draw(st.integers(0, 2)), **options)
            )
        else:
            timeout = data.draw(st.sampled_from([None, 2.5]))
            needs = data.draw(st.sampled_from([None, {"cpu": 2}, {"gpu": 1}]))
            jobs.append(sleeper(seconds, timeout=timeout, needs=needs, **options))
        if required and data.draw(st.booleans()):
            jobs[-1].requires(required[0], settled=True)
    scheduler = Scheduler(*jobs, jobs_window=window, policy=policy, pool=pool)
    found = simulate(scheduler)
    assert pool.free == {"cpu": 3, "gpu": 2}
    for backend in ("asyncio", "trio"):
        run_virtual(scheduler.co_run, backend=backend)
        assert found.starts == {
            job: job.started_at
            for job in scheduler.iterate_jobs()
            if job.started_at is not None
        }
        ended = {
            job: job.finished_at
            for job in scheduler.iterate_jobs()
            if job.started_at is not None
        }
        assert found.ends == ended
    assert found.makespan == max(found.ends.values())
    assert found.lower_bound <= min(
        simulate(scheduler, policy=name).makespan for name in get_args(PolicyName)
    )


@given(data=st.data())
def test_no_order_beats_the_lower_bound_with_hedges_and_budgets(
    data: st.DataObject,
) -> None:
    """With losers that are cancelled, and jobs that a spent budget blocks, the makespan is not below the bound; a job
    starts in the simulation only if all its inputs ended there, whether they are jobs or `First`s."""
    jobs: list[AbstractJob[Any]] = []
    draw, inputs = data.draw, dict[AbstractJob[Any], list[AbstractJob[Any]]]()
    for _ in range(draw(st.integers(1, 9))):
        options: dict[str, Any] = {
            "needs": draw(st.sampled_from([None, {"usd": 1}, {"usd": 3}]))
        }
        options["required"] = (
            draw(st.lists(st.sampled_from(jobs), max_size=2)) if jobs else []
        )
        if draw(st.booleans()):
            competitors = [
                sleeper(
                    draw(st.integers(1, 9)), timeout=draw(st.sampled_from([None, 4]))
                )
                for _ in range(3)
            ]
            limits = {
                "jobs_window": draw(st.integers(0, 2)),
                "stagger": draw(st.sampled_from([None, 0.5])),
            }
            job: AbstractJob[Any] = trioflow.First(
                *competitors, enough=draw(st.integers(1, 3)), **limits, **options
            )
        else:
            used = draw(st.lists(st.sampled_from(jobs), max_size=2)) if jobs else []
            job = sleeper(draw(st.integers(1, 9)), *used, **options)
            inputs[job] = used
        jobs.append(job)
    pool = Pool(usd=trioflow.Budget(draw(st.integers(3, 9))))
    found = simulate(Scheduler(*jobs, jobs_window=draw(st.integers(0, 3)), pool=pool))
    assert found.lower_bound <= found.makespan
    for job, used in inputs.items():
        assert job not in found.starts or all(other in found.ends for other in used)


def sleeper(seconds: float, *inputs: AbstractJob[Any], **options: Any) -> Job[None]:
    return Job(sleep, seconds, *inputs, expected_duration=seconds, **options)


async def sleep(seconds: float, *_inputs: Any) -> None:
    await anyio.sleep(seconds)


async def after(_: object) -> None:
    """Use the result of another job."""


def late(**options: Any) -> Job[None]:
    return sleeper(5, timeout=1, **options)


def chain() -> Sequence:
    """Return three jobs of unknown duration, one after the other."""
    return Sequence(*(Job(anyio.sleep, 1) for _ in range(3)))


def with_clean_up(cleanup_timeout: float) -> Scheduler:
    failing = late(critical=True)
    return Scheduler(
        failing,
        sleeper(20, required=failing, run_if="failed"),
        cleanup_timeout=cleanup_timeout,
    )


def beside(needs: dict[str, int] | None = None, **options: Any) -> Scheduler:
    """Return two groups that share a limiter or a pool."""
    return Scheduler(
        [
            Scheduler(sleeper(2, needs=needs), sleeper(2, needs=needs), **options)
            for _ in range(2)
        ]
    )


AS_IN_A_RUN: dict[str, Callable[[], Scheduler]] = {
    "critical_jobs": lambda: Scheduler(late(), sleeper(10), critical_jobs=True),
    "critical_jobs of the outer scheduler": lambda: Scheduler(
        Scheduler(late(), sleeper(10)), critical_jobs=True
    ),
    "critical and BLOCKED": lambda: Scheduler(
        Job(after, late(), critical=True, expected_duration=0), sleeper(10)
    ),
    "long clean-up": lambda: with_clean_up(50),
    "short clean-up": lambda: with_clean_up(0.5),
    "nested scheduler that is forever": lambda: Scheduler(
        sleeper(1), Scheduler(sleeper(10), forever=True)
    ),
    "unknown durations": lambda: Scheduler(
        *(Job(anyio.sleep, 1) for _ in range(3)), chain(), jobs_window=1
    ),
    "reservation": lambda: Scheduler(
        *(sleeper(2, needs={"cpu": each}) for each in (2, 3, 1, 1, 1)), pool=Pool(cpu=3)
    ),
    "a limiter of two groups": lambda: beside(jobs_window=anyio.CapacityLimiter(1)),
    "a pool of two groups": lambda: beside(pool=Pool(cpu=1), needs={"cpu": 1}),
    "backoffs up to a cap": lambda: Scheduler(
        late(retry=Retry(3, first=2, factor=9, cap=5, jitter=False)), critical_jobs=True
    ),
    "priority": lambda: Scheduler(sleeper(2), sleeper(1, priority=1), jobs_window=1),
    "required as settled": lambda: Scheduler(
        failing := late(), sleeper(1).requires(failing, settled=True)
    ),
}


@pytest.mark.parametrize("case", AS_IN_A_RUN)
def test_a_simulation_ends_and_orders_jobs_as_the_run_does(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Critical failures, forever jobs, clean-up, unknown durations and reservations act as in a run."""
    monkeypatch.setattr(_admission.OrderedPlaces, "max_overtakes", 1)
    real = AS_IN_A_RUN[case]()
    found = simulate(real)
    run_virtual(real.co_run, backend="asyncio")
    started = [job for job in real.iterate_jobs() if job.started_at is not None]
    assert found.stop_reason is real.stop_reason
    assert found.starts == {job: job.started_at for job in started}
    assert found.ends == {job: job.finished_at for job in started}


def test_makespan_bound_utilisation_critical_path_and_slack_are_correct() -> None:
    a, b = stand_in(1, label="a"), Scheduler(stand_in(2, label="in b"), label="b")
    c = stand_in(3, a, label="c")
    inner = Scheduler(
        Sequence(stand_in(2, label="x"), stand_in(2, label="y")),
        label="inner",
        required=c,
    )
    scheduler = Scheduler(a, b, c, inner, jobs_window=2)
    found = simulate(scheduler)
    assert (found.makespan, found.lower_bound, found.utilisation) == (8, 8, 10 / 16)
    assert [job.label for job in found.critical_path] == ["a", "c", "x", "y"]
    assert {job.label: slack for job, slack in found.slack.items() if slack} == {
        "b": 6,
        "in b": 6,
    }
    assert (
        simulate(scheduler, jobs_window=1).makespan
        == simulate(scheduler, jobs_window=1).lower_bound
        == 10
    )
    assert "<svg" in found.timeline._repr_mimebundle_()["image/svg+xml"]


@pytest.mark.parametrize(
    "window", [2, anyio.CapacityLimiter(2)], ids=["slots", "tokens"]
)
def test_forever_jobs_and_groups_take_their_share_of_a_window(window: Any) -> None:
    forever = stand_in(9, forever=True)
    group = Scheduler(stand_in(1), stand_in(1), jobs_window=1)
    found = simulate(Scheduler(forever, group, stand_in(1), jobs_window=window))
    assert (found.makespan, found.utilisation) == (2, 3 / 4)


def test_jobs_of_a_group_with_the_same_limiter_take_tokens_of_the_window() -> None:
    limiter = anyio.CapacityLimiter(2)
    group = Scheduler(stand_in(1), stand_in(1), jobs_window=limiter)
    assert simulate(Scheduler(group, jobs_window=limiter)).utilisation == 1


def test_a_forever_scheduler_does_not_count_in_the_lower_bound() -> None:
    a = stand_in(1)
    found = simulate(Scheduler(a, Scheduler(stand_in(10), forever=True)))
    assert (found.makespan, found.lower_bound, found.critical_path) == (1, 1, (a,))
    for forever in (
        Job(never, forever=True),
        Service(never, expected_duration=9),
        Scheduler(stand_in(9), forever=True),
    ):
        serial = [stand_in(1, needs={"cpu": 1}) for _ in range(2)]
        found = simulate(Scheduler(*serial, forever, pool=Pool(cpu=1)))
        assert (found.makespan, found.lower_bound, found.critical_path) == (
            2,
            1,
            (serial[0],),
        )


def in_turn(group: Scheduler) -> Scheduler:
    return Scheduler(group, stand_in(3, group))


def only_after_a_failure() -> Scheduler:
    """Return a scheduler whose alarms take no time, slot or token, because nothing fails."""
    a, b = stand_in(1), stand_in(2)
    alarms = Scheduler(stand_in(20), required=b, run_if="failed")
    return Scheduler(
        a,
        b,
        stand_in(10, a, run_if="failed"),
        alarms,
        jobs_window=anyio.CapacityLimiter(1),
    )


CUT_SHORT: dict[str, tuple[float, Callable[[], Scheduler]]] = {
    "timeout": (1.2, lambda: Scheduler(stand_in(1, timeout=0.2), stand_in(1), jobs_window=1)),
    "move_on": (2, lambda: Scheduler(stand_in(9, timeout=2, on_timeout="move_on"))),
    "restarts": (6, lambda: Scheduler(stand_in(9, timeout=2, retry=Retry(2, first=0, on=JobTimeout)))),
    "retries": (4, lambda: Scheduler(stand_in(9, timeout=2, retry=1))),
    "timeout of the run": (4, lambda: Scheduler(stand_in(9), timeout=4)),
    "nested timeout": (5, lambda: Scheduler(Scheduler(stand_in(9), timeout=4), stand_in(5))),
    "shared limiter": (3, lambda: Scheduler(Scheduler(late()), stand_in(2), jobs_window=anyio.CapacityLimiter(1))),
    "critical failure": (1, lambda: Scheduler(late(critical=True), stand_in(9))),
    "blocked job": (3, lambda: Scheduler(Job(never, late(), expected_duration=9), stand_in(3))),
    "input from another scheduler": (
        1, lambda: Scheduler(Scheduler(failed := late()), Scheduler(Job(never, failed, expected_duration=9))),
    ),
    "unused service": (1, lambda: Scheduler(stand_in(1), Service(never, expected_duration=9))),
    "timeout before any job ends": (
        2, lambda: Scheduler(Sequence(Service(never, expected_duration=5), stand_in(1)), timeout=2),
    ),
    "timeout that is not reached": (4, lambda: in_turn(Scheduler(stand_in(1), timeout=60))),
    "behind a group with a tolerated failure": (4, lambda: in_turn(Scheduler(late(critical=False)))),
    "behind a group that fails": (1, lambda: in_turn(Scheduler(late()))),
    "behind a group that a failure stops": (1, lambda: in_turn(Scheduler(late(critical=True)))),
    "jobs that run only after a failure": (3, only_after_a_failure),
}  # fmt: skip


@pytest.mark.parametrize("case", CUT_SHORT)
def test_the_lower_bound_counts_timeouts(case: str) -> None:
    """The lower bound counts what timeouts cut short, and what does not run because of them, as the simulation does."""
    seconds, make_scheduler = CUT_SHORT[case]
    found = simulate(make_scheduler())
    assert found.lower_bound == found.makespan == pytest.approx(seconds)


def test_peak_results_depends_on_the_policy() -> None:
    scheduler = Scheduler(jobs_window=4)
    options: dict[str, Any] = {
        "expected_duration": 1,
        "keep_result": False,
        "label": "x",
    }
    for _ in range(100):
        scheduler.add(
            Job(never, Job(never, Job(never, **options), **options), **options)
        )
    assert simulate(scheduler, policy="fifo").peak_results >= 100
    assert simulate(scheduler, policy="critical-path").peak_results >= 100
    assert (
        simulate(scheduler, policy="depth-first").peak_results - 100 <= 12
    )  # the last of each chain is kept


def test_an_unknown_duration_is_the_median_of_the_known_ones() -> None:
    """A job of unknown duration takes the median of the known ones, or one second; a service is ready at once."""
    assert simulate(Scheduler(stand_in())).makespan == 1
    service = Service(never)
    last = stand_in(None, service)
    found = simulate(Scheduler(service, stand_in(2), stand_in(4), stand_in(9), last))
    assert (found.ends[last], found.guessed) == (4, {last: 4})


def test_durations_may_be_a_mapping_or_a_trace() -> None:
    a, b = stand_in(1, label="a"), stand_in(1, label="b")
    scheduler = Scheduler(a, Scheduler(b, label="in"))
    assert simulate(scheduler, durations={"a": 3, "b": 2, "in/b": 7}).ends[b] == 7
    again = simulate(
        scheduler, durations=simulate(scheduler, durations={"a": 3, "b": 5}).timeline
    )
    assert (again.ends[a], again.ends[b]) == (3, 5)


def test_a_simulation_opens_no_gate_and_takes_what_the_run_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It connected to nothing, but started the guard of commands; and each job took one of a resource of the run."""

    class Visit(Job[None]):
        def check_before_run(self) -> None:
            set_run_need(self, "rooms", 2)

    found: list[object] = []
    monkeypatch.setitem(
        RUN_RESOURCES, "rooms", RunResource(lambda: 3, "opening", found.append)
    )
    assert (
        simulate(
            Scheduler(Visit(never, expected_duration=2) for _ in range(3))
        ).makespan
        == 6
    )
    assert found == []


def test_simulate_works_inside_a_running_loop() -> None:
    assert {
        anyio.run(
            at_once, lambda: simulate(Scheduler(stand_in(5))).makespan, backend=backend
        )
        for backend in ("trio", "asyncio")
    } == {5}


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"durations": {"a": -1}}, ValueError, "'a'"),
        ({"durations": 3}, TypeError, "not a mapping"),
        ({"jobs_window": -1}, ValueError, "jobs_window=-1"),
        ({"policy": "best"}, ValueError, "policy='best'"),
    ],
)
def test_invalid_options_of_simulate_are_rejected(
    options: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        simulate(Scheduler(stand_in(1, label="a")), **options)


@pytest.mark.parametrize("where", ["outermost", "nested"])
def test_a_scheduler_that_would_never_end_is_rejected(where: str) -> None:
    """`simulate` rejects forever jobs alone, unless their scheduler or one around it has a timeout."""
    scheduler = Scheduler(stand_in(1, forever=True), Service(never), label="endless")
    if where == "nested":
        scheduler = Scheduler(scheduler, stand_in(1))
    with pytest.raises(
        ValueError, match="would never end: only forever jobs would go on"
    ):
        simulate(scheduler)
    scheduler.timeout = 3
    found = simulate(scheduler)
    assert (max(found.ends.values()), found.stop_reason) == (3, StopReason.TIMEOUT)


def test_a_forever_job_that_blocks_a_resource_for_others_is_rejected() -> None:
    """`simulate` rejects a forever job that holds what another job needs, since neither would ever end."""
    holder, other = (
        stand_in(1, forever=True, label="holder"),
        stand_in(1, label="other"),
    )
    holder.needs = other.needs = {"cpu": 1}
    scheduler = Scheduler(holder, other, pool=Pool(cpu=1), label="stuck")
    with pytest.raises(
        ValueError,
        match="'stuck' would never end: 'other' waits for cpu: 1 of 1 taken by 'holder'; give",
    ):
        simulate(scheduler)
    assert simulate(Scheduler(stand_in(1e9), stand_in(3))).makespan == 1e9


def test_an_argument_that_is_no_scheduler_is_rejected() -> None:
    with pytest.raises(TypeError, match=r"simulate\(5\): give a Scheduler"):
        simulate(5)  # type: ignore[arg-type]


def test_a_cycle_of_requirements_is_rejected() -> None:
    a = stand_in(1)
    b = stand_in(1, a)
    a.requires(b)
    with pytest.raises(trioflow.CycleError):
        simulate(Scheduler(a, b))


# --- simulations that end, and say how


ENDLESS: dict[str, Callable[[], AbstractJob[Any]]] = {
    "restart": lambda: stand_in(
        5, timeout=1, retry=Retry(None, first=0, on=JobTimeout), label="x"
    ),
    "retry": lambda: stand_in(5, timeout=1, retry=10**9, label="x"),
    "service": lambda: Service(
        never,
        expected_duration=5,
        timeout=1,
        retry=Retry(None, first=0, on=JobTimeout),
        label="x",
    ),
    "nested": lambda: Scheduler(
        stand_in(5), timeout=1, retry=Retry(None, first=0, on=JobTimeout), label="x"
    ),
    "nested retry": lambda: Scheduler(stand_in(5), timeout=1, retry=10**9, label="x"),
    "nested, failing": lambda: Scheduler(
        stand_in(5, timeout=1), critical_jobs=True, retry=10**9, label="x"
    ),
    "no time": lambda: stand_in(
        5, timeout=1e-300, retry=Retry(None, first=0, on=JobTimeout), label="x"
    ),
    "nested, waiting": lambda: Scheduler(
        stand_in(5, needs={"gpu": 1}),
        timeout=1,
        retry=Retry(None, first=0, on=JobTimeout),
        label="x",
    ),
}


@pytest.mark.sampled
@pytest.mark.parametrize("kind", ENDLESS)
def test_simulation_ends_although_a_job_times_out_again_and_again(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A simulation ends with an error that names the job that never settles; it once ran for ever."""
    monkeypatch.setattr(_scenario_copy, "MAX_CALLS", 20)
    holder = stand_in(1e12, needs={"gpu": 1}, label="holder")
    scheduler = Scheduler(
        holder, ENDLESS[kind](), stand_in(1), pool=Pool(gpu=1), label="s"
    )
    message = "'s' would hardly ever end: 'x' succeeds in none of 20 calls, because an expected duration exceeds a"
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            simulate(scheduler)
    if kind != "no time":
        scheduler.timeout = 9.5
        assert (simulate(scheduler).makespan, simulate(scheduler).stop_reason) == (
            9.5,
            StopReason.TIMEOUT,
        )


@pytest.mark.parametrize("part", ["whole", "around", "inside"])
def test_simulate_refuses_a_running_scheduler(virtual: Virtual, part: str) -> None:
    refused: list[str] = []

    async def look() -> None:
        with pytest.raises(
            RuntimeError, match="is running; simulate before or after"
        ) as caught:
            simulate({"whole": scheduler, "around": idle, "inside": around}[part])
        refused.append(str(caught.value))

    first = Job(look, label="first")
    scheduler = Scheduler(
        first, Job(anyio.sleep, 1, required=first), label="s", timeout=9
    )
    idle = Scheduler(label="idle")
    scheduler.add(idle)
    around = Scheduler(scheduler)
    assert virtual(scheduler.co_run)
    assert len(refused) == 1
    assert "'s' is running" in refused[0]


def test_simulate_twice_gives_the_same_and_changes_nothing() -> None:
    def scenario() -> Scheduler:
        first = stand_in(2, needs={"api": 3}, label="first")
        late = Scheduler(
            Job(never, first, expected_duration=5, label="slow"),
            stand_in(1, run_if="failed", label="alarm"),
            timeout=3,
        )
        return Scheduler(
            late,
            first,
            stand_in(1, needs={"api": 3}),
            pool=Pool(api=Rate(requests=3, per=4)),
            jobs_window=2,
        )

    def facts(scheduler: Scheduler) -> Any:
        found = simulate(scheduler)
        times = [
            {job.path: value for job, value in values.items()}
            for values in (found.starts, found.ends, found.slack)
        ]
        path = [job.path for job in found.critical_path]
        return (
            found.makespan,
            found.lower_bound,
            found.utilisation,
            found.stop_reason,
            times,
            path,
        )

    scheduler = scenario()
    before = facts(scheduler)
    assert facts(scheduler) == before == facts(scenario())
    assert {job.state for job in scheduler.iterate_jobs()} == {trioflow.JobState.IDLE}


def test_clean_up_jobs_take_no_share_of_the_slots() -> None:
    """Clean-up jobs take no slots, so they are no part of `utilisation`, which once was above 1."""
    long = stand_in(5)
    alarms = [stand_in(2, long, run_if="failed") for _ in range(3)]
    assert simulate(
        Scheduler(long, *alarms, timeout=1, jobs_window=1)
    ).utilisation == pytest.approx(1 / 3)


def test_simulate_accepts_an_input_from_a_scheduler_that_was_added_later() -> None:
    source = stand_in(1, label="source")
    first = Scheduler(source, label="first")
    second = Scheduler(
        Job(never, source, expected_duration=2, label="user"), label="second"
    )
    outer = Job(never, source, expected_duration=4, label="outer")
    found = simulate(Scheduler(second, outer, first))
    assert {job.path: start for job, start in found.starts.items()} == {
        "second": 1, "outer": 1, "first": 0, "second/user": 1, "first/source": 0,
    }  # fmt: skip


def test_a_backoff_is_no_work() -> None:
    """Between two attempts a job has no slot, so the time is no part of `utilisation`, which once was 1.6."""
    late = Job(anyio.sleep, 5, expected_duration=5, timeout=1, retry=1, label="late")
    other = Job(anyio.sleep, 3, expected_duration=3, label="other")
    found = simulate(Scheduler(late, other, jobs_window=1, timeout=2.5), policy="fifo")
    assert (found.makespan, found.utilisation) == (2.5, 1)


# --- Durations that a scheduler learns from its runs
def scenario(**options: Any) -> Scheduler:
    """Return short jobs, and a long chain that is added last."""
    short = [Job(anyio.sleep, 2, label=f"short {number}") for number in range(4)]
    return Scheduler(
        *short,
        Sequence(Job(anyio.sleep, 1, label="first"), Job(anyio.sleep, 6, label="long")),
        **options,
    )


async def seconds(scheduler: Scheduler) -> float:
    start = anyio.current_time()
    assert await scheduler.co_run()
    return anyio.current_time() - start


def test_a_second_run_starts_the_longest_chain_first(
    virtual: Virtual, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "durations.json"
    scheduler = scenario(jobs_window=2, durations=path)
    assert (virtual(seconds, scheduler), virtual(seconds, scheduler)) == (11, 8)
    assert virtual(seconds, scenario(jobs_window=2, durations=path)) == 8
    assert json.loads(path.read_text())["seconds"]["long"] == 6


def test_durations_may_come_from_a_trace_or_a_mapping(virtual: Virtual) -> None:
    trace = Trace()
    assert virtual(seconds, scenario(jobs_window=2, instruments=[trace])) == 11
    assert virtual(seconds, scenario(jobs_window=2, durations=trace)) == 8
    by_label = {"first": 1, "long": 6, **{f"short {number}": 2 for number in range(4)}}
    assert virtual(seconds, Scheduler(scenario(jobs_window=2), durations=by_label)) == 8


@pytest.mark.parametrize("depth", [1, 2])
def test_the_durations_of_the_scheduler_that_runs_hold_for_groups_with_their_own(
    virtual: Virtual, depth: int
) -> None:
    first, second = (Job(anyio.sleep, 1, label=label) for label in ("first", "second"))
    group = Scheduler(
        first, second, durations={"first": 9, "second": 1}, jobs_window=1, label="group"
    )
    outer: Scheduler = group
    for _ in range(depth):
        outer = Scheduler(outer, durations={"first": 1, "second": 9})
    assert virtual(seconds, outer) == 2
    assert (first.started_at, second.started_at) == (1, 0)
    outer.durations = None
    assert virtual(seconds, outer) == 2
    assert (first.started_at, second.started_at) == (0, 1)
    assert virtual(seconds, group) == 2
    assert (first.started_at, second.started_at) == (0, 1)


def test_only_durations_of_successful_jobs_are_recorded(
    virtual: Virtual, tmp_path: Path
) -> None:
    """Only durations of jobs that succeeded are recorded; jobs that timed out or no longer exist keep theirs."""
    path = tmp_path / "durations"
    path.write_text('{"trioflow durations": 1, "seconds": {"slow": 50, "gone": 7}}')
    jobs = [
        Job(anyio.sleep, 9, timeout=1, label="slow"),
        Job(anyio.sleep, 3, label="fine"),
    ]
    virtual(Scheduler(*jobs, durations=path).co_run)
    assert json.loads(path.read_text())["seconds"] == {"slow": 50, "gone": 7, "fine": 3}


class LastEstimate(Instrument):
    seconds: float | None = None

    def job_settled(self, scheduler: Any, job: Any) -> None:
        if (
            self.seconds is None
            and sum(not other.is_settled() for other in scheduler) == 1
        ):
            left = Estimate(scheduler).time_left()
            self.seconds = None if left is None or left.is_least else left.seconds


def test_whoever_learns_how_long_jobs_take_leaves_out_waits_between_attempts(
    virtual: Virtual, tmp_path: Path
) -> None:
    """A job that worked for 2 s in two attempts takes 2 s for whatever learns durations, however long it waited between
    these: in a file, in a trace, and in the monitor's estimate."""

    async def fail_once() -> None:
        await anyio.sleep(1)
        if trioflow.current_job().attempts == 1:
            raise OSError

    jobs = [
        Job(fail_once, retry=Retry(1, first=10, jitter=False), label=f"job {number}")
        for number in range(6)
    ]
    for job in jobs[1:]:
        job.requires(jobs[0])
    path, trace, estimate = tmp_path / "durations", Trace(), LastEstimate()
    jobs[5].requires(jobs[:5])
    assert (
        virtual(
            seconds, Scheduler(*jobs, durations=path, instruments=[trace, estimate])
        )
        == 3 * 12
    )
    assert json.loads(path.read_text())["seconds"] == {job.label: 2 for job in jobs}
    assert read_durations(trace, "") == {job.label: 2 for job in jobs}
    assert estimate.seconds == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"trioflow durations": 2, "seconds": {}}', "format version 2"),
        ('{"trioflow durations": 2, "jobs": []}', "format version 2"),
        ("# ninja log v5\n", "is no durations file"),
        ("import anyio\n", "is no durations file"),
        ('{"trioflow durations": 1, "sec', "is no durations file"),
        ('{"name": "some package"}', "is no durations file"),
        ('{"trioflow durations": 1, "seconds": [3]}', "is no durations file"),
        ('{"trioflow durations": 1, "seconds": {"a": -1}}', "'a'"),
    ],
)
def test_a_file_that_has_no_valid_durations_is_rejected(
    tmp_path: Path, content: str, words: str
) -> None:
    path = tmp_path / "durations"
    path.write_text(content)
    with pytest.raises(ValueError, match=words):
        Scheduler(Job(anyio.sleep, 0), durations=path)
    assert path.read_text() == content


def test_a_result_is_kept_until_the_last_of_its_users_starts() -> None:
    sources = [stand_in(1, keep_result=False) for _ in range(3)]
    early = Job(never, *sources, expected_duration=1)
    late = Job(never, *sources, expected_duration=1, required=stand_in(1, early))
    assert simulate(Scheduler(early, *late.required, late)).peak_results == 4


def test_a_trace_has_no_durations_of_jobs_that_were_restored(
    virtual: Virtual, tmp_path: Path
) -> None:
    """They did not run: what they took in another run stands in the trace of that one."""

    def traced(*jobs: Job[Any]) -> Trace:
        trace = Trace()
        scheduler = Scheduler(*jobs)
        virtual(
            lambda: scheduler.co_run(journal=tmp_path / "run.db", instruments=[trace])
        )
        return trace

    first = traced(Job(anyio.sleep, 2, label="a"))
    second = traced(Job(anyio.sleep, 2, label="a"), Job(anyio.sleep, 3, label="b"))
    assert read_durations(first, "durations") == {"a": 2}
    assert read_durations(second, "durations") == {"b": 3}


@pytest.mark.parametrize(
    "options",
    [
        {"retry": Retry(2, first=0)},
        {"critical": True},
        {"forever": True},
        {"run_if": "settled"},
        {"timeout": 9, "on_timeout": "move_on"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_group_is_simulated_alone_without_what_only_those_around_it_use(
    options: dict[str, Any],
) -> None:
    inner = Scheduler(Job(anyio.sleep, 2, label="a"), label="inner", **options)
    Scheduler(inner, Job(anyio.sleep, 5))
    assert simulate(inner, durations={"a": 2}).makespan == 2
