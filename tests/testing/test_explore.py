"""Explored scenarios: which faults are found, how they are reported, and that sound scenarios pass."""

import asyncio
import gc
import itertools
import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
import anyio
import anyio.to_thread
import pytest
import trio
import trio._core._run as trio_run
from trioflow import (
    CommandJob,
    First,
    Job,
    JobState,
    Pool,
    Retry,
    Scheduler,
    Service,
    ThreadJob,
    current_job,
)
from trioflow.abc import AbstractJob, JobKind, run_of
from trioflow.testing import (
    FAULTS,
    BrokenRun,
    Exploration,
    _explore,
    _judge,
    explore,
    run_virtual,
)
from trioflow.testing._fault_plans import (
    END_PLACE,
    FAULT_OF_KIND,
    EndlessRun,
    Plan,
    PlanGenerator,
    RunOutcome,
)
from trioflow.testing._task_order import TaskOrder
from ..bodies import at_once, fail_now, give, later, serve
from ..examples.scripts import load_example
from ..places import PATIENCE
from ..transitions import CheckedState

# --- the scenarios of examples/six_faults.py without their faults: no injected fault breaks them

World = dict[str, Any]


def join_runs_once(world: World) -> Scheduler:
    world["joins"] = []

    async def part(seconds: float) -> None:
        await anyio.sleep(seconds)

    async def join() -> None:
        world["joins"].append("join")

    parts = [Job(part, 1, label="left"), Job(part, 2, label="right")]
    return Scheduler(*parts, Job(join, label="join", required=parts))


def slot_is_given_back() -> Scheduler:
    """Hold the slot by `async with`."""
    slots = anyio.Semaphore(1)

    async def work() -> None:
        async with slots:
            await anyio.sleep(1)

    return Scheduler(Job(work, label=name) for name in ("a", "b", "c"))


def wake_up_is_kept() -> Scheduler:
    """The producer's end wakes the consumer, even if it comes before the consumer waits."""

    async def consume() -> None:
        await anyio.sleep(0.1)
        await producer.wait_settled()

    producer = Job(anyio.sleep, 1, label="producer")
    return Scheduler(producer, Job(consume, label="consumer"), timeout=100)


def two_locks_in_order() -> Scheduler:
    """Lock the accounts in the same order in both transfers."""
    locks = {"alice": anyio.Lock(), "bob": anyio.Lock()}

    async def transfer(source: str, target: str, seconds: float) -> None:
        await anyio.sleep(seconds)
        first, second = sorted((source, target))
        async with locks[first]:
            await anyio.sleep(0.1)
            async with locks[second]:
                await anyio.sleep(0.1)

    there = Job(transfer, "alice", "bob", 1, label="there")
    return Scheduler(there, Job(transfer, "bob", "alice", 2, label="back"))


def charged_once(world: World) -> Scheduler:
    """Give each charge a number, under which it is made once however often it is requested."""
    charges = world.setdefault("charges", [])

    async def charge(customer: str) -> str:
        if customer not in charges:
            charges.append(customer)
        await anyio.sleep(0.1)
        return f"receipt for {customer}"

    return Scheduler(
        Job(charge, name, label=f"charge {name}") for name in ("ann", "bob")
    )


def connection_is_closed_last() -> Scheduler:
    """Close the connection in a job that requires all its users."""
    closed: list[bool] = []

    async def query(seconds: float) -> None:
        assert not closed
        try:
            await anyio.sleep(seconds)
        finally:
            assert not closed

    async def close() -> None:
        closed.append(True)

    first, long = Job(query, 1, label="first"), Job(query, 5, label="long")
    following = Job(query, 2, label="next", required=first)
    return Scheduler(
        first,
        long,
        following,
        Job(close, label="close", required=[first, long, following]),
    )


def no_more_than_once(scheduler: Scheduler, world: World) -> None:
    """Check that the scenario did everything at most once."""
    assert len(world.get("joins", ())) <= 1
    charges = world.get("charges", [])
    assert len(set(charges)) == len(charges)


MENDED = (
    join_runs_once, slot_is_given_back, wake_up_is_kept, two_locks_in_order, charged_once, connection_is_closed_last,
)  # fmt: skip


Make = Callable[..., Scheduler]
SIX = load_example("six_faults").SIX
NAMES = [scenario.__name__ for scenario in SIX]


def story(make: Make, **options: Any) -> str:
    """Return the story of an exploration's finding, without its heading."""
    with pytest.raises(BrokenRun) as broken:
        explore(make, **{"seed": 1, **options})
    assert broken.value.story == str(broken.value)
    return broken.value.story.partition("\n\n")[2]


async def keep_slot(free: anyio.Semaphore) -> None:
    """Work with a slot, and give it back, but not after a failure."""
    await free.acquire()
    await anyio.sleep(1)
    free.release()


