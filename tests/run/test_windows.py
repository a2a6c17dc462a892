"""Windows: numbers and limiters, which count the jobs that work, at any depth."""

import functools
import math
import re
from typing import Any
import anyio
import pytest
import trio
from trioflow import Job, Pool, Rate, Scheduler, Sequence, ThreadJob
from trioflow._core.admission._window import max_slots
from trioflow.abc import AbstractJob, BackendName, Instrument, WaitCause, waiting
from ..bodies import (
    LIMIT,
    RUNNING,
    SCHEDULED,
    at_once,
    fail,
    later,
    nap,
    naps,
    noted,
    running,
    starts,
    timed,
    unwind,
)
from ..conftest import Virtual


# --- numbers and limiters
class Peak(Instrument):
    """An instrument that records the order of starts, and how many leaf jobs ran at once at most."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.running = self.most = 0

    def job_started(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        self.order.append(job.label)
        if not isinstance(job, Scheduler) and not job.forever:
            self.running += 1
            self.most = max(self.most, self.running)

    def job_settled(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        if (
            not isinstance(job, Scheduler)
            and not job.forever
            and job.started_at is not None
        ):
            self.running -= 1


# --- windows that are numbers
def test_a_smaller_window_holds_for_all_that_have_not_begun(virtual: Virtual) -> None:
    """Those that had their needs and a slot, but had to wait until others were taken, started beyond it."""
    watch = Peak()

    async def shrink() -> None:
        if len(watch.order) == 1:
            scheduler.jobs_window = 2
        await anyio.sleep(1)

    jobs = [Job(shrink, needs={"cpu": 1}) for _ in range(40)]
    scheduler = Scheduler(*jobs, pool=Pool(cpu=40), jobs_window=40)
    result, seconds = virtual(lambda: timed(scheduler, instruments=[watch]))
    assert result
    assert (watch.most, seconds) == (2, pytest.approx(20))


@pytest.mark.parametrize("window", [1, 2, 3, 4, 5, 9])
def test_window_is_never_exceeded_and_always_full(
    virtual: Virtual, window: int
) -> None:
    """There are never more running jobs than the window allows, and never fewer while enough jobs are ready."""
    watch = Peak()
    scheduler = Scheduler(naps(8), jobs_window=window)
    assert virtual(functools.partial(timed, scheduler, instruments=[watch])) == (
        True,
        -(-8 // window),
    )
    assert watch.most == min(window, 8)
    assert starts(scheduler) == [number // window for number in range(8)]


@pytest.mark.parametrize("window", [0, None, math.inf])
def test_a_window_of_0_or_none_is_no_limit(
    virtual: Virtual, window: float | None
) -> None:
    """All ready jobs run at once, and views show no limit. So it is with a limiter of infinitely many tokens."""
    limit: Any = anyio.CapacityLimiter(math.inf) if window else window
    assert not max_slots(limit)
    assert virtual(timed, Scheduler(naps(50), jobs_window=limit)) == (True, 1)


def test_run_overrides_the_window(virtual: Virtual) -> None:
    """The `jobs_window` of a call of `run` replaces the scheduler's own, and None removes the limit."""
    scheduler = Scheduler(naps(6), jobs_window=1)
    for window, seconds in [(2, 3), (None, 1), (0, 1), (6, 1), (..., 6)]:
        assert virtual(functools.partial(timed, scheduler, jobs_window=window)) == (
            True,
            seconds,
        )
    assert virtual(lambda: timed(scheduler, jobs_window=anyio.CapacityLimiter(3))) == (
        True,
        2,
    )


# --- limiters
def limiter_of(virtual: Virtual, kind: str, tokens: int) -> Any:
    return (
        trio.CapacityLimiter(tokens)
        if kind == "trio"
        else anyio.CapacityLimiter(tokens)
    )


