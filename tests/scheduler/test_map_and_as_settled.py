"""`map` makes a job for each set of arguments; `as_settled` yields jobs in the order in which they settle."""

from collections.abc import Callable
from typing import Any
import anyio
import pytest
from trioflow import (
    Job,
    Scheduler,
    StopReason,
    ThreadJob,
    current_job,
    current_scheduler,
    ref,
)
from trioflow import job as decorate
from ..bodies import (
    CANCELLED,
    FAILED,
    IDLE,
    SUCCEEDED,
    add,
    at_once,
    fail,
    later,
    nap,
    running,
)
from ..conftest import Virtual


async def collect(scheduler: Scheduler, found: list[Any] | None = None) -> list[Any]:
    found = [] if found is None else found
    async for job in scheduler.as_settled():
        found.append((job.label, anyio.current_time()))
    found.append(("end", anyio.current_time()))
    return found


async def collected_beside(
    scheduler: Scheduler, *actions: Callable[[], Any]
) -> list[Any]:
    """Return what another task collects, while this one does something else, and then until there is no more."""
    found: list[Any] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collect, scheduler, found)
        for action in actions:
            await action()
    return found


def sleeper(seconds: float, **options: Any) -> Job[Any]:
    return Job(nap, seconds, label=f"{seconds}", **options)


# --- map
def test_map_makes_a_job_for_each_argument(virtual: Virtual) -> None:
    """In order, as members of the scheduler, until the shortest of several iterables is used up; huge ranges work."""
    scheduler = Scheduler()
    jobs = scheduler.map(add, [1, 2, 3])
    assert list(scheduler) == jobs
    several = scheduler.map(
        add, range(10**9), (number for number in (10, 20, 30)), {100: "a", 200: "b"}
    )
    assert virtual(scheduler.co_run) is True
    assert [job.result() for job in (*jobs, *several)] == [1, 2, 3, 110, 221]


def test_map_over_jobs_passes_on_their_results(virtual: Virtual) -> None:
    scheduler = Scheduler()
    first = scheduler.map(nap, [3, 1, 2], [30, 10, 20])
    second = scheduler.map(add, first, [1, 2, 3])
    third = scheduler.map(add, second, first)
    virtual(scheduler.co_run)
    assert [job.result() for job in second] == [31, 12, 23]
    assert [job.started_at for job in second] == [3, 1, 2]
    assert [job.result() for job in third] == [61, 22, 43]


def test_map_passes_options_to_each_job(virtual: Virtual) -> None:
    before = sleeper(1)
    scheduler = Scheduler(before)
    jobs = scheduler.map(nap, [1, 5], label="mapped", timeout=2, required=before)
    virtual(scheduler.co_run)
    assert [(job.label, job.state, job.started_at) for job in jobs] == [
        ("mapped", SUCCEEDED, 1),
        ("mapped", FAILED, 1),
    ]


def test_map_makes_the_key_of_each_job_from_its_arguments() -> None:
    scheduler = Scheduler()
    assert [
        job.key for job in scheduler.map(add, [1, 2], [3, 4], key=lambda a, b: a * b)
    ] == [3, 8]
    with pytest.raises(
        TypeError,
        match=r"^key='x' of map\(\) of .*: give a function that takes the arguments",
    ):
        scheduler.map(add, [1], [3], key="x")
    with pytest.raises(
        ValueError,
        match=r"the function of key= raised for key\(1, 0\): ZeroDivisionError",
    ):
        scheduler.map(add, [1], [0], key=lambda a, b: a / b)
    assert len(scheduler) == 2


def test_map_of_an_empty_iterable_makes_no_jobs() -> None:
    scheduler = Scheduler()
    assert scheduler.map(nap, []) == []
    with pytest.raises(TypeError, match="ThreadJob"):
        scheduler.map(len, [])  # type: ignore[arg-type]
    assert len(scheduler) == 0


def test_map_of_a_decorated_function_overrides_its_options(virtual: Virtual) -> None:
    """Options given to `map` replace those of the `@job` decorator; the others stay."""

    @decorate(label="decorated", timeout=2)
    async def twice(number: int) -> int:
        return 2 * number

    scheduler = Scheduler()
    jobs = scheduler.map(twice, [1, 2], timeout=3)
    virtual(scheduler.co_run)
    assert [(one.result(), one.label, one.timeout) for one in jobs] == [
        (2, "decorated", 3),
        (4, "decorated", 3),
    ]


