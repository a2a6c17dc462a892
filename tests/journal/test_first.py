"""A `First` in a run with a journal: what an earlier run has paid for decides, before anything starts."""

import contextlib
import itertools
import math
import random
import shutil
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import Budget, First, Job, Pool, Scheduler, Sequence, Service, StopReason
from ..bodies import IDLE, SUCCEEDED, fail, nap, serve
from ..conftest import Virtual


class Server:
    """Answers after a time, and counts the calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def ask(self, name: str, seconds: float) -> str:
        self.calls.append(name)
        await nap(seconds)
        return name

    def __repr__(self) -> str:
        return "server"


def test_a_restored_winner_wins_before_any_other_job_starts(
    virtual: Virtual, tmp_path: Path
) -> None:
    server = Server()

    def make() -> Scheduler:
        question = Job(server.ask, "question", 1, label="question", key="question")
        first = First(
            Job(server.ask, "slow", 9, key="slow"),
            Job(relay, server, question, key="fast"),
            stagger=0.5,
            label="first",
        )
        return Scheduler(first, Job(relay, server, first, label="after", key="after"))

    journal = tmp_path / "run.db"
    for calls in (["slow", "question", "relay question", "relay relay question"], []):
        server.calls.clear()
        scheduler = make()
        assert virtual(lambda scheduler=scheduler: scheduler.co_run(journal=journal))
        assert server.calls == calls
        first: Any = next(iter(scheduler))
        assert first.result() == "relay question"
    slow, *_ = first
    assert slow.state is IDLE


async def relay(server: Server, question: str) -> str:
    return await server.ask(f"relay {question}", 1)


def test_what_ends_after_a_first_has_failed_is_not_stored(
    virtual: Virtual, tmp_path: Path
) -> None:
    """A job that catches its cancellation and returns has succeeded too late to count, in a later run, too."""

    async def late() -> str:
        with contextlib.suppress(anyio.get_cancelled_exc_class()):
            await nap(9)
        return "late"

    for _ in range(2):
        job = Job(late, key="late")
        first = First(
            job,
            *[Job(fail, 1, key=f"bad{number}") for number in range(2)],
            enough=2,
            label="first",
        )
        scheduler = Scheduler(first)
        assert not virtual(
            lambda scheduler=scheduler: scheduler.co_run(journal=tmp_path / "run.db")
        )
        assert (job.state, job.restored) == (SUCCEEDED, False)


def test_of_two_that_are_restored_at_once_only_so_many_win_as_are_needed(
    virtual: Virtual, tmp_path: Path
) -> None:
    server = Server()
    for enough in (4, 2):
        server.calls.clear()
        gate = Job(nap, 2, save=None)
        both = [
            Job(server.ask, name, 1, key=name, required=gate) for name in ("one", "two")
        ]
        first = First(
            gate,
            Job(server.ask, "ran", 1, save=None),
            Job(nap, 99),
            both,
            enough=enough,
            label="first",
        )
        scheduler = Scheduler(first, timeout=9)
        assert virtual(
            lambda scheduler=scheduler: scheduler.co_run(journal=tmp_path / "run.db")
        ) == (enough == 2)
    assert (server.calls, first.result()) == (["ran"], ["ran", "one"])


@pytest.mark.parametrize(
    "seed",
    [*range(4), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(4, 40))],
)
def test_a_stopped_first_continues_with_what_was_recorded(
    virtual: Virtual, tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    count = draw.randint(2, 6)
    enough = draw.randint(1, count)
    times = draw.sample(range(1, 20), count)
    server = Server()

    def make(timeout: float | None) -> tuple[Scheduler, First]:
        first = First(
            *(
                Job(server.ask, str(number), seconds, key=number)
                for number, seconds in enumerate(times)
            ),
            enough=enough,
            stagger=draw.choice([None, 0.5]),
            label="first",
        )
        return Scheduler(first, timeout=timeout), first

    paid: list[str] = []
    for attempt in itertools.count(1):
        scheduler, first = make(None if attempt == 3 else draw.uniform(0.1, 20))
        server.calls.clear()
        virtual(
            lambda scheduler=scheduler: scheduler.co_run(journal=tmp_path / "run.db")
        )
        assert not {*paid} & {*server.calls}
        called = [job for job in first if job.is_succeeded() and not job.restored]
        paid += [
            job.result() for job in sorted(called, key=lambda job: job.finished_at or 0)
        ]
        if scheduler.stop_reason is StopReason.COMPLETED:
            break
    result = first.result()
    assert ([result] if enough == 1 else result) == paid[:enough]
    assert len(paid) == enough


def test_a_job_that_joins_a_running_first_and_is_restored_wins(
    virtual: Virtual, tmp_path: Path
) -> None:
    """A job that is added to a running `First`, and that an earlier run has paid for, is the result at once."""
    server = Server()

    def make() -> Scheduler:
        async def add() -> None:
            await nap(1)
            first.add(Job(server.ask, "late", 1, label="late", key="late"))

        first = First(Job(nap, 100, save=None), label="first")
        return Scheduler(first, Job(add, save=None))

    for calls in (["late"], []):
        server.calls.clear()
        scheduler = make()
        assert virtual(
            lambda scheduler=scheduler: scheduler.co_run(journal=tmp_path / "run.db")
        )
        assert server.calls == calls
        assert next(iter(scheduler)).result() == "late"


class Race:
    """A random `First` of jobs, chains, fallbacks, groups and other `First`s; each job notes that it has run."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.ran: list[str] = []

    async def work(self, name: str, seconds: float, fails: bool, *inputs: Any) -> str:
        self.ran.append(name)
        await nap(seconds)
        if fails:
            raise OSError(name)
        return name

    def make(self, outside: Service[Any], **options: Any) -> First:
        """Make the same `First` at each call, of which some jobs take the result of a service, outside or in it."""
        inside = Service(serve)
        draw, numbers = random.Random(self.seed), itertools.count()

        def job(*inputs: Any, **options: Any) -> Job[Any]:
            name = f"job{next(numbers)}"
            values = (name, draw.randint(1, 40) / 4, draw.random() < 0.3)
            return Job(
                self.work,
                *values,
                *inputs,
                label=name,
                needs={"usd": 1},
                key=[name, *values],
                **options,
            )

        def member(depth: int) -> Any:
            kind = draw.choice(
                ["job", "chain", "input", "fallback", "service", "group", "first"][
                    : 5 if depth == 2 else 7
                ]
            )
            if kind == "job":
                return job()
            if kind == "input":
                return job(job())
            if kind == "service":
                return job(draw.choice([outside, inside]))
            if kind == "chain":
                return Sequence(job(), job())
            if kind == "fallback":
                return Sequence(job(), job(run_if="failed"))
            if kind == "group":
                return Scheduler(
                    *[member(depth + 1) for _ in range(2)],
                    label=f"group{next(numbers)}",
                )
            return First(
                *[member(depth + 1) for _ in range(2)], label=f"first{next(numbers)}"
            )

        return First(
            *[member(0) for _ in range(draw.randint(2, 4))], label="first", **options
        )

    def __repr__(self) -> str:
        return "race"