@pytest.mark.parametrize("kind", ["trio", "anyio"])
@pytest.mark.parametrize("tokens", [1, 2, 5])
def test_a_limiter_may_be_the_window(virtual: Virtual, kind: str, tokens: int) -> None:
    """The window may be anyio's limiter, or trio's on trio: as many jobs run at once as it has tokens."""
    watch = Peak()

    async def main() -> tuple[bool, float]:
        limiter = limiter_of(virtual, kind, tokens)
        answer = await timed(
            Scheduler(naps(10), jobs_window=limiter), instruments=[watch]
        )
        assert limiter.borrowed_tokens == 0
        return answer

    if kind == "trio" and virtual.backend == "asyncio":
        with pytest.raises(TypeError, match="CapacityLimiter of anyio"):
            virtual(main)
        return
    assert virtual(main) == (True, 10 // tokens)
    assert watch.most == tokens


def test_tokens_held_by_other_code_are_not_available_as_slots(virtual: Virtual) -> None:
    """Tokens that other code holds are no slots until they are given back."""

    async def main() -> tuple[bool, float]:
        limiter = anyio.CapacityLimiter(2)
        async with anyio.create_task_group() as tasks:
            limiter.acquire_on_behalf_of_nowait("somebody")
            tasks.start_soon(
                later, 2.5, lambda: limiter.release_on_behalf_of("somebody")
            )
            return await timed(Scheduler(naps(6), jobs_window=limiter))

    assert virtual(main) == (True, 4.5)


def test_another_user_of_the_limiter_waits_for_one_job_only(virtual: Virtual) -> None:
    got: list[float] = []

    async def stranger(limiter: anyio.CapacityLimiter) -> None:
        await anyio.sleep(0.5)
        async with limiter:
            got.append(anyio.current_time())

    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stranger, limiter)
            await Scheduler(naps(20), jobs_window=limiter).co_run()

    virtual(main)
    assert got[0] <= 2


@pytest.mark.parametrize("jobs", [2, 3])
def test_the_last_job_leaves_the_limiters_queue_empty(
    virtual: Virtual, jobs: int
) -> None:
    async def main() -> list[int]:
        limiter = anyio.CapacityLimiter(1)
        waiting: list[int] = []
        assert await Scheduler(
            [
                Job(
                    later, 1, lambda: waiting.append(limiter.statistics().tasks_waiting)
                )
                for _ in range(jobs)
            ],
            jobs_window=limiter,
        ).co_run()
        return waiting

    assert virtual(main) == [1] * (jobs - 1) + [0]


# --- limiters: schedulers hold no token, and jobs that wait hold none
def waiter(limiter: Any) -> Scheduler:
    """Return a scheduler that has a token while a job inside a nested one waits for the gpu."""
    return Scheduler(
        Scheduler(Job(nap, 1, needs={"gpu": 1}, label="j")),
        jobs_window=limiter,
        label="b",
    )


def test_a_limiter_that_was_made_outside_of_the_loop_is_first_used_at_the_time_of_a_rate(
    virtual: Virtual,
) -> None:
    """The round that a timer begins takes tokens, although anyio can tell the library of a limiter in a task alone."""
    first, second = [Job(nap, 1, needs={"api": 1}) for _ in range(2)]
    inner = Scheduler(second, jobs_window=anyio.CapacityLimiter(1))
    assert virtual(
        timed, Scheduler(first, inner, pool=Pool(api=Rate(requests=1, per=5)))
    ) == (True, 6)


def test_explain_names_the_holder_of_the_token(virtual: Virtual) -> None:
    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        b = waiter(limiter)
        (job,) = (one for one in b.iterate_jobs() if one.label == "j")
        b.add(Job(nap, 5, label="long"))
        scheduler = Scheduler(
            Job(nap, 1, needs={"gpu": 1}, priority=1), b, pool=Pool(gpu=1)
        )
        async with running(scheduler, 0.5):
            assert scheduler.explain(job).startswith(
                "'j' waits for gpu: 1 of 1 taken by"
            )
            assert waiting(job).cause is WaitCause.RESOURCE  # type: ignore[union-attr]
            await anyio.sleep(1.5)
            text = (
                "waits for a token of the window of 'b': its limiter is exhausted, with"
            )
            assert scheduler.explain(job) == f"'j' {text} 'long'"
            assert waiting(job) == (WaitCause.TOKEN, "", "no free token")
        assert job.started_at == b.started_at + 5  # type: ignore[operator]

    virtual(main)


async def watched(scheduler: Scheduler, **options: Any) -> Peak:
    watch = Peak()
    with anyio.fail_after(LIMIT):
        assert await scheduler.co_run(instruments=[watch], **options)
    return watch


# --- no circle
@pytest.mark.parametrize("depth", [1, 4, 40])
def test_one_token_is_enough_at_any_depth(virtual: Virtual, depth: int) -> None:
    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        scheduler = Scheduler(naps(1), jobs_window=limiter)
        for number in range(depth):
            scheduler = Scheduler(
                scheduler, naps(1), jobs_window=limiter if number % 3 else None
            )
        scheduler = Scheduler(scheduler, jobs_window=limiter)
        start = anyio.current_time()
        assert ((await watched(scheduler)).most, anyio.current_time() - start) == (
            1,
            depth + 1,
        )

    virtual(main)