def test_map_works_during_a_run(virtual: Virtual) -> None:
    found: list[Any] = []
    scheduler = Scheduler(
        Job(at_once, lambda: found.extend(scheduler.map(nap, [1, 2])))
    )
    assert virtual(scheduler.co_run) is True
    assert [job.finished_at for job in found] == [1, 2]


@pytest.mark.parametrize(
    ("function", "items", "options", "error"),
    [
        (add, [], {}, "at least one iterable"),
        *(
            (add, [[1, 2], wrong], {}, r"map\(\) of 'mapping': .* is not iterable")
            for wrong in (5, None, nap)
        ),
        (print, [[1]], {}, None),
        (nap, [[1]], {"colour": "red"}, None),
        (nap, [[1]], {"timeout": "soon"}, None),
        (nap, [[1, {Job(nap)}]], {}, None),
    ],
)
def test_map_of_something_wrong_adds_nothing(
    function: Any, items: Any, options: Any, error: str | None
) -> None:
    scheduler = Scheduler(label="mapping")
    with pytest.raises(TypeError, match=error):
        scheduler.map(function, *items, **options)
    assert len(scheduler) == 0


def test_map_is_atomic_during_a_run(virtual: Virtual) -> None:
    async def search() -> None:
        stranger = Job(nap, scheduler=Scheduler())
        with pytest.raises(ValueError, match="requires"):
            scheduler.map(add, [1, stranger, 3])
        assert len(scheduler) == 1

    scheduler = Scheduler(job := Job(search))
    assert virtual(scheduler.co_run) is True
    job.result()


# --- as_settled
def test_as_settled_yields_jobs_to_a_task_outside_the_run(virtual: Virtual) -> None:
    scheduler = Scheduler(sleeper(3), sleeper(1), Job(fail, 2, label="fails"))
    found = virtual(collected_beside, scheduler, scheduler.co_run)
    assert found == [("1", 1), ("fails", 2), ("3", 3), ("end", 3)]


def test_as_settled_in_an_open_block_includes_jobs_added_meanwhile(
    virtual: Virtual,
) -> None:
    async def main() -> list[Any]:
        found = []
        async with Scheduler(sleeper(1), sleeper(2)) as scheduler:
            async for job in scheduler.as_settled():
                found.append((job.label, anyio.current_time()))
                if job.label == "2":
                    scheduler.add(sleeper(4))
        return found

    assert virtual(main) == [("1", 1), ("2", 2), ("4", 6)]


def test_as_settled_first_yields_jobs_that_have_settled_before(
    virtual: Virtual,
) -> None:
    async def main() -> list[Any]:
        async with Scheduler(sleeper(2), sleeper(1), sleeper(5)) as scheduler:
            await anyio.sleep(3)
            return await collect(scheduler)

    assert virtual(main) == [("1", 3), ("2", 3), ("5", 5), ("end", 5)]


def test_as_settled_yields_jobs_of_every_final_state(virtual: Virtual) -> None:
    """`as_settled` yields SUCCEEDED, FAILED, CANCELLED, BLOCKED and SKIPPED jobs."""

    async def main() -> list[Any]:
        async with Scheduler(scheduled, critical_jobs=False) as scheduler:
            scheduled[1].cancel()
            return [job.state async for job in scheduler.as_settled()]

    failing = Job(fail)
    scheduled = [
        failing, Job(nap, 9), Job(nap, failing), Job(nap, run_if="failed", required=(good := Job(nap, 2))), good
    ]  # fmt: skip
    states = virtual(main)
    assert sorted(state.name for state in states) == [
        "BLOCKED",
        "CANCELLED",
        "FAILED",
        "SKIPPED",
        "SUCCEEDED",
    ]
    assert states[0] is CANCELLED


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_as_settled_inside_a_job_leaves_out_that_job_and_its_schedulers(
    virtual: Virtual, depth: int
) -> None:
    """A job that iterates over `as_settled` waits neither for itself nor for the nested schedulers that it is in. Once
    only the job itself was left out: job and nested scheduler waited for each other forever."""
    watcher: Any = Job(lambda: collect(scheduler))
    inside = watcher
    for _ in range(depth):
        inside = Scheduler(inside)
    scheduler = Scheduler(inside, sleeper(1), sleeper(2), timeout=99)
    assert virtual(scheduler.co_run) is True
    assert watcher.result() == [("1", 1), ("2", 2), ("end", 2)]


