"""Random runs: groups at any depth, `First`, services, retries, timeouts, clean-up, windows, open blocks, journals."""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any
import anyio
import anyio.lowlevel
from trioflow import First, Job, JobState, Retry, Scheduler, Service, current_job
from trioflow.abc import JobKind, Work
from .story import End, Story, end_of

DEPTH = 2
STEP = 0.25
"""All times of a run are multiples of this, in seconds, 0 among them; those of what is done to it lie between them."""
TRIES = 4
"""How often a function that is told of a failure has the same job tried again."""


class Broken(Exception):
    """The failure of a body."""


@dataclass(frozen=True)
class Plan:
    is_open: bool
    keeps_jobs: bool
    has_journal: bool
    is_begun: bool
    is_held: bool
    chances: dict[str, float]

    @classmethod
    def drawn(cls, random: Random) -> "Plan":
        is_open, has_journal = random.random() < 0.3, random.random() < 0.5
        shares = {
            "group": 0.3, "first": 0.15, "service": 0.1, "retry": 0.4, "timeout": 0.15, "clean-up": 0.15, "drop": 0.2,
            "tolerated": 0.15, "critical": 0.2, "told": 0.7, "again": 0.25, "kind": 0.2, "inner": 0.3,
        }  # fmt: skip
        chances = {
            name: share for name, share in shares.items() if random.random() < 0.6
        }
        return cls(
            is_open=is_open,
            keeps_jobs=not (is_open and random.random() < 0.4),
            has_journal=has_journal,
            is_begun=has_journal and not is_open and random.random() < 0.5,
            is_held=random.random() < 0.4,
            chances=chances,
        )


@dataclass
class Bodies:
    calls: Counter[str] = field(default_factory=Counter[str])
    results: dict[str, str] = field(default_factory=dict[str, str])
    worked: dict[str, float] = field(default_factory=dict[str, float])
    """The seconds in which the attempts have run that `job.attempts` counts."""
    began: dict[str, float] = field(default_factory=dict[str, float])
    problems: list[str] = field(default_factory=list[str])

    def begin(self, label: str) -> None:
        self.calls[label] += 1
        self.began[label] = anyio.current_time()
        if current_job().attempts == 1:
            self.worked[label] = 0.0

    def end(self, label: str) -> None:
        self.worked[label] += anyio.current_time() - self.began.pop(label)


class Probe(JobKind[str]):
    def __init__(self, body: Callable[[], Awaitable[str]], **options: Any) -> None:
        super().__init__(**options)
        self._body = body

    async def co_run(self) -> str:
        return await self._body()

    def for_journal(self) -> Work:
        return Work(what="probe", arguments=[self.label])


