"""The order in which jobs start."""

import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest
from trioflow import First, Job, Pool, Scheduler
from trioflow._core.run import _worker
from trioflow.abc import AbstractJob, Instrument
from ..bodies import at_once, fail, nap, pass_time
from ..conftest import Virtual


class Watch(Instrument):
    def __init__(self) -> None:
        self.order: list[str] = []

    def job_started(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        self.order.append(job.label)


# --- the order of starts
def labelled(names: str, **options: Any) -> Iterator[Job[Any]]:
    return (Job(nap, 1, label=name, **options) for name in names)


def order_of(virtual: Virtual, make: Callable[[], Scheduler]) -> str:
    async def main() -> str:
        watch = Watch()
        await make().co_run(instruments=[watch], timeout=99)
        return "".join(watch.order)

    run: Callable[[], Awaitable[str]] = main
    return virtual(run)


@pytest.mark.parametrize("total", [None, 99])
@pytest.mark.parametrize("window", [1, 2, 3, None])
def test_jobs_start_in_the_order_added(virtual: Virtual, window: int | None, total: int | None) -> None:
    """Jobs that are ready together start in the order added, forever jobs too, even under a full window."""

    def make() -> Scheduler:
        needs = None if total is None else {"cpu": 1}
        ordinary = list(labelled("abcdefghij", needs=needs))
        forever = list(labelled("ABCDEFGHIJ", forever=True, needs=needs))
        pool = None if total is None else Pool(cpu=total)
        return Scheduler(list(zip(ordinary, forever, strict=True)), jobs_window=window, pool=pool)

    order = order_of(virtual, make)
    assert [name for name in order if name.islower()] == list("abcdefghij")
    assert [name for name in order if name.isupper()] == list("ABCDEFGHIJ")
    if window is None:
        assert order == "aAbBcCdDeEfFgGhHiIjJ"


@pytest.mark.parametrize("names", ["".join(names) for names in itertools.permutations("abcd")])
def test_what_one_end_makes_ready_starts_in_the_order_added(virtual: Virtual, names: str) -> None:
    """Whatever else lets it run: nothing, or another job that has failed, and is tolerated or waited for alone."""
    source, failed = Job(nap, 1, label="x"), Job(fail, 0, label="y", critical=False)
    jobs = {name: Job(nap, 1, label=name, required=source) for name in "abcd"}
    jobs["b"].requires(failed)
    jobs["c"].requires(failed, settled=True)
    jobs["d"] = Job(nap, 1, label="d", required=[source, failed], run_if="failed")
    scheduler = Scheduler(failed, source, [jobs[name] for name in names], jobs_window=1)
    assert order_of(virtual, lambda: scheduler) == "yx" + names


@pytest.mark.parametrize("priority", [0, 1])
def test_a_job_with_own_task_keeps_its_place_in_the_order(virtual: Virtual, priority: int) -> None:
    def make() -> Scheduler:
        first = labelled("ab", priority=priority)
        return Scheduler([*first, *labelled("c", own_task=True), *labelled("def")], jobs_window=2)

    assert order_of(virtual, make) == "abcdef"


@pytest.mark.parametrize("seconds", [0.0, 0.0004], ids=["in one turn", "in several turns"])
@pytest.mark.parametrize("make_group", [Scheduler, First])
def test_first_jobs_of_siblings_start_in_the_order_of_groups(virtual: Virtual, make_group: Any, seconds: float) -> None:
    """The first jobs of groups that start together start in order, however the loop resumes the tasks of a turn. trio
    resumes new tasks in order or in reverse, by chance, so there are several rounds."""
    for _ in range(10):
        names = "abcdefgh"
        groups = [
            make_group(Job(at_once, lambda: pass_time(virtual.backend, seconds), label=name), label=name.upper())
            for name in names
        ]
        started = order_of(virtual, lambda groups=groups: Scheduler(groups))  # type: ignore[misc]
        assert "".join(name for name in started if name.islower()) == names


@pytest.mark.parametrize("make_group", [Scheduler, First])
def test_a_worker_starts_its_first_job_in_its_turn(make_group: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On trio, it begins in its place, and waits no more; if time ran out then, later groups came first."""
    monkeypatch.setattr(_worker, "TURN_SECONDS", 0.0)
    names = "abcdefgh"
    for _ in range(10):
        started: list[str] = []

        async def work(name: str, started: list[str] = started) -> None:
            started.append(name)

        assert Scheduler([make_group(Job(work, name)) for name in names]).run(backend="trio")
        assert "".join(started) == names


class TakesTime(Instrument):
    """Spends a third of the time of a turn as each run begins."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

    def before_run(self, scheduler: Scheduler) -> None:
        pass_time(self.backend, _worker.TURN_SECONDS * 0.3)


@pytest.mark.parametrize("make_group", [Scheduler, First])
def test_a_worker_that_finds_the_time_used_up_is_not_passed_by_later_ones(virtual: Virtual, make_group: Any) -> None:
    """The groups start in order also if starting them takes several turns; workers of later groups came first."""
    names = "abcdefghijkl"
    started: list[str] = []

    async def work(name: str) -> None:
        started.append(name)

    scheduler = Scheduler([make_group(Job(work, name)) for name in names])
    takes_time = TakesTime(virtual.backend)
    assert virtual(lambda: scheduler.co_run(instruments=[takes_time]))
    assert "".join(started) == names


@pytest.mark.parametrize("own_task", [False, True])
@pytest.mark.parametrize("names", list(itertools.permutations(["one", "two"])))
def test_what_ends_at_once_gives_back_before_starts(virtual: Virtual, names: Sequence[str], own_task: bool) -> None:
    """A job of a shorter path does not start between two ends of one instant, which free what the longest one needs."""
    ends = {"one": 1, "two": 2}
    common: dict[str, Any] = {"own_task": own_task}
    before = [Job(nap, 3, label=name, expected_duration=3, needs={"r": ends[name]}, **common) for name in names]
    short = Job(nap, 3, label="short", expected_duration=3, needs={"r": 1}, **common)
    long = Job(nap, 4, label="long", expected_duration=4, needs={"r": 3}, required=before, **common)
    assert virtual(Scheduler(short, *before, long, pool=Pool(r=3), policy="critical-path").co_run)
    assert (long.started_at, short.started_at) == (long.finished_at - 4, long.finished_at)  # type: ignore[operator]