def plain() -> Scheduler:
    return Scheduler(Job(anyio.sleep, 1, label="a"), Job(anyio.sleep, 2, label="b"))


# ---------------------------------------------------------------- what is found
@pytest.mark.parametrize("scenario", SIX, ids=NAMES)
def test_each_of_the_six_faults_is_found(scenario: Make, backend: str) -> None:
    """Each of the six faults is found within a hundred runs, with a short story whose seed repeats exactly that run."""
    check, faults = SIX[scenario]
    with pytest.raises(BrokenRun) as broken:
        explore(
            scenario, check=check, faults=faults, backends=[backend], runs=100, seed=1
        )
    told = broken.value.story.partition("\n\n")[2]
    assert len(told.splitlines()) <= 8
    with pytest.raises(BrokenRun) as again:
        explore(scenario, check=check, faults=faults, seed=broken.value.seed)
    assert again.value.story.partition("\n\n")[2] == told


@pytest.mark.parametrize("scenario", SIX, ids=NAMES)
def test_none_of_the_six_faults_shows_in_a_plain_run(
    scenario: Make, backend: str
) -> None:
    """Without injected faults, all six faulty scenarios run as their authors meant."""
    check, _ = SIX[scenario]
    assert explore(scenario, check=check, seed=backend).tried == {}


def test_a_scenario_is_not_held_in_an_exploration(backend: str) -> None:
    """With `hold=True` a run waits for somebody where it would end with failures; in virtual time nobody can come."""

    def held() -> Scheduler:
        scheduler = plain()
        scheduler.hold = True
        return scheduler

    assert "failures" in explore(held, backends=[backend], runs=20, seed=1).tried


@pytest.mark.parametrize("scenario", MENDED, ids=lambda scenario: scenario.__name__)
def test_a_scenario_without_its_fault_passes_exploration(scenario: Make) -> None:
    """No injected fault breaks the corrected scenarios of the six faults."""
    explored = explore(scenario, check=no_more_than_once, runs=15, seed=2)
    assert explored.runs == 15
    assert set(explored.tried) >= {"order", "durations", "failures", "cancellation"}


@pytest.mark.soak
@pytest.mark.parametrize("scenario", MENDED, ids=lambda scenario: scenario.__name__)
def test_a_scenario_without_its_fault_passes_ten_thousand_explored_runs(
    scenario: Make,
) -> None:
    assert (
        explore(scenario, check=no_more_than_once, runs=10_000, seed=3).runs == 10_000
    )


def test_the_story_names_the_event_its_line_of_code_and_all_waiting_jobs() -> None:
    def scenario() -> Scheduler:
        free = anyio.Semaphore(1)
        holder = Job(anyio.sleep, 5, label="holder", needs={"gpu": 1})
        return Scheduler(
            holder,
            [Job(keep_slot, free, label=label) for label in "ab"],
            pool=Pool(gpu=1),
        )

    told = story(scenario, seed="trio fail@2:a")
    assert re.sub(r"test_explore.py:\d+", "HERE", told).splitlines() == [
        "on trio: stalls",
        "         1  'a' fails at HERE: await anyio.sleep(1) while 'holder' holds gpu=1",
        "         5  no task can resume:",
        "              'b' has waited since 0, at HERE: await free.acquire()",
        "",
        "To repeat this run: explore(..., seed='trio fail@2:a')",
    ]


@pytest.mark.parametrize("beyond", [0, 1])
def test_the_story_counts_the_waiting_jobs_that_it_does_not_name(beyond: int) -> None:
    """Three jobs that wait for their turn are named, and those beyond them are counted."""

    def scenario() -> Scheduler:
        waiting = [
            Job(anyio.sleep, 1, label=f"w{number}") for number in range(3 + beyond)
        ]
        return Scheduler(
            Job(keep_slot, anyio.Semaphore(0), label="stuck"), waiting, jobs_window=1
        )

    told = story(scenario, seed="trio")
    more = " and 1 more" if beyond else ""
    assert f"'w0', 'w1', 'w2'{more} wait for their turn" in told


def test_the_story_of_a_scenario_that_always_breaks_names_no_fault(
    checked_states: CheckedState,
) -> None:
    async def wrong() -> None:
        assert current_job().label == "right"

    told = story(lambda: Scheduler(Job(wrong, label="left")))
    assert "no fault was injected into this run" in told
    assert "an assert in 'left' fails: AssertionError" in told
    assert told.endswith("seed='trio')")
    checked_states.assertions.clear()  # it was meant to fail