# --- what takes a token
@pytest.mark.parametrize(
    ("window", "tokens", "most"), [(2, 3, 2), (3, 2, 2), (1, 5, 1)]
)
@pytest.mark.parametrize("inside", ["integer", "limiter"])
def test_a_job_takes_a_slot_and_a_token(
    virtual: Virtual, inside: str, window: int, tokens: int, most: int
) -> None:
    """An integer window inside a limiter, or around it, limits jobs together with the limiter."""

    async def main() -> tuple[int, float]:
        limiter = anyio.CapacityLimiter(tokens)
        start = anyio.current_time()
        if inside == "integer":
            watch = await watched(
                Scheduler(Scheduler(naps(6), jobs_window=window), jobs_window=limiter)
            )
        else:
            nested = [Scheduler(naps(1), jobs_window=limiter) for _ in range(6)]
            watch = await watched(Scheduler(nested, jobs_window=window))
        return watch.most, anyio.current_time() - start

    assert virtual(main) == (most, 6 / most)


@pytest.mark.parametrize("around", [True, False])
def test_thread_job_with_a_limiter_takes_its_token_instead_of_the_windows(
    backend: str, around: bool
) -> None:
    async def main() -> list[str]:
        window, own = anyio.CapacityLimiter(1), anyio.CapacityLimiter(1)
        job = ThreadJob(len, "four", limiter=own, label="thread")
        nested = Scheduler(job, jobs_window=None if around else window)
        await window.acquire()
        await Scheduler(nested, jobs_window=window if around else None).co_run()
        assert job.result() == 4
        return [str(limiter.borrowed_tokens) for limiter in (window, own)]

    assert anyio.run(main, backend=backend) == ["1", "0"]


# --- waiting
def test_a_job_that_waits_for_a_token_is_scheduled_and_has_its_needs(
    virtual: Virtual,
) -> None:
    async def main() -> None:
        limiter, pool = anyio.CapacityLimiter(1), Pool(cpu=3)
        jobs = [Job(nap, 1, needs={"cpu": 1}, label=name) for name in "abcd"]
        scheduler = Scheduler(jobs, jobs_window=limiter, pool=pool)
        async with running(scheduler, 0.5):
            assert [job.state for job in jobs] == [
                RUNNING,
                SCHEDULED,
                SCHEDULED,
                SCHEDULED,
            ]
            assert (limiter.borrowed_tokens, pool.free["cpu"]) == (1, 0)
            assert [waiting(job).cause for job in jobs[1:]] == [  # type: ignore[union-attr]
                WaitCause.TOKEN,
                WaitCause.TOKEN,
                WaitCause.RESOURCE,
            ]
        assert [job.started_at for job in jobs] == [0, 1, 2, 3]
        assert pool.free == pool.total

    virtual(main)


@pytest.mark.parametrize("nested", [True, False])
def test_a_rate_is_not_exceeded_when_tokens_become_free(
    virtual: Virtual, nested: bool
) -> None:
    async def main() -> list[float]:
        limiter = anyio.CapacityLimiter(4)
        jobs = [Job(nap, 0.125, needs={"api": 1}) for _ in range(12)]
        rate = Rate(requests=1, per=1, burst=2)
        scheduler = Scheduler(
            jobs,
            [Scheduler(naps(1))] if nested else [],
            jobs_window=limiter,
            pool=Pool(api=rate),
        )
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                limiter.acquire_on_behalf_of_nowait(number)
            tasks.start_soon(scheduler.co_run)
            await anyio.sleep(20)
            for number in range(4):
                limiter.release_on_behalf_of(number)
        return [job.started_at or 0.0 for job in jobs]

    found = virtual(main)
    for first, begin in enumerate(found):
        for number, when in enumerate(found[first:], 1):
            assert number <= 2 + (when - begin) + 1e-6
    assert max(found) == 30


