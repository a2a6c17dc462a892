"""The end that causes is told first: to each reader, the times of the ends that it is told never fall.

    python -m tests.run.test_causes_first 10000

draws so many runs, on the real clock, in which no two ends have the same time."""

import io
import itertools
import json
import logging
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
import anyio
import anyio.lowlevel
import pytest
from trioflow import Budget, Events, First, Job, Journal, Pool, Retry, Scheduler
from trioflow.abc import Instrument, is_scheduler


class Ends(Instrument):
    """An instrument that notes the ends that it is told, and may act at each."""

    def __init__(self, act: Callable[[Any], object] = lambda job: None) -> None:
        self.told: list[tuple[str, float]] = []
        self._act = act

    def job_settled(self, scheduler: Any, job: Any) -> None:
        self.note(job)
        self._act(job)

    def note(self, job: Any) -> None:
        self.told.append((job.path, job.finished_at))


async def fail() -> None:
    await anyio.sleep(0.01)
    raise OSError("disk full")


async def interrupt() -> None:
    raise KeyboardInterrupt


def waiting(number: int) -> list[Job[None]]:
    return [Job(anyio.sleep, 1, label=f"waits {each}") for each in range(number)]


def critical(**options: Any) -> Scheduler:
    """A critical job fails, and jobs wait for its slot, also in a group."""
    group = Scheduler(
        Job(anyio.sleep, 1, label="runs"), *waiting(2), label="group", jobs_window=1
    )
    return Scheduler(
        group,
        Job(fail, label="bad", critical=True),
        *waiting(2),
        jobs_window=2,
        log=False,
        **options,
    )


def interrupted(**options: Any) -> Scheduler:
    return Scheduler(
        Job(interrupt, label="bad"), *waiting(2), jobs_window=1, log=False, **options
    )


def blocked(**options: Any) -> Scheduler:
    """A critical job is blocked by a failure that is not critical."""
    first = Job(fail, label="fails")
    bad = Job(anyio.sleep, 0, label="bad", critical=True, required=first)
    return Scheduler(first, bad, *waiting(2), jobs_window=1, log=False, **options)


def spent(**options: Any) -> Scheduler:
    """A critical job is blocked because a budget is spent."""
    first = Job(anyio.sleep, 0.01, label="spends", needs={"usd": 2})
    bad = Job(anyio.sleep, 0, label="bad", critical=True, needs={"usd": 2})
    pool = Pool(usd=Budget(3.0), cpu=1)
    return Scheduler(
        first, bad, *waiting(2), pool=pool, jobs_window=1, log=False, **options
    )


def decided(**options: Any) -> Scheduler:
    return Scheduler(
        First(Job(anyio.sleep, 0.01, label="bad"), *waiting(2), jobs_window=1),
        log=False,
        **options,
    )


SCENARIOS = [critical, interrupted, blocked, spent, decided]


@pytest.mark.both_backends
@pytest.mark.parametrize("make", SCENARIOS, ids=[make.__name__ for make in SCENARIOS])
def test_the_end_that_causes_is_told_first(
    make: Callable[..., Scheduler], backend: Any, tmp_path: Path
) -> None:
    """The cause came last, although it ended first: what its end cancels was told before."""
    lines, ends, settled = io.StringIO(), Ends(), Ends()
    scheduler = make(on_job_settled=settled.note)
    try:
        scheduler.run(
            backend=backend,
            instruments=[ends, Events(lines)],
            journal=Journal(tmp_path / "run.db"),
        )
    except KeyboardInterrupt:
        assert make is interrupted
    events = [json.loads(line) for line in lines.getvalue().splitlines()]
    told = [
        (each["path"], each["at"]) for each in events if each["event"] == "job_settled"
    ]
    for name, reader in (
        ("instruments", ends.told),
        ("on_job_settled", settled.told),
        ("events", told),
    ):
        times = [at for _, at in reader]
        assert times == sorted(times), (name, reader)
        names = [path.rpartition("/")[2] for path, _ in reader]
        before = names[: names.index("bad")] if "bad" in names else ()
        assert not any(each.startswith("waits") for each in before), (name, names)
    if make is not interrupted:
        order = [job.label for job in make().run_as_settled(backend=backend)]
        assert order[0] in ("bad", "fails", "spends", "First"), order


def test_what_a_hook_cancels_is_told_after_the_end_that_it_hears(backend: Any) -> None:
    job, *others = Job(anyio.sleep, 0, label="job"), *waiting(3)
    inner = Scheduler(job, label="inner")

    def act(settled: Any) -> None:
        if settled is job:
            others[0].cancel()
            others[0].cancel()
            scheduler.cancel()

    behind = Ends()
    scheduler = Scheduler(inner, *others, jobs_window=1)
    scheduler.run(backend=backend, instruments=[Ends(act), behind])
    assert [path for path, _ in behind.told] == [
        "inner/job",
        "waits 0",
        "waits 1",
        "waits 2",
        "inner",
    ]
    assert others[0].state.value == "cancelled"