def test_an_endless_wait_beside_a_busy_forever_job_is_found(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scenario() -> Scheduler:
        done = anyio.Event()

        async def beat() -> None:
            for _ in itertools.count():
                await anyio.sleep(1)

        return Scheduler(
            Job(beat, label="beat", forever=True),
            Job(later, 1, done.set, label="work"),
            Job(done.wait, label="waiter"),
        )

    monkeypatch.setattr(_explore, "PLAIN_ROUND_WAITS", 200)
    monkeypatch.setattr(_explore, "MIN_ROUND_WAITS", 200)
    told = story(scenario, faults=["failures"], backends=[backend])
    assert re.search(
        r"never ends: its jobs have waited \d+ times, and nothing else is due", told
    )
    assert "'waiter' has waited since 0" in told


@pytest.mark.parametrize("nested", [False, True])
def test_a_timeout_of_a_scheduler_hides_no_deadlock(backend: str, nested: bool) -> None:
    """A run that hangs until its scheduler times out is broken, unless a job was made to hang."""

    def scenario() -> Scheduler:
        free = anyio.Semaphore(1)
        jobs = Scheduler(
            [Job(keep_slot, free, label=label) for label in "ab"],
            timeout=60,
            label="jobs",
        )
        return Scheduler(jobs, timeout=90) if nested else jobs

    told = story(scenario, faults=["failures"], backends=[backend])
    assert f"on {backend}: only a timeout ends it" in told
    assert "no task can resume until 'jobs' times out at 60:" in told
    assert re.search(r"b' has waited since 0, at .* await free.acquire\(\)", told)
    explore(scenario, faults=["timeouts"], backends=[backend], runs=10)


def test_a_scheduler_timeout_that_cuts_sleeping_jobs_short_is_no_finding(
    backend: str,
) -> None:
    waits = (
        lambda: Scheduler(Job(anyio.sleep, 60), Job(anyio.sleep, 1), timeout=60),
        lambda: Scheduler(Job(anyio.sleep, 90), timeout=60),
        lambda: Scheduler(Job(anyio.sleep_forever), timeout=60),
    )
    assert [explore(make, backends=[backend], runs=10).runs for make in waits] == [
        10,
        10,
        10,
    ]


def test_a_job_kind_with_keeps_time_does_not_hang_before_it_begins(
    backend: str,
) -> None:
    class Patient(JobKind[None], keeps_time=True):
        async def co_run(self) -> None:
            with run_of(self).time_limit(self, cancels=True):
                await anyio.sleep(1)

    assert (
        explore(lambda: Scheduler(Patient(timeout=5)), backends=[backend], runs=30).runs
        == 30
    )


def test_the_timeout_of_a_settled_nested_scheduler_is_no_finding(backend: str) -> None:
    def scenario() -> Scheduler:
        nested = Scheduler(Job(anyio.sleep, 1), timeout=60)
        return Scheduler(nested, Job(anyio.sleep, 60), timeout=60)

    assert explore(scenario, backends=[backend], runs=30, seed=1).runs == 30


def test_a_timeout_hides_no_deadlock_of_a_job_that_is_late(backend: str) -> None:
    """A deadlock that occurs if a job is late is found, although the scheduler's timeout ends it."""

    def scenario() -> Scheduler:
        locks = [anyio.Lock(), anyio.Lock()]

        async def work(begins: float, first: int, then: int) -> None:
            await anyio.sleep(begins)
            async with locks[first]:
                await anyio.sleep(0.1)
                async with locks[then]:
                    await anyio.sleep(0.1)

        return Scheduler(
            Job(work, 1, 0, 1, label="a"), Job(work, 2, 1, 0, label="b"), timeout=60
        )

    told = story(scenario, faults=["durations"], backends=[backend])
    assert f"on {backend}: only a timeout ends it" in told
    assert "'a' begins 1 s later" in told or "'a' resumes 1 s later" in told


@pytest.mark.parametrize("limited", ["job", "scope"])
def test_a_long_wait_that_ends_is_no_finding(backend: str, limited: str) -> None:
    """A job that polls 11,000 times, until a timeout or another job ends the wait, is no finding."""

    def scenario() -> Scheduler:
        ready = anyio.Event()

        async def poll() -> None:
            with anyio.move_on_after(11_000 if limited == "scope" else 10**6):
                while not ready.is_set():  # noqa: ASYNC110 - as users do
                    await anyio.sleep(1)

        timeout = 11_000 if limited == "job" else None
        return Scheduler(
            Job(later, 1, ready.set, label="work", timeout=timeout),
            Job(poll, label="poll", timeout=timeout),
        )

    fault = "timeouts" if limited == "job" else "failures"
    assert explore(scenario, faults=[fault], backends=[backend], runs=3, seed=1).tried[
        fault
    ]


def test_a_task_left_running_is_found() -> None:
    async def work() -> None:
        keep.append(asyncio.create_task(anyio.sleep(100), name="stray"))
        await anyio.sleep(1)

    keep: list[Any] = []
    assert "these tasks are left running: stray" in story(
        lambda: Scheduler(Job(work)), backends=["asyncio"]
    )


def test_a_token_that_is_not_given_back_is_found() -> None:
    def scenario() -> Scheduler:
        tokens = anyio.CapacityLimiter(2)

        async def work() -> None:
            tokens.acquire_on_behalf_of_nowait("work")
            await anyio.sleep(1)
            tokens.release_on_behalf_of("work")

        return Scheduler(Job(work, label="work"), jobs_window=tokens)

    assert "1 tokens of" in story(scenario, faults=["failures"])


def test_each_job_is_shut_down_once_whatever_happens() -> None:
    """In each explored run, every job with a `co_shutdown`, nested or not, is shut down once."""
    calls: list[str] = []

    class Connection(AbstractJob[None]):
        async def co_run(self) -> None:
            await anyio.sleep(1)

        async def co_shutdown(self) -> None:
            calls.append(self.label)

    def scenario() -> Scheduler:
        inner = Scheduler(Connection(label="inner"), label="nested", retry=0)
        return Scheduler(Connection(label="outer", critical=True), inner)

    explored = explore(scenario, runs=20, seed=4)
    assert calls.count("inner") == calls.count("outer") == explored.runs


def test_after_a_crash_jobs_in_the_journal_are_restored_and_others_run_again() -> None:
    def scenario(world: World) -> Scheduler:
        log = world.setdefault("log", [])

        async def step(name: str, *_: object) -> str:
            log.append(name)
            try:
                await anyio.sleep(1)
                await anyio.sleep(1)
            finally:
                log.append(f"{name} unwinds")
            return name

        first = Job(step, "first", label="first")
        return Scheduler(first, Job(step, "second", first, label="second"))

    def check(scheduler: Scheduler, world: World) -> None:
        assert world["log"] == [
            "first",
            "first unwinds",
            "second",
            "second",
            "second unwinds",
        ]  # once: it was killed
        assert [job.restored for job in scheduler] == [True, False]
        assert scheduler.stop_reason is not None

    for backend in ("trio", "asyncio"):
        assert explore(
            scenario, check=check, seed=f"{backend} crash@2:second"
        ).tried == {"crash": 1}


@pytest.mark.parametrize("retries", ["engine", "own"])
def test_a_scenario_that_breaks_at_a_second_failure_is_found(
    backend: str, retries: str
) -> None:
    def scenario() -> Scheduler:
        failures.clear()

        async def send() -> None:
            try:
                await anyio.sleep(1)
            except Exception as error:
                failures.append(error)
                if retries == "engine":
                    raise
                await send()

        others = [Job(anyio.sleep, 1, label=f"other {number}") for number in range(3)]
        return Scheduler(
            Job(send, label="send", retry=2 if retries == "engine" else None), *others
        )

    def check(scheduler: Scheduler) -> None:
        assert len(failures) < 2

    failures: list[Exception] = []
    told = story(
        scenario, check=check, faults=["failures"], backends=[backend], runs=200, seed=3
    )
    assert told.count("'send' fails at ") == 2
    assert told.endswith(":send=2')")


# ---------------------------------------------------------------- what is done
def test_the_pauses_of_retries_are_the_same_in_each_run_of_a_plan() -> None:
    """Backoffs are random, but a plan that is run again has the same ones, so that a finding is found again."""
    times: list[list[float]] = []

    def make() -> Scheduler:
        times.append([])
        return Scheduler(Job(attempt, times[-1], retry=Retry(2)))

    async def attempt(times: list[float]) -> None:
        times.append(anyio.current_time())
        if len(times) < 3:
            raise OSError

    for _ in range(2):
        explore(make, seed="trio")
    first, *others = times
    assert len(first) == 3
    assert others
    assert all(other == first for other in others)


def test_the_same_seed_repeats_an_exploration() -> None:
    first, second, other = (explore(plain, runs=10, seed=seed) for seed in (5, 5, 6))
    assert first == second
    assert first.tried != other.tried
    assert str(first) == (
        f"10 runs, seed=5, nothing broken: {', '.join(f'{name} in {count}' for name, count in first.tried.items())}"
    )


def test_jobs_without_an_injected_fault_behave_as_in_an_ordinary_run(
    backend: str,
) -> None:
    class Double(Job[Any]):
        async def co_run(self) -> int:
            return 2 * await super().co_run()

    def scenario() -> Scheduler:
        one = Job(give, 1)
        service = Service(serve, label="service")
        return Scheduler(
            one,
            service,
            Double(give, one, timeout=5),
            Job(give, 3, 3, required=service, retry=1),
        )

    def facts(scheduler: Scheduler) -> None:
        seen.append(
            [
                (
                    type(job).__name__,
                    job.label,
                    job.result(),
                    job.started_at,
                    job.elapsed,
                    job.attempts,
                )
                for job in scheduler
            ]
        )

    seen: list[Any] = []
    explore(scenario, check=facts, seed=backend)

    async def main() -> None:
        scheduler = scenario()
        await scheduler.co_run()
        facts(scheduler)

    run_virtual(main, backend=backend)
    assert seen[0] == seen[1]


def test_faults_are_injected_into_jobs_added_during_the_run(backend: str) -> None:
    """A job added while the scenario runs may fail, hang and be cancelled like the others."""

    def scenario() -> Scheduler:
        scheduler = Scheduler(
            Job(
                later,
                1,
                lambda: scheduler.add(Job(anyio.sleep, 1, label="late")),
                label="early",
            )
        )
        return scheduler

    def check(scheduler: Scheduler) -> None:
        assert [job.state for job in scheduler] == [JobState.SUCCEEDED, JobState.FAILED]

    explore(scenario, check=check, seed=f"{backend} fail@1:late")


@pytest.mark.parametrize(
    ("change", "states", "reason"),
    [
        ("cancel@1:a", "CANCELLED SUCCEEDED", "COMPLETED"), ("stop@1:a", "CANCELLED CANCELLED", "CANCELLED"),
        ("cut@1:a", "CANCELLED CANCELLED", "CANCELLED"), ("cut@1:a=1", "CANCELLED CANCELLED", "CANCELLED"),
        ("ctrl-c@1:a", "CANCELLED CANCELLED", "INTERRUPTED"), ("fail@0:a", "FAILED SUCCEEDED", "FAILED"),
        ("fail@1:b", "SUCCEEDED FAILED", "FAILED"), ("fail@end:b", "SUCCEEDED FAILED", "FAILED"),
        ("late@0:b=7", "SUCCEEDED SUCCEEDED", "COMPLETED"),
    ],
)  # fmt: skip
def test_each_injected_fault_acts_on_jobs_and_the_run(
    backend: str, change: str, states: str, reason: str
) -> None:
    def check(scheduler: Scheduler) -> None:
        assert " ".join(job.state.name for job in scheduler) == states
        assert scheduler.stop_reason is not None
        assert scheduler.stop_reason.name == reason
        assert not change.startswith("late") or [job.elapsed for job in scheduler] == [
            1,
            9,
        ]

    assert explore(plain, check=check, seed=f"{backend} {change}").runs == 1


def test_a_job_without_end_hangs_until_its_timeout(backend: str) -> None:
    def scenario() -> Scheduler:
        return Scheduler(
            Job(anyio.sleep, 1, label="limited", timeout=5),
            Job(anyio.sleep, 1, label="free"),
        )

    def check(scheduler: Scheduler) -> None:
        limited, free = scheduler
        hung.append(limited.timed_out)
        assert free.state is JobState.SUCCEEDED

    hung: list[bool] = []
    explore(
        scenario, check=check, faults=["timeouts"], backends=[backend], runs=20, seed=1
    )
    assert True in hung
    assert False in hung


def test_a_service_lives_as_long_as_its_clients() -> None:
    """A service stays open while jobs use it, whatever faults are injected."""

    def scenario() -> Scheduler:
        is_open = False

        async def connect(*, task_status: Any) -> None:
            nonlocal is_open
            is_open = True
            try:
                task_status.started()
                await anyio.sleep_forever()
            finally:
                is_open = False

        async def use(_: object) -> None:
            assert is_open
            await anyio.sleep(1)
            assert is_open

        service = Service(connect, label="service")
        return Scheduler(
            service, Job(use, service, label="a"), Job(use, service, label="b")
        )

    assert "cancellation" in explore(scenario, runs=50, seed=1).tried


def test_a_cancellation_of_a_job_about_to_wait_comes_when_it_waits() -> None:
    """A cancellation of a job that is about to wait comes when it waits; trio once broke down on it."""

    def scenario() -> Scheduler:
        async def first() -> None:
            await second.wait_settled()

        before = Job(anyio.sleep, 1, label="before")
        second = Job(anyio.sleep, 1, label="second", required=before, run_if="settled")
        return Scheduler(before, second, Job(first, label="first"))

    ranks = "rank@0:before=3 rank@0:second=2 rank@0:first=1"
    explored = explore(scenario, seed=f"trio cancel@0:before stop@2:first {ranks}")
    assert explored.tried == {"cancellation": 1, "order": 1}


def test_an_error_inside_trio_is_reported_with_its_seed() -> None:
    def scenario() -> Scheduler:
        async def breaks() -> None:
            trio.lowlevel.spawn_system_task(fail_now)
            await anyio.sleep(1)

        return Scheduler(Job(breaks))

    told = story(scenario, seed="trio")
    assert "on trio: trio breaks down" in told
    assert "OSError: broken" in told
    assert told.endswith("seed='trio')")


# ---------------------------------------------------------------- bad input
async def is_good(scheduler: Scheduler) -> None:
    raise AssertionError


async def in_loop() -> Exploration:
    return explore(plain)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (
            lambda: explore(plain, runs=0),
            ValueError,
            "runs=0 of explore(): give a whole number, 1 or more",
        ),
        (
            lambda: explore(plain, runs=1.5),
            TypeError,
            "runs=1.5 of explore(): give a whole number",
        ),
        (
            lambda: explore(plain, seed=1.5),
            TypeError,
            "seed=1.5: give a whole number, or the text",
        ),
        (
            lambda: explore(plain, seed="trio fail"),
            ValueError,
            "seed='trio fail': give a number, or the text after",
        ),
        (
            lambda: explore(plain, seed="curio"),
            ValueError,
            "seed='curio': give a number",
        ),
        (
            lambda: explore(plain, faults=["orders"]),
            ValueError,
            "unknown name 'orders'; choose from 'order', 'dur",
        ),
        (
            lambda: explore(plain, seed="trio late@1:a=nan"),
            ValueError,
            "seed='trio late@1:a=nan': give a number, or",
        ),
        (
            lambda: explore(plain, seed="trio late@1:a=-1"),
            ValueError,
            "seed='trio late@1:a=-1': give a number, or",
        ),
        (
            lambda: explore(plain, seed="trio fail@-1:a"),
            ValueError,
            "seed='trio fail@-1:a': give a number, or",
        ),
        (
            lambda: explore(plain, seed="trio fail@1:c"),
            ValueError,
            "the scenario has no job 'c'; its jobs are 'a', 'b'",
        ),
        (
            lambda: explore(plain, seed="asyncio fail@3:a"),
            ValueError,
            "could not be applied in this run, in which 'a' w",
        ),
        (
            lambda: explore(plain, seed="trio crash@1:a"),
            ValueError,
            "let it take the world, which outlives a crash",
        ),
        (
            lambda: explore(plain, faults=[]),
            ValueError,
            "faults=(): choose at least one; for a plain run, give seed",
        ),
        (
            lambda: explore(plain, faults="order"),
            TypeError,
            "faults='order': give a tuple of names",
        ),
        (
            lambda: explore(plain, faults=["crash"]),
            ValueError,
            "let it take the world, which outlives a crash",
        ),
        (
            lambda: explore(plain, backends=()),
            ValueError,
            "backends=(): choose one of 'trio' and 'asyncio'",
        ),
        (
            lambda: explore(plain, backends=["curio"]),
            ValueError,
            "unknown name 'curio'",
        ),
        (lambda: explore(plain()), TypeError, "give a function"),
        (
            lambda: explore(lambda a, b: plain()),
            TypeError,
            "let it take no argument, or the world",
        ),
        (
            lambda: explore(plain, check=lambda: None),
            TypeError,
            "let it take the scheduler, or the scheduler and",
        ),
        (
            lambda: explore(plain, check=is_good),
            TypeError,
            "check is async, and is called when the run is over: make",
        ),
        (
            lambda: explore(plain, check=lambda run: False),
            TypeError,
            "check returned False: let it assert what must",
        ),
        (
            lambda: explore(in_loop),
            TypeError,
            "make_scheduler is async: make it a plain function",
        ),
        (
            lambda: explore(lambda: None),
            TypeError,
            "make_scheduler returned nothing: let it build and return a",
        ),
        (
            lambda: explore(lambda: Scheduler(ThreadJob(sorted))),
            TypeError,
            "'sorted()' is a ThreadJob, which works in real time",
        ),
        (
            lambda: explore(lambda: Scheduler(CommandJob(["true"]))),
            TypeError,
            "'true' is a CommandJob, which works in real time",
        ),
        (
            lambda: run_virtual(in_loop),
            RuntimeError,
            "starts an event loop, but one is already running",
        ),
    ],
)
def test_bad_arguments_of_explore_are_rejected(
    call: Callable[[], object], error: type[Exception], says: str
) -> None:
    """An invalid argument of `explore` raises an error that says what was found and what to do."""
    with pytest.raises(error, match=re.escape(says)):
        call()