@pytest.mark.parametrize("late", [False, True])
def test_jobs_that_iterate_over_all_jobs_do_not_wait_for_each_other(
    virtual: Virtual, late: bool
) -> None:
    """Two jobs of a scheduler may iterate over `as_settled()`; once each waited for the other, without a word."""

    async def labels(after: float) -> list[str]:
        await anyio.sleep(after)
        return [
            job.label
            async for job in current_scheduler().as_settled()
            if job.label in "ab"
        ]

    collectors = [Job(labels, after) for after in (0, 5 if late else 0)]
    assert virtual(
        Scheduler(
            *collectors, Job(nap, 1, label="a"), Job(nap, 2, label="b"), timeout=60
        ).co_run
    )
    assert [job.result() for job in collectors] == [["a", "b"]] * 2


def test_a_job_that_iterates_over_chosen_jobs_is_waited_for(virtual: Virtual) -> None:
    a, sleepers = sleeper(1), [sleeper(2), sleeper(3)]

    async def chosen() -> int:
        return len(
            [job async for job in current_scheduler().as_settled([a, *sleepers])]
        )

    async def labels() -> list[str]:
        return [job.label async for job in current_scheduler().as_settled()]

    over_all = Job(labels)
    assert virtual(
        Scheduler(a, sleepers, Job(chosen, label="chosen"), over_all, timeout=60).co_run
    )
    assert over_all.result() == ["1", "2", "3", "chosen"]


def test_as_settled_leaves_out_a_job_whose_body_runs_the_iterating_job(
    virtual: Virtual,
) -> None:
    async def run_another() -> None:
        watcher = Job(collect, ref(outer))
        await Scheduler(watcher).co_run()
        assert watcher.result() == [("1", 1), ("end", 1)]

    outer = Scheduler(Job(run_another), sleeper(1), timeout=99)
    assert virtual(lambda: outer.co_run(check=True)) is True


def test_as_settled_waits_for_jobs_added_during_the_iteration(virtual: Virtual) -> None:
    async def grow(left: int) -> None:
        await anyio.sleep(1)
        if left:
            scheduler.add(Job(grow, left - 1, label=f"{left} left"))

    watcher = Job(lambda: collect(scheduler))
    scheduler = Scheduler(watcher, Job(grow, 2, label="first"))
    virtual(scheduler.co_run)
    assert watcher.result() == [("first", 1), ("2 left", 2), ("1 left", 3), ("end", 3)]


def test_as_settled_yields_a_job_that_settles_when_it_is_added(
    virtual: Virtual,
) -> None:
    def add_late() -> None:
        scheduler.add(sleeper(1, required=failing, run_if="succeeded"))

    failing = Job(fail, 1, label="failing")
    scheduler = Scheduler(failing, sleeper(3), Job(later, 2, add_late, label="adds"))
    found = virtual(collected_beside, scheduler, scheduler.co_run)
    assert found == [("failing", 1), ("1", 2), ("adds", 2), ("3", 3), ("end", 3)]


def test_as_settled_does_not_wait_for_forever_jobs(virtual: Virtual) -> None:
    watcher = Job(lambda: collect(scheduler))
    short, endless = sleeper(1, forever=True), Job(anyio.sleep_forever, forever=True)
    scheduler = Scheduler(watcher, sleeper(2), short, endless)
    virtual(scheduler.co_run)
    assert watcher.result() == [("1", 1), ("2", 2), ("end", 2)]


def test_several_as_settled_iterators_each_yield_all_jobs(virtual: Virtual) -> None:
    async def main() -> list[list[Any]]:
        async with Scheduler(sleeper(1), sleeper(3)) as scheduler:
            early, late = [], []
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(collect, scheduler, early)
                await anyio.sleep(2)
                tasks.start_soon(collect, scheduler, late)
        return [early, late]

    assert virtual(main) == [
        [("1", 1), ("3", 3), ("end", 3)],
        [("1", 2), ("3", 3), ("end", 3)],
    ]


def test_breaking_out_of_as_settled_allows_a_new_iteration(virtual: Virtual) -> None:
    async def main() -> list[Any]:
        async with Scheduler(sleeper(1), sleeper(2), sleeper(3)) as scheduler:
            stream = scheduler.as_settled()
            async for job in stream:
                assert job.label == "1"
                break
            assert (await anext(stream)).label == "2"
            return await collect(scheduler)

    assert virtual(main) == [("1", 2), ("2", 2), ("3", 3), ("end", 3)]


def test_as_settled_ends_when_the_run_stops(virtual: Virtual) -> None:
    scheduler = Scheduler(
        sleeper(1), long := sleeper(9), never := sleeper(3, required=long), timeout=2
    )
    assert virtual(collected_beside, scheduler, scheduler.co_run) == [
        ("1", 1),
        ("9", 2),
        ("end", 2),
    ]
    assert (scheduler.stop_reason, never.state) == (StopReason.TIMEOUT, IDLE)