@pytest.mark.parametrize(
    "late",
    [{"priority": 5}, {"needs": {"c": 1}, "priority": 5}, {"expected_duration": 9}],
)
@pytest.mark.parametrize("early", [{}, {"priority": 1}, {"needs": {"c": 1}}])
def test_priority_decides_who_gets_next_token(
    virtual: Virtual, early: dict[str, Any], late: dict[str, Any]
) -> None:
    async def main() -> list[str]:
        limiter = anyio.CapacityLimiter(1)
        if "expected_duration" in late:
            late.pop("priority", None)
        jobs = [Job(nap, 1, label=f"j{number}", **early) for number in range(4)]
        scheduler = Scheduler(jobs, jobs_window=limiter, pool=Pool(c=4))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(
                later, 0.5, lambda: scheduler.add(Job(nap, 1, label="late", **late))
            )
            watch = await watched(scheduler)
        assert (limiter.borrowed_tokens, watch.most) == (0, 1)
        return watch.order

    found = virtual(main)
    if late.get("priority", 0) > early.get("priority", 0):
        assert found == ["j0", "late", "j1", "j2", "j3"]
    assert [name for name in found if name != "late"] == ["j0", "j1", "j2", "j3"]


def test_a_limiter_counts_each_run_that_waits_once(virtual: Virtual) -> None:
    """The statistics of a limiter tell a server how many requests wait, whatever the number of their jobs."""

    async def count_waiting() -> int:
        limiter = anyio.CapacityLimiter(1)
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(Scheduler(naps(5), jobs_window=limiter).co_run)
            await anyio.sleep(0.5)
            return limiter.statistics().tasks_waiting

    assert virtual(count_waiting) == 3


def test_run_ends_when_the_last_job_that_waits_for_a_token_is_cancelled(
    virtual: Virtual,
) -> None:
    async def main() -> float:
        limiter = anyio.CapacityLimiter(1)
        job = Job(nap)
        async with limiter, anyio.create_task_group() as tasks:
            tasks.start_soon(later, 2, job.cancel)
            with anyio.fail_after(LIMIT):
                await Scheduler(job, jobs_window=limiter).co_run()
            assert limiter.statistics().tasks_waiting == 0
            return anyio.current_time()

    assert virtual(main) == 2


@pytest.mark.parametrize("word", ["drain", "cancel"])
def test_a_token_passes_over_a_group_that_has_asked_before_and_waits_no_longer(
    virtual: Virtual, word: str
) -> None:
    group, late = Scheduler(naps(2)), Job(nap, label="late")

    async def steer() -> None:
        await anyio.sleep(1)
        scheduler.add(late)
        await anyio.sleep(1)
        getattr(group, word)()

    scheduler = Scheduler(
        Job(nap, 5),
        group,
        Job(steer, forever=True),
        jobs_window=anyio.CapacityLimiter(1),
    )
    virtual(scheduler.co_run)
    assert late.started_at == 5


# --- a scheduler that a job runs itself
@pytest.mark.parametrize("is_nested", [False, True])
def test_a_scheduler_run_by_a_body_with_the_limiter_of_its_job_is_rejected(
    virtual: Virtual, is_nested: bool
) -> None:
    """A body may not run a scheduler with its job's limiter, whose token the job holds: the error advises nesting. One
    that is inside of what the body runs fails instead of waiting forever."""

    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        inner = Scheduler(naps(1), jobs_window=limiter, label="inner")
        job = Job(
            (Scheduler(inner, label="between") if is_nested else inner).co_run,
            label="job",
        )
        scheduler = Scheduler(job, jobs_window=limiter, label="outer")
        with anyio.fail_after(LIMIT):
            assert await scheduler.co_run() is is_nested
        error = (inner if is_nested else job).raised_exception()
        assert isinstance(error, RuntimeError)
        assert re.search(r"'inner'.*'job'.*nest it", str(error))
        if not is_nested:
            assert "by the body of 'job'" in str(error)
            assert "nest it: add 'inner' to 'outer'" in str(error)
            assert inner.stop_reason is None
            inner.jobs_window = anyio.CapacityLimiter(1)
            assert await scheduler.co_run(check=True)

    virtual(main)


def test_a_scheduler_run_by_a_body_without_a_token_may_have_its_limiter(
    virtual: Virtual,
) -> None:
    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        inner = Scheduler(naps(1), jobs_window=limiter)
        job = Job(inner.co_run, forever=True)
        assert await Scheduler(job, jobs_window=limiter).co_run(check=True)
        nested = Scheduler(Job(inner.co_run), jobs_window=anyio.CapacityLimiter(1))
        assert await Scheduler(nested, jobs_window=limiter).co_run(check=True)

    virtual(main)