def test_a_thread_job_added_during_the_run_is_rejected() -> None:
    def scenario() -> Scheduler:
        scheduler = Scheduler(
            Job(at_once, lambda: scheduler.add(ThreadJob(sorted, [2, 1], label="sort")))
        )
        return scheduler

    with pytest.raises(
        TypeError, match="'sort' is a ThreadJob, which works in real time"
    ):
        explore(scenario)


def test_an_exception_of_a_later_make_scheduler_call_is_reported_with_its_seed(
    backend: str,
) -> None:
    def scenario(world: World) -> Scheduler:
        if "begun" in world:
            raise KeyError("no state")
        world["begun"] = True
        return plain()

    with pytest.raises(BrokenRun) as broken:
        explore(scenario, faults=["crash"], backends=[backend], runs=20, seed=1)
    assert re.match(r"Run \d+ of 20 \(seed=1\)", broken.value.story)
    assert "make_scheduler raises KeyError: 'no state'" in broken.value.story
    with pytest.raises(BrokenRun):
        explore(scenario, seed=broken.value.seed)


@pytest.mark.parametrize("in_group", [False, True])
def test_a_job_that_waits_for_a_thread_is_rejected(
    backend: str, in_group: bool
) -> None:
    def scenario() -> Scheduler:
        async def work() -> None:
            if in_group:
                async with anyio.create_task_group() as group:
                    group.start_soon(anyio.to_thread.run_sync, time.sleep, 0.05)
            else:
                await anyio.to_thread.run_sync(time.sleep, 0.05)

        return Scheduler(Job(work, label="work"))

    who = "a task of a job" if in_group else "'work'"
    with pytest.raises(
        TypeError, match=f"{who} waits for a thread, which works in real time"
    ):
        explore(scenario, backends=[backend])