# ---- random runs
class Draw:
    """A random run: groups, windows, needs and failures, and hooks that cancel, add, and try again as jobs end."""

    def __init__(self, seed: str, backend: Any) -> None:
        self.dice, self.backend = random.Random(seed), backend
        self.readers: list[Ends] = []
        self.numbers = itertools.count()

    async def work(self) -> None:
        for _ in range(self.dice.choice([0, 0, 1, 3])):
            await anyio.lowlevel.checkpoint()
        if self.dice.random() < 0.25:
            raise OSError("broken")

    def job(self, label: str, **options: Any) -> Job[None]:
        return Job(self.work, label=label, key=f"{next(self.numbers)}", **options)

    def options(self) -> dict[str, Any]:
        dice = self.dice
        drawn = {
            "critical": True,
            "retry": Retry(1, first=0),
            "priority": 1,
            "needs": {"usd": 3},
            "run_if": "settled",
        }
        return {name: value for name, value in drawn.items() if dice.random() < 0.15}

    def scheduler(self, depth: int, **options: Any) -> Scheduler:
        dice, jobs = self.dice, list[Any]()
        for number in range(dice.randrange(2, 7)):
            required = [job for job in jobs if dice.random() < 0.2]
            if depth and dice.random() < 0.4:
                jobs.append(
                    self.scheduler(
                        depth - 1, label=f"group {number}", required=required
                    )
                )
            else:
                jobs.append(
                    self.job(f"job {number}", required=required, **self.options())
                )
        on_settled, watches = Ends(self.act), Ends(self.act)
        self.readers += on_settled, watches
        kind: Any = Scheduler
        if options and dice.random() < 0.3:
            kind, jobs = First, [job for job in jobs if not job.required]
        else:
            options["on_job_settled"] = lambda job: on_settled.job_settled(None, job)
        window = dice.choice([None, 1, 1, 2])
        return kind(
            *jobs, jobs_window=window, instruments=[watches], log=False, **options
        )

    def act(self, job: Any) -> None:
        """Do what a hook may do, sometimes."""
        dice = self.dice
        if dice.random() > 0.15:
            return
        chosen = dice.choice([*self.root.iterate_jobs(), self.root])
        group: Any = chosen if is_scheduler(chosen) else chosen.scheduler
        try:
            match dice.randrange(4):
                case 0:
                    chosen.cancel()
                case 1:
                    group.drain()
                case 2:
                    group.add(self.job(f"more {dice.random()}", required=[*group][:1]))
                case _:
                    chosen.try_again()
        except (RuntimeError, ValueError):
            pass

    def problems(self, folder: Path) -> Iterator[str]:
        self.root = self.scheduler(
            2,
            pool=Pool(usd=Budget(7.0)),
            keep_jobs=self.dice.random() < 0.8,
            timeout=20,
        )
        self.readers.append(Ends())
        journal = Journal(folder / "run.db") if self.dice.random() < 0.3 else None
        for _ in range(1 if journal is None else 2):
            lines = io.StringIO()
            self.root.run(
                backend=self.backend,
                instruments=[Events(lines), self.readers[-1]],
                journal=journal,
            )
            yield from (
                f"{job!r} has not ended"
                for job in self.root.iterate_jobs()
                if job.state.value == "running"
            )
            events = [json.loads(line) for line in lines.getvalue().splitlines()]
            told = [
                (each["path"], each["at"])
                for each in events
                if each["event"] == "job_settled"
            ]
            for number, reader in enumerate(
                [*(reader.told for reader in self.readers), told]
            ):
                if [at for _, at in reader] != sorted(at for _, at in reader):
                    yield f"reader {number}: {reader}"
                reader.clear()


@pytest.mark.parametrize(
    "draws",
    [range(4), pytest.param(range(4, 34), marks=pytest.mark.ci)],
    ids=["few", "more"],
)
def test_of_random_runs_no_reader_is_told_times_that_fall(
    backend: Any, tmp_path: Path, draws: range
) -> None:
    for number in draws:
        (folder := tmp_path / f"{number}").mkdir()
        assert not [*Draw(f"{number} {backend}", backend).problems(folder)], number


if __name__ == "__main__":
    import tempfile

    logging.disable()
    for number in range(int(sys.argv[1])):
        for backend in ("trio", "asyncio"):
            with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
                for problem in Draw(f"{number} {backend}", backend).problems(
                    Path(name)
                ):
                    print(number, backend, problem[:2000])
