"""Windows: numbers and limiters, one limiter over many schedulers, the order of starts, intervals between them."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trio

from trioflow import Job, JobState, Scheduler, StopReason
from trioflow.abc import AbstractJob, Instrument

if TYPE_CHECKING:
    from .conftest import Virtual

IDLE, SUCCEEDED, CANCELLED = JobState.IDLE, JobState.SUCCEEDED, JobState.CANCELLED


async def nap(seconds: float = 1, value: Any = None) -> Any:
    await anyio.sleep(seconds)
    return value


async def fail(seconds: float = 1) -> None:
    await anyio.sleep(seconds)
    raise OSError("broken")


async def timed(scheduler: Scheduler, **options: Any) -> tuple[bool, float]:
    start = anyio.current_time()
    return await scheduler.co_run(**options), anyio.current_time() - start


def naps(number: int, seconds: float = 1, **options: Any) -> list[Job[Any]]:
    return [Job(nap, seconds, **options) for _ in range(number)]


def starts(scheduler: Scheduler) -> list[float | None]:
    return [job.started_at for job in scheduler]


class Watch(Instrument):
    """The order of starts, and how many leaf jobs ran at once at most."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.running = self.most = 0

    def job_started(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        self.order.append(job.label)
        if not isinstance(job, Scheduler) and not job.forever:
            self.running += 1
            self.most = max(self.most, self.running)

    def job_finished(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        if not isinstance(job, Scheduler) and not job.forever and job.started_at is not None:
            self.running -= 1


# --- windows that are numbers


@pytest.mark.parametrize("window", [1, 2, 3, 4, 5, 9])
def test_window_is_never_exceeded_and_always_full(virtual: Virtual, window: int) -> None:
    """Never more run than the window, and as many as it has whenever enough are ready."""
    watch = Watch()
    scheduler = Scheduler(naps(8), jobs_window=window)
    assert virtual(functools.partial(timed, scheduler, instruments=[watch])) == (True, -(-8 // window))
    assert watch.most == min(window, 8)
    assert starts(scheduler) == [number // window for number in range(8)]


@pytest.mark.parametrize("window", [0, None])
def test_no_window_is_no_limit(virtual: Virtual, window: int | None) -> None:
    """0 and None: all that is ready runs."""
    assert virtual(timed, Scheduler(naps(50), jobs_window=window)) == (True, 1)


def test_window_is_filled_from_whatever_becomes_ready(virtual: Virtual) -> None:
    """A slot that is free when a job becomes ready is its own at once, whoever made it ready."""
    gate = Job(nap, 1)
    scheduler = Scheduler(Job(nap, 10), gate, [Job(nap, 3, required=gate) for _ in range(4)], jobs_window=3)
    assert virtual(timed, scheduler) == (True, 10)
    assert starts(scheduler) == [0, 0, 1, 1, 4, 4]


def cut_by_cancel() -> Job[Any]:
    job: Job[Any]

    async def cancel() -> None:
        await anyio.sleep(1)
        job.cancel()
        await anyio.sleep(5)

    job = Job(cancel)
    return job


OUTCOMES: dict[str, Callable[[], AbstractJob[Any]]] = {
    "success": lambda: Job(nap, 1),
    "failure": lambda: Job(fail, 1),
    "timeout": lambda: Job(nap, 9, timeout=1),
    "moved on": lambda: Job(nap, 9, timeout=1, on_timeout="move_on"),
    "cancelled": cut_by_cancel,
    "own task": lambda: Job(nap, 1, own_task=True),
    "nested": lambda: Scheduler(Job(nap, 1)),
    "nested failure": lambda: Scheduler(Job(fail, 1), critical_jobs=True, critical=False),
    "nested timeout": lambda: Scheduler(Job(nap, 9), timeout=1),
}
WINDOWS: dict[str, Callable[[], Any]] = {"number": lambda: 2, "limiter": lambda: anyio.CapacityLimiter(2)}


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_slot_is_given_back_on_every_outcome(virtual: Virtual, outcome: str, window: str) -> None:
    """However a job ends its slot is free again at once: more may fail than the window has slots."""

    async def main() -> tuple[bool, float]:
        scheduler = Scheduler([OUTCOMES[outcome]() for _ in range(10)], jobs_window=WINDOWS[window]())
        return await timed(scheduler)

    assert virtual(main) == (True, 5)


def test_cancelled_before_its_start_a_job_takes_no_slot(virtual: Virtual) -> None:
    """A job that is cancelled while it waits for a slot leaves its place to the next."""
    first, second, third = naps(3, 2)

    async def main() -> tuple[bool, float]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(later, 1, second.cancel)
            return await timed(Scheduler(first, second, third, jobs_window=1))

    assert virtual(main) == (True, 4)
    assert (second.state, third.started_at) == (CANCELLED, 2)


async def later(seconds: float, call: Callable[[], Any]) -> None:
    await anyio.sleep(seconds)
    call()


@pytest.mark.parametrize("window", WINDOWS)
def test_forever_jobs_take_no_slot(virtual: Virtual, window: str) -> None:
    """More forever jobs than slots keep nothing from running."""

    async def main() -> tuple[bool, float]:
        return await timed(Scheduler(naps(5, 99, forever=True), naps(4), jobs_window=WINDOWS[window]()))

    assert virtual(main) == (True, 2)


def test_nested_scheduler_takes_one_slot(virtual: Virtual) -> None:
    """A nested scheduler takes one slot of its parent, however many jobs it has."""
    outer = Scheduler(Scheduler(naps(5, 3)), naps(2, 2), jobs_window=2)
    assert virtual(timed, outer) == (True, 4)
    assert starts(outer) == [0, 0, 2]


def test_run_overrides_the_window(virtual: Virtual) -> None:
    """jobs_window= of a run replaces the scheduler's own, also by none."""
    scheduler = Scheduler(naps(6), jobs_window=1)
    for window, seconds in [(2, 3), (None, 1), (0, 1), (6, 1), (..., 6)]:
        assert virtual(functools.partial(timed, scheduler, jobs_window=window)) == (True, seconds)

    async def by_limiter() -> tuple[bool, float]:
        return await timed(scheduler, jobs_window=anyio.CapacityLimiter(3))

    assert virtual(by_limiter) == (True, 2)


# --- limiters


def limiter_of(virtual: Virtual, kind: str, tokens: int) -> Any:
    return trio.CapacityLimiter(tokens) if kind == "trio" else anyio.CapacityLimiter(tokens)


@pytest.mark.parametrize("kind", ["trio", "anyio"])
@pytest.mark.parametrize("tokens", [1, 2, 5])
def test_limiter_is_a_window(virtual: Virtual, kind: str, tokens: int) -> None:
    """trio's and anyio's CapacityLimiter: as many jobs at once as it has tokens, and all of them used."""
    if kind == "trio" and virtual.backend == "asyncio":
        pytest.skip("a limiter of trio's needs trio")
    watch = Watch()

    async def main() -> tuple[bool, float]:
        limiter = limiter_of(virtual, kind, tokens)
        answer = await timed(Scheduler(naps(10), jobs_window=limiter), instruments=[watch])
        assert limiter.borrowed_tokens == 0
        return answer

    assert virtual(main) == (True, 10 // tokens)
    assert watch.most == tokens


def test_limiter_is_shared_with_what_is_no_job(virtual: Virtual) -> None:
    """Tokens that others hold are no slots until they are given back."""

    async def main() -> tuple[bool, float]:
        limiter = anyio.CapacityLimiter(2)
        async with anyio.create_task_group() as tasks:
            limiter.acquire_on_behalf_of_nowait("somebody")
            tasks.start_soon(later, 2.5, lambda: limiter.release_on_behalf_of("somebody"))
            return await timed(Scheduler(naps(6), jobs_window=limiter))

    assert virtual(main) == (True, 4.5)


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("schedulers", [2, 3])
def test_one_limiter_over_schedulers_side_by_side(virtual: Virtual, tokens: int, schedulers: int) -> None:
    """Together they run as many jobs at once as there are tokens, always."""
    watch = Watch()

    async def main() -> tuple[bool, float]:
        limiter = anyio.CapacityLimiter(tokens)
        inner = [Scheduler(naps(4), jobs_window=limiter) for _ in range(schedulers)]
        answer = await timed(Scheduler(inner), instruments=[watch])
        assert limiter.borrowed_tokens == 0
        return answer

    assert virtual(main) == (True, 4 * schedulers / tokens)
    assert watch.most == tokens


def test_schedulers_that_share_a_limiter_take_turns(virtual: Virtual) -> None:
    """After each job whoever else waits has its turn: nobody starves, in runs that know nothing of each other."""
    watch = Watch()

    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        async with anyio.create_task_group() as tasks:
            for name in "ab":
                scheduler = Scheduler([Job(nap, 1, label=name) for _ in range(5)], jobs_window=limiter)
                tasks.start_soon(functools.partial(scheduler.co_run, instruments=[watch]))

    virtual(main)
    assert "".join(watch.order) in ("ab" * 5, "ba" * 5)


def test_who_waits_for_the_limiter_gets_it_after_one_job(virtual: Virtual) -> None:
    """A stranger to all schedulers waits no longer than for the jobs before it in the queue."""
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


def nest(limiter: Any, depth: int, between: Callable[[], Any], jobs: int = 2) -> Scheduler:
    """Jobs in schedulers with `limiter`, each in a scheduler with another window or none."""
    scheduler = Scheduler(naps(jobs), jobs_window=limiter)
    for _ in range(depth):
        scheduler = Scheduler(Scheduler(scheduler, jobs_window=between()), naps(jobs), jobs_window=limiter)
    return scheduler


BETWEEN: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "one": lambda: 1,
    "another": lambda: anyio.CapacityLimiter(1),
}


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("tokens", [1, 2])
def test_one_limiter_at_any_depth(virtual: Virtual, tokens: int, between: str, depth: int) -> None:
    """Nested in each other they never wait for themselves, and use all tokens for jobs."""
    watch = Watch()

    async def main() -> tuple[bool, float]:
        limiter = anyio.CapacityLimiter(tokens)
        answer = await timed(nest(limiter, depth, BETWEEN[between]), instruments=[watch])
        assert limiter.borrowed_tokens == 0
        return answer

    result, seconds = virtual(main)
    assert result is True
    assert watch.most == tokens
    assert seconds == 2 * (depth + 1) / tokens


def test_nested_schedulers_beside_each_other_share_the_lent_token(virtual: Virtual) -> None:
    """Several schedulers in one that runs under a token use it in turn, and further tokens if there are."""
    watch = Watch()

    async def main(tokens: int) -> tuple[bool, float]:
        limiter = anyio.CapacityLimiter(tokens)
        inner = Scheduler([Scheduler(naps(3), jobs_window=limiter) for _ in range(3)])
        answer = await timed(Scheduler(inner, jobs_window=limiter), instruments=[watch])
        assert limiter.borrowed_tokens == 0
        return answer

    assert virtual(main, 1) == (True, 9)
    assert watch.most == 1
    assert virtual(main, 3) == (True, 3)
    assert watch.most == 3


def test_many_nested_schedulers_with_one_token(virtual: Virtual) -> None:
    """Schedulers under the same limiter as their parent, more than there are tokens, deadlock nobody."""

    async def main() -> tuple[bool, float]:
        limiter = anyio.CapacityLimiter(2)
        inner = [Scheduler(naps(2), jobs_window=limiter) for _ in range(6)]
        answer = await timed(Scheduler(inner, jobs_window=limiter))
        assert limiter.borrowed_tokens == 0
        return answer

    assert virtual(main) == (True, 6)


def test_forever_scheduler_with_the_limiter_of_its_parent(virtual: Virtual) -> None:
    """A nested scheduler that runs for ever has no token to lend; its jobs take their own."""
    watch = Watch()

    async def main() -> tuple[bool, float]:
        limiter = anyio.CapacityLimiter(1)
        inner = Scheduler(naps(3), jobs_window=limiter, forever=True)
        answer = await timed(Scheduler(inner, naps(3), jobs_window=limiter), instruments=[watch])
        assert limiter.borrowed_tokens == 0
        return answer

    result, seconds = virtual(main)
    assert result is True
    assert seconds <= 6
    assert watch.most == 1


async def ended_by(how: str, scheduler: Scheduler) -> None:
    if how == "timeout":
        await scheduler.co_run(timeout=1.5)
    elif how == "outer cancel":
        with anyio.move_on_after(1.5):
            await scheduler.co_run()
    else:
        async with anyio.create_task_group() as tasks:
            if how == "cancel()":
                tasks.start_soon(later, 1.5, scheduler.cancel)
            await scheduler.co_run()


@pytest.mark.parametrize("how", ["completion", "critical", "timeout", "outer cancel", "cancel()"])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_no_token_is_left_borrowed(virtual: Virtual, how: str, depth: int) -> None:
    """However a run ends, nested ones too, all tokens are back, those of waiting workers and lent ones included."""

    async def main() -> None:
        limiter = anyio.CapacityLimiter(2)
        scheduler = nest(limiter, depth, lambda: None, jobs=4)
        if how == "critical":
            scheduler.add(Scheduler(Job(fail, 1, critical=True), naps(3, 9), jobs_window=limiter, critical=True))
            scheduler.jobs_window = anyio.CapacityLimiter(9)
        await ended_by(how, scheduler)
        expected = {"completion": "completed", "outer cancel": "cancelled", "cancel()": "cancelled"}.get(how, how)
        assert scheduler.stop_reason is StopReason(expected)
        assert (limiter.borrowed_tokens, limiter.statistics().tasks_waiting) == (0, 0)

    virtual(main)


# --- the order of starts


def labelled(names: str, seconds: float = 1, **options: Any) -> Iterator[Job[Any]]:
    return (Job(nap, seconds, label=name, **options) for name in names)


def order_of(virtual: Virtual, make: Callable[[], Scheduler]) -> str:
    async def main() -> str:
        watch = Watch()
        await make().co_run(instruments=[watch], timeout=99)
        return "".join(watch.order)

    run: Callable[[], Awaitable[str]] = main
    return virtual(run)


@pytest.mark.parametrize("window", [1, 2, 3, None])
def test_jobs_start_in_the_order_added(virtual: Virtual, window: int | None) -> None:
    """Of those that are ready together the first added starts first; forever jobs too, also with a full window."""

    def make() -> Scheduler:
        ordinary = list(labelled("abcdefghij"))
        forever = list(labelled("ABCDEFGHIJ", forever=True))
        return Scheduler(list(zip(ordinary, forever, strict=True)), jobs_window=window)

    order = order_of(virtual, make)
    assert [name for name in order if name.islower()] == list("abcdefghij")
    assert [name for name in order if name.isupper()] == list("ABCDEFGHIJ")
    if window is None:
        assert order == "aAbBcCdDeEfFgGhHiIjJ"


def test_jobs_start_in_the_order_in_which_they_became_ready(virtual: Virtual) -> None:
    """Who became ready first starts first, whoever was added first."""

    def make() -> Scheduler:
        two, one, more = Job(nap, 2, label="2"), Job(nap, 1, label="1"), Job(nap, 5, label="5")
        late = [Job(nap, label=name, required=two) for name in "ab"]
        early = [Job(nap, label=name, required=one) for name in "cd"]
        return Scheduler(two, one, more, late, early, jobs_window=3)

    assert order_of(virtual, make) == "215cdab"


def test_ties_go_in_the_order_added_whenever_the_requirement_came(virtual: Virtual) -> None:
    """A requirement that is added during the run changes nothing: ready together, they start in the order added."""

    def make() -> Scheduler:
        gate, other = Job(nap, 2, label="2"), Job(nap, 1, label="1")
        first = Job(nap, label="a", required=other)
        second = Job(nap, label="b", required=gate)

        async def join() -> None:
            first.requires(gate)

        return Scheduler(gate, other, Job(join, label="j"), first, second)

    assert order_of(virtual, make) == "21jab"


def test_jobs_that_join_a_run_keep_the_order_added(virtual: Virtual) -> None:
    """Jobs that are added while it runs start in that order, behind those that were ready before."""

    def make() -> Scheduler:
        scheduler = Scheduler(jobs_window=1)

        async def join() -> None:
            scheduler.update(labelled("xyz"))
            scheduler.add(next(labelled("!")))

        scheduler.update([Job(join, label="j"), *labelled("ab")])
        return scheduler

    assert order_of(virtual, make) == "jabxyz!"


def test_own_task_keeps_its_place_in_the_order(virtual: Virtual) -> None:
    """A job with a task of its own starts in its turn."""

    def make() -> Scheduler:
        return Scheduler([*labelled("ab"), *labelled("c", own_task=True), *labelled("def")], jobs_window=2)

    assert order_of(virtual, make) == "abcdef"


def test_limiter_keeps_the_order(virtual: Virtual) -> None:
    """With a limiter jobs start in the same order."""
    assert order_of(virtual, lambda: Scheduler(labelled("abcdef"), jobs_window=anyio.CapacityLimiter(2))) == "abcdef"


# --- intervals between starts


INTERVALS: dict[str, tuple[Callable[[], Scheduler], list[float]]] = {
    "alone": (lambda: Scheduler(naps(4, 5), start_interval=2), [0, 2, 4, 6]),
    "window, jobs are shorter": (lambda: Scheduler(naps(4, 1), start_interval=2, jobs_window=1), [0, 2, 4, 6]),
    "window, jobs are longer": (lambda: Scheduler(naps(4, 5), start_interval=2, jobs_window=2), [0, 2, 5, 7]),
    "limiter": (
        lambda: Scheduler(naps(4, 5), start_interval=2, jobs_window=anyio.CapacityLimiter(2)),
        [0, 2, 5, 7],
    ),
    "own task": (lambda: Scheduler(naps(3, 0, own_task=True), start_interval=2), [0, 2, 4]),
    "mixed with own task": (lambda: Scheduler(naps(1, 1), naps(2, 0, own_task=True), start_interval=2), [0, 2, 4]),
    "own task in the same worker": (
        lambda: Scheduler(naps(1, 3), naps(2, 3, own_task=True), start_interval=2, jobs_window=1),
        [0, 3, 6],
    ),
    "forever": (
        lambda: Scheduler(naps(2, 99, forever=True), naps(2), naps(1, 99, forever=True), start_interval=2),
        [0, 2, 4, 6],
    ),
    "forever beside a full window": (
        lambda: Scheduler(naps(1, 5), naps(1, 99, forever=True), naps(1, 5), start_interval=2, jobs_window=1),
        [0, 2, 5],
    ),
    "nested": (lambda: Scheduler(Scheduler(naps(3, 5)), naps(2, 5), start_interval=2), [0, 2, 4]),
}


@pytest.mark.parametrize("case", INTERVALS)
def test_start_interval(virtual: Virtual, case: str) -> None:
    """Two starts are start_interval seconds apart, and no more where a job and a slot are there."""
    make, expected = INTERVALS[case]

    async def main() -> list[float | None]:
        scheduler = make()
        await scheduler.co_run(timeout=99)
        return [one for one in starts(scheduler) if one is not None]

    assert virtual(main) == expected


def test_start_interval_counts_from_the_last_start(virtual: Virtual) -> None:
    """A job that becomes ready when the interval has long passed starts at once."""
    first = Job(nap, 5)
    scheduler = Scheduler(first, [Job(nap, 1, required=first) for _ in range(2)], start_interval=2)
    assert virtual(timed, scheduler) == (True, 8)
    assert starts(scheduler) == [0, 5, 7]


def test_job_cancelled_before_its_start_uses_up_no_interval(virtual: Virtual) -> None:
    """Intervals are between starts: a job that never starts does not put off the next."""
    jobs = naps(3, 9)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(later, 1, jobs[1].cancel)
            await Scheduler(jobs, start_interval=2).co_run()

    virtual(main)
    assert [job.started_at for job in jobs] == [0, None, 2]


def test_stop_ends_the_waiting_for_the_interval(virtual: Virtual) -> None:
    """A run that is stopped between two starts is over at once."""
    scheduler = Scheduler(naps(3, 9), start_interval=50, timeout=10)
    assert virtual(timed, scheduler) == (False, 10)
    assert [job.state for job in scheduler] == [SUCCEEDED, CANCELLED, CANCELLED]