def test_make_scheduler_that_returns_a_used_scheduler_is_rejected() -> None:
    """`explore` rejects a `make_scheduler` that returns the same scheduler again instead of a new one."""
    scheduler = plain()
    with pytest.raises(
        ValueError, match="which has run before: build a new one at each call"
    ):
        explore(lambda: scheduler)


def test_the_error_of_an_invalid_scenario_is_raised_unchanged() -> None:
    with pytest.raises(ValueError, match="which no enclosing pool has"):
        explore(lambda: Scheduler(Job(anyio.sleep, 1, needs={"gpu": 1})))


def test_what_a_killed_program_does_as_it_unwinds_is_lost(backend: str) -> None:
    """A program is killed once: what it does afterwards, as it unwinds, is neither in the world nor in the journal."""

    def scenario(world: dict[str, list[str]]) -> Scheduler:
        async def first() -> None:
            try:
                await anyio.sleep(1)
            finally:
                world.setdefault("unwound", []).append("first")
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(1)

        return Scheduler(Job(first, label="first"))

    def check(scheduler: Scheduler, world: dict[str, list[str]]) -> None:
        assert world == {"unwound": ["first"]}, "of the second program alone"

    with pytest.raises(ValueError, match="'crash@2:first' could not be applied"):
        explore(scenario, check=check, seed=f"{backend} crash@1:first crash@2:first")