@pytest.mark.parametrize(
    "seeds", [range(4), pytest.param(range(4, 400), marks=pytest.mark.soak)]
)
def test_a_first_that_was_decided_is_restored_as_a_whole(
    virtual: Virtual, tmp_path: Path, seeds: range
) -> None:
    """A later run calls nothing in a `First` of any shape, has the same result, and counts what it has spent."""
    decided = 0
    for seed in seeds:
        race, journal = Race(seed), tmp_path / f"{seed}.db"
        enough = 1 + seed % 2

        async def run(
            race: Race = race, journal: Path = journal, enough: int = enough
        ) -> tuple[Any, float]:
            service, pool = Service(serve), Pool(usd=Budget(1000))
            options: dict[str, Any] = {
                "journal": journal,
                "keep_jobs": enough == 1,
                "critical_jobs": False,
            }
            async with Scheduler(pool=pool, **options) as scheduler:
                scheduler.add(service)
                first = scheduler.add(race.make(service, enough=enough))
            return (
                (first.result(), pool.free["usd"])
                if first.is_succeeded()
                else (None, 0)
            )

        result, left = virtual(run)
        race.ran.clear()
        if result is not None:
            decided += 1
            again, left_again = virtual(run)
            assert (again, race.ran) == (result, []), seed
            assert left_again >= left, seed
            assert left_again < 1000, seed
    assert decided