class World:
    """One run, what its bodies have done, and the story of its jobs.

    Args:
        seed: decides all that is drawn.
        journal: the path of its journal.
        is_mended: whether nothing fails, and nobody tries anything again: the run after the one that is judged.
        results: the results that an earlier run has journaled, by the labels of the jobs.

    """

    def __init__(
        self,
        seed: str,
        journal: str,
        *,
        is_mended: bool = False,
        results: dict[str, str] | None = None,
    ) -> None:
        self.random = Random(f"world {seed}")
        self.plan = Plan.drawn(self.random)
        self.is_mended = is_mended
        self.story = Story()
        self.bodies = Bodies(results={} if results is None else {**results})
        self.told: dict[Any, list[tuple[Any, End]]] = {}
        """What `on_job_settled` of each scheduler was told."""
        self.own: dict[Any, list[End]] = {}
        """What `on_settled` of each job was told."""
        self.done: dict[Any, list[End]] = {}
        """What `on_succeeded` of each job was told."""
        self.groups_with_instruments: list[Scheduler] = []
        self.problems: list[str] = []
        self.scheduler = Scheduler(
            label="S", jobs_window=self.random.choice([None, None, 1, 2, 3]), hold=self.plan.is_held and not is_mended,
            keep_jobs=self.plan.keeps_jobs, journal=journal if self.plan.has_journal else None,
        )  # fmt: skip
        self._tell(self.scheduler)
        self._fill(self.scheduler, "j", 0)
        self.jobs: list[Any] = list(self.scheduler.iterate_jobs())

    def _draws(self, name: str) -> bool:
        return self.random.random() < self.plan.chances.get(name, 0)

    def _seconds(self, least: int = 1, most: int = 12) -> float:
        return self.random.randint(least, most) * STEP

    # ---- jobs

    def _fill(self, home: Scheduler, prefix: str, depth: int) -> None:
        made: list[Any] = []
        for number in range(self.random.randint(2, 6)):
            job = self._job(f"{prefix}{number}", made, depth)
            if not isinstance(job, Service):
                for other in made:
                    if self.random.random() < 0.3 and other not in job.required:
                        job.requires(other, settled=self.random.random() < 0.1)
            made.append(job)
            home.add(job)
        if all(job.forever for job in made):
            home.add(self._leaf(f"{prefix}x", [], fails=0))

    def _job(self, label: str, made: list[Any], depth: int) -> Any:
        if depth < DEPTH and self._draws("group"):
            return self._group(label, depth)
        if depth < DEPTH and self._draws("first"):
            return self._first(label)
        if self._draws("service"):
            return Service(self._service(label, self.random.randint(0, 2)), label=label)
        return self._leaf(
            label, made, fails=self.random.choice([0, 0, 0, 1, 1, 2, 3, 99])
        )

    def _group(self, label: str, depth: int) -> Scheduler:
        options: dict[str, Any] = (
            {"critical_jobs": True} if self._draws("critical") else {}
        )
        if self._draws("retry"):
            options["retry"] = 1
        if self._draws("clean-up"):
            options["run_if"] = "settled"
        group = Scheduler(
            label=label, jobs_window=self.random.choice([None, None, 1, 2]), **options
        )
        self._tell(group)
        if self._draws("inner"):
            self.groups_with_instruments.append(group)
        self._fill(group, f"{label}.", depth + 1)
        return group

    def _first(self, label: str) -> First[Any]:
        names = [f"{label}.{number}" for number in range(self.random.randint(2, 3))]
        jobs = [
            self._leaf(name, [], fails=self.random.choice([0, 1, 9]), is_simple=True)
            for name in names
        ]
        enough, stagger = (
            self.random.choice([1, 1, 2]),
            self.random.choice([None, 1.0, float("inf")]),
        )
        return First(*jobs, label=label, enough=enough, stagger=stagger)

    def _leaf(
        self, label: str, made: list[Any], fails: int, *, is_simple: bool = False
    ) -> Any:
        options: dict[str, Any] = {"label": label}
        if self.plan.has_journal:
            options["key"] = label
        if not is_simple:
            self._draw_options(options)
        body = self._body(label, self._seconds(0), 0 if self.is_mended else fails)
        if self._draws("kind"):
            told = self._own_teller(label)
            return Probe(body, on_succeeded=self._note_done, on_settled=told, **options)
        inputs = [
            other
            for other in made
            if type(other) is Job and self.random.random() < 0.25
        ]
        return Job(body, *inputs, **options)

    def _draw_options(self, options: dict[str, Any]) -> None:
        if self._draws("retry"):
            options["retry"] = Retry(
                self.random.randint(1, 2),
                first=self.random.choice([0, self._seconds()]),
                jitter=False,
            )
        if self._draws("timeout"):
            options["timeout"] = self._seconds(4) + 99 * self.is_mended
        if self._draws("clean-up"):
            options["run_if"] = self.random.choice(["failed", "failed", "settled"])
        if self._draws("drop"):
            options["keep_result"] = False
        if self._draws("tolerated"):
            options["critical"] = False

    # ---- bodies

    def _body(self, label: str, seconds: float, fails: int) -> Callable[..., Any]:
        bodies = self.bodies

        async def body(*inputs: Any) -> str:
            bodies.begin(label)
            call = bodies.calls[label]
            for value in inputs:
                if (
                    isinstance(value, str)
                    and bodies.results.get(value.partition("#")[0]) != value
                ):
                    bodies.problems.append(f"{label} got the old result {value}")
            try:
                await anyio.sleep(seconds)
            finally:
                bodies.end(label)
            if call <= fails:
                raise Broken(label, call)
            bodies.results[label] = f"{label}#{call}"
            return bodies.results[label]

        return body

    def _service(self, label: str, fails: int) -> Callable[..., Any]:
        bodies = self.bodies

        async def serve(*, task_status: Any) -> None:
            bodies.begin(label)
            try:
                await anyio.lowlevel.checkpoint()
                if not self.is_mended and bodies.calls[label] <= fails:
                    raise Broken(label)
                task_status.started(label)
                await anyio.sleep_forever()
            finally:
                bodies.end(label)

        return serve

    # ---- who is told, and may ask for another try

    def _tell(self, scheduler: Scheduler) -> None:
        tries_again = self._draws("again")
        if not self._draws("told"):
            return
        told = self.told.setdefault(scheduler, [])

        def on_job_settled(job: Any) -> None:
            self.story.path(job)
            told.append((job, end_of(job)))
            if tries_again:
                self.try_again(job, sum(known is job for known, _ in told))

        scheduler.on_job_settled = on_job_settled

    def _note_done(self, job: Any) -> None:
        self.done.setdefault(job, []).append(end_of(job))

    def _own_teller(self, label: str) -> Callable[[Any], None]:
        tries_again = self._draws("again")

        def on_settled(job: Any) -> None:
            told = self.own.setdefault(job, [])
            told.append(end_of(job))
            if job.scheduler is not None:
                job.scheduler.as_settled()
            if tries_again:
                self.try_again(job, len(told))

        return on_settled

    def try_again(self, job: Any, number: int) -> None:
        if self.is_mended or job.state is not JobState.FAILED or number >= TRIES:
            return
        try:
            job.try_again()
        except RuntimeError:
            return