def test_a_crash_with_a_world_that_cannot_be_copied_is_rejected() -> None:
    def scenario(world: World) -> Scheduler:
        world["generator"] = (number for number in range(3))
        return plain()

    with pytest.raises(
        TypeError,
        match=r"a crash copies the world, but it cannot be copied .*: keep plain data in it",
    ):
        explore(scenario, seed="trio crash@1:a")


AT_WAITS = ("fail", "crash", "cancel", "stop", "cut", "ctrl-c", "late")


@pytest.mark.parametrize(
    "faults", [FAULTS, ("crash",), ("failures",), ("cancellation",), ("durations",)]
)
def test_each_place_where_a_plan_may_put_a_fault_is_tried(
    faults: tuple[str, ...],
) -> None:
    """Places times kinds: each wait of each job, its beginning, and the moment after its end, where a job can still
    fail, and its program be killed. Single faults are shuffled, and each comes in time."""
    waits = {"a": 2, "b": 0}
    outcome = RunOutcome(
        Plan("trio"), TaskOrder(), wait_counts=waits, jobs_with_timeout={"a"}
    )
    generator = PlanGenerator(7, faults)
    generator.record(outcome)
    # Another run has ended earlier.
    generator.record(replace(outcome, wait_counts={"a": 1, "b": 0}))
    generator.begin(1.0)
    plans = [generator.next_plan("trio")[0] for _ in range(300)]
    tried = {
        (change.kind, change.name, change.at)
        for plan in plans
        if len(plan.changes) == 1
        for change in plan.changes
    }
    expected = {
        (kind, name, at)
        for name, count in waits.items()
        for at in range(count + 1)
        for kind in AT_WAITS
    }
    expected |= {
        (kind, name, END_PLACE) for name in waits for kind in ("fail", "crash")
    }
    expected |= {("hang", "a", 0)}
    expected = {place for place in expected if FAULT_OF_KIND[place[0]] in faults}
    if "order" in faults:
        tried = {place for place in tried if FAULT_OF_KIND[place[0]] != "order"}
    assert tried == expected