@pytest.mark.parametrize("total", [6, 3, 2, 1, 0])
@pytest.mark.parametrize("library", ["own", "anyio"])
@pytest.mark.parametrize("number", [30, 15, 0])
def test_limiter_may_change_during_a_run(
    virtual: Virtual, backend: str, library: str, total: int, number: int
) -> None:
    """From the ends of those that work on, as many jobs work as the limiter has tokens now; with 0, none starts."""

    async def main() -> None:
        limiter: Any = (
            trio.CapacityLimiter(4)
            if (library, backend) == ("own", "trio")
            else anyio.CapacityLimiter(4)
        )
        jobs = [Job(nap, 2) for _ in range(30)]
        inner = Scheduler(
            jobs[number:], jobs_window=limiter if library == "own" else None
        )
        scheduler = Scheduler(jobs[:number], inner, jobs_window=limiter)
        async with running(scheduler, 1):
            limiter.total_tokens = total
            for _ in range(3):
                await anyio.sleep(2)
                assert (
                    sum(job.is_running() for job in jobs)
                    == limiter.borrowed_tokens
                    == total
                )
            limiter.total_tokens = 30
        assert limiter.borrowed_tokens == 0

    virtual(main)


def test_runs_get_tokens_in_the_order_in_which_they_asked(virtual: Virtual) -> None:
    """A job that becomes ready when two tokens are given back comes after two of a nested run that have waited."""
    first, second, waiting = Job(nap, 5), Job(nap, 5), [Job(nap, 1) for _ in range(2)]
    late = Job(nap, 1, required=second)
    scheduler = Scheduler(
        first, second, late, Scheduler(waiting), jobs_window=anyio.CapacityLimiter(2)
    )
    assert virtual(timed, scheduler) == (True, 7)
    assert [job.started_at for job in (*waiting, late)] == [5, 5, 6]


@pytest.mark.parametrize("how", ["required", "added"])
def test_a_job_asks_after_those_of_a_nested_run_that_have_waited(
    virtual: Virtual, how: str
) -> None:
    order: list[str] = []

    async def work(name: str) -> None:
        order.append(name)
        await nap(1)
        if name == "own" and how == "added":
            scheduler.add(Job(work, "new"))

    own, nested = (
        Job(work, "own"),
        Scheduler(Job(work, "nested 1"), Job(work, "nested 2")),
    )
    new = [Job(work, "new", required=own)] if how == "required" else []
    scheduler = Scheduler(own, new, nested, jobs_window=anyio.CapacityLimiter(1))
    assert virtual(scheduler.co_run)
    assert order == ["own", "nested 1", "nested 2", "new"]


def test_a_job_that_waits_no_longer_takes_its_turn_with_it(virtual: Virtual) -> None:
    order: list[str] = []
    jobs = {
        name: Job(noted, order, name) for name in ("first", "a", "b", "c", "x", "y")
    }
    one = Scheduler(*[jobs[name] for name in ("a", "b", "c")])
    other = Scheduler(jobs["x"], jobs["y"])
    limited = Scheduler(jobs["first"], one, other, jobs_window=anyio.CapacityLimiter(1))
    virtual(Scheduler(limited, Job(later, 0.5, jobs["a"].cancel)).co_run)
    assert order == ["first", "b", "c", "x", "y"]


@pytest.mark.parametrize("chained", [False, True])
def test_an_outside_task_comes_before_those_that_ask_after_it(
    virtual: Virtual, chained: bool
) -> None:
    """A token goes back to the limiter if a task of the program waits, and then round among the runs again."""
    order: list[str] = []

    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        jobs = [Job(noted, order, name) for name in ("own", "next", "last")]
        scheduler = Scheduler(
            Sequence(jobs) if chained else [jobs[0], Scheduler(jobs[1:])],
            jobs_window=limiter,
        )
        async with running(scheduler, 0.5), limiter:
            order.append("program")
            await nap(1)

    virtual(main)
    assert order == (
        ["own", "program", "next", "last"]
        if chained
        else ["own", "next", "program", "last"]
    )


def test_a_job_that_waits_no_longer_leaves_the_oldest_ticket_of_its_run_to_the_next(
    virtual: Virtual,
) -> None:
    """A run that has asked first is served first, whichever of its jobs has been cancelled since."""
    gone, following, other = (Job(nap, 1) for _ in range(3))
    one, two = Scheduler(gone), Scheduler(other)
    steering = Job(
        later, 0.5, lambda: [one.add(following), gone.cancel()], forever=True
    )
    assert virtual(
        Scheduler(
            Job(nap, 2), one, two, steering, jobs_window=anyio.CapacityLimiter(1)
        ).co_run
    )
    assert [job.started_at for job in (gone, following, other)] == [None, 2, 3]