@pytest.mark.parametrize("word", ["drain", "fail"])
def test_as_settled_waits_for_what_an_ending_run_still_starts_and_for_nothing_else(
    virtual: Virtual, word: str
) -> None:
    """It left out the clean-up jobs. If it began while the run ended, it waited for what was never started."""
    found: list[Any] = []

    async def report() -> None:
        if word == "drain":
            scheduler.drain()
        found.extend(await collect(scheduler))

    if word == "drain":
        first, rest = sleeper(1), [Job(report)]
    else:
        first = Job(fail, 1, label="1", critical=True)
        rest = [
            Job(report, required=first, run_if="failed"),
            sleeper(2, required=first, run_if="failed"),
        ]
    scheduler = Scheduler(
        first, rest, sleeper(9, required=first), timeout=99, cleanup_timeout=50
    )
    beside = virtual(collected_beside, scheduler, scheduler.co_run)
    ends = (
        [("1", 1), ("end", 1)] if word == "drain" else [("1", 1), ("2", 3), ("end", 3)]
    )
    assert found == [each for each in beside if each[0] != "report()"] == ends


def test_as_settled_ends_before_a_hold(virtual: Virtual) -> None:
    """What a person tries again later goes to `on_job_settled` and to a new iteration, which has the others, too."""
    told: list[str] = []
    tries: list[str] = []

    async def fail_at_first() -> None:
        tries.append("try")
        if len(tries) == 1:
            raise ValueError("first")

    async def main() -> tuple[list[str], list[str]]:
        bad = Job(fail_at_first, label="bad")
        fine = Job(nap, 1, label="fine")
        scheduler = Scheduler(
            bad, fine, hold=True, on_job_settled=lambda job: told.append(job.label)
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.co_run)
            first = [job.label async for job in scheduler.as_settled()]
            await anyio.sleep(1)
            assert scheduler.is_paused()
            bad.try_again()
            second = [job.label async for job in scheduler.as_settled()]
        return first, second

    first, second = virtual(main)
    assert first == ["bad", "fine"]
    assert sorted(second) == ["bad", "fine"]
    assert told == ["bad", "fine", "bad"]


def test_as_settled_of_a_nested_scheduler_ends_when_the_outer_run_stops(
    virtual: Virtual,
) -> None:
    nested = Scheduler(sleeper(1), required=(long := sleeper(9)))
    stream = nested.as_settled()
    outer = Scheduler(long, nested, timeout=2)

    async def main() -> float:
        async with running(outer):
            with anyio.fail_after(5):
                assert [job async for job in stream] == []
        return anyio.current_time()

    assert virtual(main) == 2


def test_as_settled_ends_with_its_run_even_if_the_next_begins_at_once(
    virtual: Virtual,
) -> None:
    scheduler = Scheduler(
        sleeper(1), long := sleeper(9), sleeper(3, required=long), timeout=2
    )
    found = virtual(
        collected_beside, scheduler, nap, scheduler.co_run, scheduler.co_run
    )
    assert found == [("1", 2), ("9", 3), ("end", 3)]


def test_each_step_of_as_settled_is_a_checkpoint(virtual: Virtual) -> None:
    async def main() -> None:
        stream = scheduler.as_settled()
        async with running(scheduler, 2):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await anext(stream)
        assert scope.cancelled_caught

    scheduler = Scheduler(sleeper(1), sleeper(3))
    virtual(main)


def test_the_last_step_of_as_settled_is_a_checkpoint(virtual: Virtual) -> None:
    """The end of `as_settled` can be cancelled, too: a loop over empty iterations does not block its program."""

    async def main() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anext(Scheduler().as_settled(), None)
        assert scope.cancelled_caught

    virtual(main)


def test_job_that_iterates_over_as_settled_is_cancelled_with_the_run(
    virtual: Virtual,
) -> None:
    watcher = Job(lambda: collect(scheduler))
    scheduler = Scheduler(watcher, sleeper(9), timeout=2)
    assert virtual(scheduler.co_run) is False
    assert watcher.state is CANCELLED


def test_as_settled_between_runs_yields_the_settled_jobs(virtual: Virtual) -> None:
    scheduler = Scheduler(
        sleeper(2), sleeper(1), long := sleeper(9), sleeper(3, required=long)
    )
    virtual(lambda: scheduler.co_run(timeout=5))
    assert virtual(collect, scheduler) == [("1", 0), ("2", 0), ("9", 0), ("end", 0)]