def test_names_of_the_faults_are_the_documented_ones() -> None:
    assert FAULTS == (
        "order",
        "durations",
        "timeouts",
        "failures",
        "cancellation",
        "ctrl-c",
        "crash",
    )


@pytest.mark.parametrize("collects", [True, False])
@pytest.mark.parametrize("logs", [True, False])
def test_exploring_leaves_the_program_as_it_was(
    monkeypatch: pytest.MonkeyPatch, logs: bool, collects: bool
) -> None:
    """Whether it finds something, finds nothing, or cannot begin: its log, and the garbage collector."""

    def refuse(scheduler: Scheduler) -> None:
        assert not scheduler

    monkeypatch.setattr(logging.getLogger("trioflow"), "disabled", not logs)
    (gc.enable if collects else gc.disable)()
    try:
        for check in (None, refuse):
            try:
                explore(plain, check=check, runs=2, seed=1, backends=["asyncio"])
            except BrokenRun:
                assert check is refuse
            assert logging.getLogger("trioflow").disabled is not logs
            assert gc.isenabled() is collects
    finally:
        gc.enable()


def test_explorations_in_two_threads_take_turns() -> None:
    """The second kept the order and the silent log of the first, so the whole program had them from then on."""
    logger = logging.getLogger("trioflow")
    second_began, first_ended = threading.Event(), threading.Event()
    before = logger.disabled, gc.isenabled(), trio_run._r  # type: ignore[attr-defined]

    def second() -> Scheduler:
        second_began.set()
        first_ended.wait(PATIENCE)
        return Scheduler(Job(give))

    thread = threading.Thread(target=explore, args=(second,), kwargs={"runs": 2})

    def first() -> Scheduler:
        if not thread.ident:
            thread.start()
        second_began.wait(0.2)
        return Scheduler(Job(give))

    explore(first, runs=2)
    first_ended.set()
    thread.join()
    after = logger.disabled, gc.isenabled(), trio_run._r  # type: ignore[attr-defined]
    assert after == before