@pytest.mark.parametrize("where", ["run", "program"])
def test_a_run_with_many_jobs_takes_turns_with_what_asks_later(
    virtual: Virtual, where: str
) -> None:
    """Each outermost run stands in the limiter's queue once, whatever the number and the groups of its jobs."""
    order: list[str] = []

    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        groups = [
            Scheduler([Job(noted, order, "many") for _ in range(3)]) for _ in range(2)
        ]
        async with running(Scheduler(groups, jobs_window=limiter), 0.5):
            if where == "run":
                await Scheduler(
                    Job(noted, order, "late"),
                    Job(noted, order, "late"),
                    jobs_window=limiter,
                ).co_run()
            else:
                for _ in range(2):
                    async with limiter:
                        await noted(order, "late")

    virtual(main)
    assert order == ["many", "many", "late", "many", "late", "many", "many", "many"]


def test_a_request_that_was_granted_is_one_turn(virtual: Virtual) -> None:
    """Two tokens that come back at once go to the run and to the task of the program that stand in the queue."""

    async def main() -> float:
        limiter = anyio.CapacityLimiter(2)
        async with (
            running(
                Scheduler([Job(nap, 1) for _ in range(6)], jobs_window=limiter), 0.5
            ),
            limiter,
        ):
            return anyio.current_time()

    assert virtual(main) == 1


@pytest.mark.parametrize("kind", ["forever", "clean-up"])
def test_jobs_in_what_goes_on_after_a_stop_get_tokens(
    virtual: Virtual, kind: str
) -> None:
    """While the run around it ends, a forever group, or a clean-up group, still gets tokens from the program."""
    limiter = anyio.CapacityLimiter(1)
    jobs = [Job(nap, 1), Job(nap, 1)]

    async def main() -> None:
        options: Any = {"forever": True} if kind == "forever" else {"run_if": "failed"}
        bad = Job(fail, 1)
        group = Scheduler(jobs, jobs_window=limiter, **options)
        if kind == "clean-up":
            group.requires(bad)
        others = [Job(unwind, 9, 9)] if kind == "forever" else []
        run = Scheduler(bad, others, group, critical_jobs=True, cleanup_timeout=99)
        async with running(run), limiter:
            await nap(3)

    virtual(main)
    assert [job.started_at for job in jobs] == [3, 4]


@pytest.mark.both_backends
@pytest.mark.parametrize("total", [1, 3])
@pytest.mark.parametrize(
    "kind", ["job", "retried", "own task", "in a group", "by anyio"]
)
def test_a_job_that_takes_a_token_of_its_window_again_fails_at_once(
    virtual: Virtual, backend: BackendName, kind: str, total: int
) -> None:
    """It gets the error that it would get in a nursery, with what to do; else it would wait for what it holds."""

    async def main() -> None:
        create: Any = (
            trio.CapacityLimiter
            if kind != "by anyio" and backend == "trio"
            else anyio.CapacityLimiter
        )
        limiter: Any = create(total)

        async def work(number: int) -> None:
            await nap(number % 2)
            async with limiter:
                pass

        options: dict[str, Any] = {
            "retry": int(kind == "retried"),
            "own_task": kind == "own task",
        }
        jobs = [Job(work, number, **options) for number in range(4)]
        members: Any = Scheduler(jobs, label="inner") if kind == "in a group" else jobs
        assert not await Scheduler(
            members, Job(nap, 1), jobs_window=limiter, label="top", log=False
        ).co_run()
        for job in jobs:
            error: Any = job.raised_exception()
            assert type(error) is RuntimeError
            assert "is the window of 'top': leave `async with limiter` out" in "".join(
                error.__notes__
            )
        assert limiter.statistics().borrowed_tokens == 0

    virtual(main)


@pytest.mark.both_backends
def test_a_task_has_a_token_of_the_window_only_while_its_job_works(
    virtual: Virtual, backend: BackendName
) -> None:
    async def main() -> None:
        limiter = anyio.CapacityLimiter(2)

        async def take() -> str:
            async with limiter:
                return "taken"

        async def no_wait() -> None:
            pass

        plain, forever = [Job(no_wait) for _ in range(3)], Job(take, forever=True)
        assert await Scheduler(
            plain,
            forever,
            Job(at_once, limiter.release),
            Job(nap, 1),
            jobs_window=limiter,
        ).co_run()
        assert forever.result() == "taken"
        assert limiter.statistics().borrowed_tokens == 0

    virtual(main)