def test_as_settled_iterator_of_an_earlier_run_yields_no_job_of_the_next(
    virtual: Virtual,
) -> None:
    """An `as_settled` iterator made before or after a run yields no job of the next run. Once it waited forever for
    jobs that the next run had reset."""

    async def main() -> None:
        await scheduler.co_run(timeout=1)
        after = scheduler.as_settled()
        async with running(scheduler, 1):
            for stream in (before, after):
                assert [job.label async for job in stream] == []
        assert anyio.current_time() == 6

    scheduler = Scheduler(long := sleeper(2), sleeper(3, required=long))
    before = scheduler.as_settled()
    virtual(main)


def test_a_slow_reader_is_handed_no_job_that_waits_again(virtual: Virtual) -> None:
    """Its group had begun another attempt meanwhile: the reader was handed a job that was idle, as one that settled."""

    async def once() -> None:
        if group.attempts == 1:
            raise OSError
        await anyio.sleep(2)

    async def main() -> list[Any]:
        async with running(Scheduler(group), 0.5):
            async for job in group.as_settled():
                read.append((job.label, job.is_settled()))
                await anyio.sleep(1)
        return read

    group = Scheduler(
        Job(once, label="first"), sleeper(1), Job(once, label="last"), retry=1
    )
    read: list[Any] = []
    assert all(is_settled for _, is_settled in virtual(main))
    assert read


def test_as_settled_of_an_empty_scheduler_ends_at_once(virtual: Virtual) -> None:
    async def main() -> list[Any]:
        assert await collect(Scheduler()) == [("end", 0)]
        async with Scheduler() as scheduler:
            return await collect(scheduler)

    assert virtual(main) == [("end", 0)]


def test_map_and_as_settled_give_results_in_the_order_of_settling(
    virtual: Virtual,
) -> None:
    """`map` and `as_settled` are mostly used together, to take each result as soon as it exists."""

    async def main() -> list[Any]:
        async with Scheduler(jobs_window=2) as scheduler:
            scheduler.map(nap, [3, 1, 1], "abc")
            return [job.result() async for job in scheduler.as_settled()]

    assert virtual(main)[:2] == ["b", "c"]
    with pytest.raises(RuntimeError, match="current_job"):
        current_job()


def test_map_makes_jobs_of_the_given_kind(backend: str) -> None:
    """`map(kind=ThreadJob)` takes plain functions and the options of the kind; labels and inputs work as usual."""
    scheduler = Scheduler()
    lengths = scheduler.map(
        len, ["a", "bc"], kind=ThreadJob, abandon_on_cancel=True, label="length of {}"
    )
    sums = scheduler.map(pow, lengths, [2, 2], kind=ThreadJob)
    assert scheduler.run(backend=backend)
    assert [job.result() for job in sums] == [1, 4]
    assert [job.label for job in lengths] == ["length of a", "length of bc"]
    assert {type(job) for job in scheduler} == {ThreadJob}


def test_as_settled_of_chosen_jobs_ends_with_them(virtual: Virtual) -> None:
    """`as_settled(jobs)` yields these jobs alone, each once, and ends before the others and what is added meanwhile."""
    scheduler = Scheduler(sleeper(1), sleeper(9))
    chosen = scheduler.map(nap, [3, 2])
    found = []

    async def main() -> float:
        async with running(scheduler):
            async for job in scheduler.as_settled([*chosen, *chosen]):
                scheduler.add(sleeper(0))
                found.append((chosen.index(job), anyio.current_time()))
            return anyio.current_time()

    assert virtual(main) == 3
    assert found == [(1, 2), (0, 3)]


def test_as_settled_of_chosen_jobs_ends_with_the_run(virtual: Virtual) -> None:
    """The iteration over chosen jobs ends when the run does, although one of them was not reached."""
    bad = Job(fail, critical=True)
    never = Job(nap, 1, required=bad)
    scheduler = Scheduler(bad, never)

    async def main() -> list[Any]:
        async with running(scheduler):
            return [job async for job in scheduler.as_settled([never])]

    assert virtual(main) == []
    assert never.state is IDLE


def test_as_settled_rejects_what_is_no_member() -> None:
    with pytest.raises(
        ValueError,
        match=r"as_settled\(\): <Job 1, idle> is not a member of 'Scheduler'; add\(\) it first",
    ):
        Scheduler().as_settled([sleeper(1)])