def test_an_error_of_the_scenario_in_a_later_run_says_in_which() -> None:
    calls = itertools.count()

    def check(_: Scheduler) -> str | None:
        return "returned" if next(calls) == 2 else None

    with pytest.raises(TypeError, match="returned") as raised:
        explore(plain, check=check, runs=9, seed=4, backends=["asyncio"])
    assert raised.value.__notes__[0].startswith(
        "This is run 3 of 9 (seed=4) of explore: asyncio"
    )


# --- `explore` knows `First`: faults around one are found, and a sound one passes
async def pay(world: dict[str, Any], name: str, seconds: float) -> str:
    world.setdefault("called", []).append(name)
    await anyio.sleep(seconds)
    world.setdefault("paid", []).append(name)
    return name


def hedged(world: dict[str, Any]) -> Scheduler:
    """Return a hedged request, whose answer another job uses."""
    first = First(
        Job(pay, world, "a", 0.5, key="a", label="a"),
        Job(pay, world, "b", 0.5, key="b", label="b"),
        stagger=1,
        label="ask",
    )
    return Scheduler(first, Job(pay, world, first, 1, key="use", label="use"))


def check_result(scheduler: Scheduler, world: dict[str, Any]) -> None:
    first = next(iter(scheduler))
    if first.is_succeeded():
        assert first.result() in world["paid"]
        assert sum(job.is_succeeded() for job in first) == (
            not first.restored
        )  # it is restored as a whole


def test_a_sound_first_passes(backend: str) -> None:
    """Whatever fails, is late, is cancelled or crashes, the result is that of the one job that succeeded."""
    assert (
        explore(hedged, check=check_result, backends=[backend], runs=15, seed=1).runs
        == 15
    )


def test_a_hedge_that_begins_is_found(backend: str) -> None:
    """A late answer lets the second job of a hedge start; the story shows it."""

    def calls_once(scheduler: Scheduler, world: dict[str, Any]) -> None:
        assert "b" not in world["called"]

    with pytest.raises(BrokenRun, match="ask/a"):
        explore(
            hedged,
            check=calls_once,
            faults=["durations"],
            backends=[backend],
            runs=100,
            seed=1,
        )


def test_a_run_that_was_given_up_may_wait_a_number_of_times() -> None:
    """Its jobs unwind; one that swallows each cancellation ends then."""
    story: Any = SimpleNamespace(outcome=RunOutcome(Plan("trio"), TaskOrder()))
    unused: Any = None
    watch = _judge.ProgressWatch(story, unused, unused, 1, unused, unused)
    watch.has_given_up = True
    for _ in range(_judge.MAX_WAITS_AFTER_GIVING_UP):
        watch.count_wait()
    with pytest.raises(EndlessRun):
        watch.count_wait()