def test_a_first_that_needs_another_number_of_winners_competes_again(
    virtual: Virtual, tmp_path: Path
) -> None:
    """What has won before wins again, from the journal. The `First` itself has a result of as many as it needs now."""
    server = Server()
    for enough, result, calls in (
        (1, "fast", ["fast", "slow"]),
        (2, ["fast", "slow"], ["slow"]),
        (2, ["fast", "slow"], []),
        (1, "fast", []),
    ):
        server.calls.clear()
        jobs = [
            Job(server.ask, name, seconds, key=name, label=name)
            for name, seconds in (("fast", 1), ("slow", 2))
        ]
        first = First(jobs, enough=enough, label="first")
        scheduler = Scheduler(first)
        assert virtual(
            lambda scheduler=scheduler: scheduler.co_run(journal=tmp_path / "run.db")
        )
        assert (first.result(), server.calls) == (result, calls)


def test_a_first_whose_winner_has_changed_competes_again(
    virtual: Virtual, tmp_path: Path
) -> None:
    """A `First` is restored only if its winners are: one with another key runs, and so do the others. Also a loser that
    returned something when it was cancelled, which is no result of the `First`."""
    server = Server()

    async def ask_on() -> str:
        with contextlib.suppress(anyio.get_cancelled_exc_class()):
            await server.ask("slow", 2)
        return "late"

    def make(version: int) -> Scheduler:
        winner = Scheduler(
            Job(server.ask, "fast", 1, key=["fast", version], label="fast"),
            label="group",
        )
        return Scheduler(
            First(winner, Job(ask_on, key="slow", label="slow"), label="first")
        )

    for version, calls in (
        (1, ["fast", "slow"]),
        (1, []),
        (2, ["fast", "slow"]),
        (2, []),
    ):
        server.calls.clear()
        scheduler = make(version)
        assert virtual(
            lambda scheduler=scheduler: scheduler.co_run(journal=tmp_path / "run.db")
        )
        assert sorted(server.calls) == calls
        assert [job.restored for job in scheduler] == [not calls]


def test_winners_are_recorded_before_the_losers_have_cleaned_up(
    virtual: Virtual, tmp_path: Path
) -> None:
    server = Server()

    async def lose() -> None:
        server.calls.append("loser")
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await nap(10)
                shutil.copytree(tmp_path / "run", tmp_path / "copy", dirs_exist_ok=True)

    def make() -> Scheduler:
        group = Scheduler(
            Job(server.ask, "fast", 1, key="fast", label="fast"), label="group"
        )
        return Scheduler(First(group, Job(lose, label="loser"), label="first"))

    (tmp_path / "run").mkdir()
    for name, calls in (("run", ["fast", "loser"]), ("copy", [])):
        server.calls.clear()
        scheduler = make()
        assert virtual(
            lambda scheduler=scheduler, name=name: scheduler.co_run(
                journal=tmp_path / name / "run.db"
            )
        )
        assert sorted(server.calls) == calls


def test_a_first_with_a_key_that_cannot_be_stored_fails_alone(
    virtual: Virtual, tmp_path: Path
) -> None:
    """A bad `key=` of a `First` in an open scheduler is its own failure, and the engine goes on."""
    other = Job(nap, 1, label="other")

    async def main() -> None:
        async with Scheduler(
            journal=tmp_path / "run.db", critical_jobs=False
        ) as scheduler:
            scheduler.update([First(Job(nap, 1), label="first", key=Server()), other])

    virtual(main)
    assert other.is_succeeded()


@pytest.mark.parametrize("stagger", [5, math.inf])
def test_the_turn_after_a_restored_job_opens_at_once(
    virtual: Virtual, tmp_path: Path, stagger: float
) -> None:
    """A restored job has not started, so that no time would ever come for the next; and it counts as it is restored."""
    for body in (fail, nap):
        needed = Job(body, 1, label="needed")
        last = Job(nap, 1, "second", label="last", required=needed)
        first = First(
            Job(nap, 1, "first", label="first"), last, needed, enough=2, stagger=stagger
        )
        scheduler = Scheduler(first)
        assert virtual(
            lambda run=scheduler.co_run: run(journal=tmp_path / "run.db")
        ) is (body is nap)
    assert needed.started_at == 0


def test_a_first_takes_no_result_of_a_job_that_only_its_place_tells_from_another(
    tmp_path: Path,
) -> None:
    """As everywhere else: the function that is known by name only may be another by now."""

    def work_of(number: int) -> Any:
        secret = object()

        async def work() -> int:
            assert secret
            return number

        return work

    for numbers in ([1], [2, 1]):
        jobs = [Job(work_of(number), label="work") for number in numbers]
        first = First(*jobs, label="first")
        Scheduler(first, log=False).run(journal=tmp_path / "run.db")
        assert first.result() == numbers[0]
