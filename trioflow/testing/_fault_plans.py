"""Plans of runs: the differences between a run and the plain run, their notation, the plans to try, and outcomes.

A plan consists of a backend and the changes to a run. A broken run can be repeated from the text of its plan, such as
``trio late@1:a=3 fail@0:b``. Places are numbered within each job: 0 is its beginning, 1 its first wait, and "end" is
the moment after its body has returned.

The plans to try are all single faults at all places, in random order, interleaved with random plans. A plan has few
changes, because most bugs in concurrent programs need only few events to coincide. Their number is called the depth of
the bug by Burckhardt et al., "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", ASPLOS 2010. In
some plans, the order is drawn as in that paper: each job gets a random rank, ready tasks resume by rank in each
iteration of the loop, and some jobs resume only after all others are blocked. Other plans have a random order in each
iteration, or the usual order.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, get_args
from urllib.parse import quote, unquote

from .._core.job._job import AnyJob
from ..abc import BackendName

if TYPE_CHECKING:
    from ._task_order import TaskOrder


END_PLACE: Final = -1
SHORT_DELAY: Final = 2.0**-20
"""A delay, in seconds, that ends only when all other jobs are blocked, because the clock stands still until then."""

FAULT_OF_KIND: Final = {
    "first": "order",  # in iteration `at` of the event loop, the task of the job resumes first
    "turn": "order",  # in iteration `at` of the event loop, the tasks resume in an order that `value` determines
    "rank": "order",  # the job gets the rank `value`: ready tasks resume in the order of ranks, the lowest first
    "late": "durations",  # the job resumes `value` seconds late
    "hang": "timeouts",  # the job waits at its beginning until it is cancelled
    "fail": "failures",  # the job raises an exception, up to `value` times if it reaches the same line again
    "cancel": "cancellation",  # `cancel()` of the job
    "stop": "cancellation",  # `cancel()` of its scheduler
    "cut": "cancellation",  # of the whole run, by a scope around it, or natively (on asyncio) if `value` is not 0
    "ctrl-c": "ctrl-c",
    "crash": "crash",
}


@dataclass(frozen=True, slots=True)
class Change:
    """A difference between a run and the plain run.

    Attributes:
        kind: a key of `FAULT_OF_KIND`.
        name: the path of the job, or empty for `turn`.
        at: the place in the job or, for `turn` and `first`, the number of the iteration of the event loop.
        value: a number whose meaning depends on the kind. The comments in `FAULT_OF_KIND` explain it.

    """

    kind: str
    name: str = ""
    at: int = 0
    value: float = 0.0

    def __str__(self) -> str:
        at = "end"
        if self.at != END_PLACE:
            at = str(self.at)
        value = "=moment"
        if self.value != SHORT_DELAY:
            value = ""
            if self.value:
                value = f"={self.value!r}".removesuffix(".0")
        return f"{self.kind}@{at}:{quote(self.name, safe='/()#,[]')}{value}"


@dataclass(frozen=True, slots=True)
class Plan:
    backend: str
    changes: tuple[Change, ...] = ()

    def __str__(self) -> str:
        return " ".join([self.backend, *map(str, self.changes)])


def read_plan(text: str) -> Plan:
    backend, *words = text.split() or [""]
    try:
        if backend not in get_args(BackendName):
            raise ValueError
        return Plan(backend, tuple(map(_read_change, words)))
    except ValueError:
        raise ValueError(
            f"seed={text!r}: give a number, or the text after 'seed=' in the story of a broken run, such as "
            f"'trio fail@1:fetch'"
        ) from None


def _read_change(word: str) -> Change:
    kind, _, rest = word.partition("@")
    at, separator, rest = rest.partition(":")
    name, _, value = rest.partition("=")
    if kind not in FAULT_OF_KIND or not separator:
        raise ValueError
    number = SHORT_DELAY
    if value != "moment":
        number = float(value or 0)
    place = END_PLACE
    if at != "end":
        place = int(at)
        if place < 0:
            raise ValueError
    if not math.isfinite(number) or (number < 0 and kind != "rank"):
        raise ValueError
    return Change(kind, unquote(name), place, number)


class InjectedError(Exception):
    """The exception that `explore` raises in a job to make it fail. It represents a failure of the outside world."""


class EndlessRun(BaseException):
    """The exception that ends a run that would never end by itself."""


@dataclass(slots=True)
class SteppedJob:
    """A job of the scenario whose calls are stepped from wait to wait.

    Attributes:
        name: the path of the job.
        job: the job.
        wait_count: the number of waits in all calls of the job since the last crash.
        call_count: the number of calls since the last crash.
        is_running: whether a call is in progress.
        waiting_coroutine: the coroutine of the job while it waits, or None at other times.
        wait_start: the time when the current or last wait began.
        shutdown_count: the number of calls of the job's `co_shutdown` since the last crash.
        pending_failures: the failures to repeat. Each is a pair: the description of the place, and the change.

    """

    name: str
    job: AnyJob
    wait_count: int = 0
    call_count: int = 0
    is_running: bool = False
    waiting_coroutine: Any = None
    wait_start: float = 0.0
    shutdown_count: int = 0
    pending_failures: list[tuple[str, Change]] = field(
        default_factory=list[tuple[str, Change]]
    )

    def take_failures(self, place: str) -> list[Change]:
        failures = self.pending_failures
        self.pending_failures = [failure for failure in failures if failure[0] != place]
        return [change for failure_place, change in failures if failure_place == place]


@dataclass(slots=True)
class RunOutcome:
    """The outcome of a run.

    Attributes:
        plan: the plan of the run.
        task_order: the order of tasks in the run.
        violated_invariant: the violated invariant, or None if all invariants held.
        error: the exception that violated the invariant, if there is one.
        event_lines: the events of the run, as lines of text.
        applied_changes: the changes of the plan that were applied.
        wait_counts: the number of waits of each job, by name.
        jobs_with_timeout: the names of the jobs that have a timeout, or are in a scheduler with a timeout.
        jobs_with_retries: the names of the jobs that have retries, or are in a scheduler that has them.
        make_error: the error that `make_scheduler` raised before any job had waited, or None if there is none.
        total_wait_count: the number of waits of all jobs.
        end_time: the virtual time at the end.

    """

    plan: Plan
    task_order: TaskOrder
    violated_invariant: str | None = None
    error: BaseException | None = None
    event_lines: list[str] = field(default_factory=list[str])
    applied_changes: set[Change] = field(default_factory=set[Change])
    wait_counts: dict[str, int] = field(default_factory=dict[str, int])
    jobs_with_timeout: set[str] = field(default_factory=set[str])
    jobs_with_retries: set[str] = field(default_factory=set[str])
    make_error: Exception | None = None
    total_wait_count: int = 0
    end_time: float = 0.0


FAILURE_COUNTS: Final = (2.0, 3.0)
"""The numbers of failures at a place to try besides 1. They may exhaust the retries of a job."""


class PlanGenerator:
    """A generator of plans for an exploration.

    Args:
        seed: the seed that determines all plans.
        faults: the kinds of faults that plans may have.

    """

    def __init__(self, seed: int, faults: Iterable[str]) -> None:
        self._random: Final = random.Random(seed)
        self._faults: Final = frozenset(faults)
        others = self._faults - {"order", "durations"}
        self._kinds: Final = [
            kind for kind, fault in FAULT_OF_KIND.items() if fault in others
        ]
        self._wait_counts: Final = dict[str, int]()
        self._jobs_with_timeout: Final = set[str]()
        self._jobs_with_retries: Final = set[str]()
        self._plain_duration = 1.0
        self._untried_single_faults: Iterator[Change] = iter(())

    def record(self, outcome: RunOutcome) -> None:
        """Record the number of waits of each job in a run, and which jobs have timeouts and retries."""
        for name, wait_count in outcome.wait_counts.items():
            self._wait_counts[name] = max(wait_count, self._wait_counts.get(name, 0))
        self._jobs_with_timeout.update(outcome.jobs_with_timeout)
        self._jobs_with_retries.update(outcome.jobs_with_retries)

    def begin(self, plain_duration: float) -> None:
        """Prepare to generate plans, after the plain runs are recorded.

        Args:
            plain_duration: the duration of the longest plain run, in seconds.

        """
        self._plain_duration = plain_duration or 1.0
        single_faults = list(self._iterate_single_faults())
        self._random.shuffle(single_faults)
        self._untried_single_faults = iter(single_faults)

    def _iterate_single_faults(self) -> Iterator[Change]:
        kinds = list(self._kinds)
        if self._faults & {"order", "durations"}:
            kinds.append("late")
        for name, wait_count in self._wait_counts.items():
            for at in (*range(wait_count + 1), END_PLACE):
                for kind in kinds:
                    if self._is_applicable(kind, name, at):
                        for value in self._values_to_try(kind, name):
                            yield Change(kind, name, at, value)

    def _values_to_try(self, kind: str, name: str) -> tuple[float, ...]:
        if kind == "fail" and name in self._jobs_with_retries:
            return (0.0, *FAILURE_COUNTS)
        if kind == "late":
            return (SHORT_DELAY,)
        return (0.0,)

    def _is_applicable(self, kind: str, name: str, at: int) -> bool:
        if kind == "hang":
            return at == 0 and name in self._jobs_with_timeout
        return at != END_PLACE or kind in ("fail", "crash")

    def next_plan(self, backend: str) -> tuple[Plan, int | None]:
        """Return the next plan, and a seed for the order of tasks in each iteration, or None for the usual order."""
        rng = self._random
        single_fault = None
        if rng.random() < 0.5:
            single_fault = next(self._untried_single_faults, None)
        if single_fault is not None:
            order_seed = None
            if rng.random() < 0.5:
                order_seed = self._draw_order_seed()
            return Plan(backend, (single_fault,)), order_seed
        names = list(self._wait_counts)
        changes: dict[tuple[str, str, int], Change] = {}
        kind = name = ""
        count = 0
        if self._kinds and names:
            count = rng.choice((0, 1, 1, 2, 2, 3))
        for _ in range(count):
            # About half of the changes are the same kind of change to the same job again.
            if not changes or rng.random() < 0.5:
                kind = rng.choice(self._kinds)
                name = rng.choice(names)
            change = self._draw_change(kind, name)
            if self._is_applicable(change.kind, change.name, change.at):
                changes.setdefault((change.kind, change.name, change.at), change)
        order_seed = None
        order_choice = rng.random()
        if "order" in self._faults and names:
            if order_choice < 0.4:
                order_seed = self._draw_order_seed()
            elif order_choice < 0.6:
                ranks = list(range(1, len(names) + 1))
                rng.shuffle(ranks)
                for name, rank in zip(names, ranks, strict=True):
                    changes["rank", name, 0] = Change("rank", name, 0, rank)
        count = 0
        if self._faults & {"order", "durations"} and names:
            count = rng.choice((0, 1, 2, 3))
        for _ in range(count):
            change = self._draw_change("late", rng.choice(names), self._draw_delay())
            if change.at != END_PLACE:
                changes["late", change.name, change.at] = change
        return Plan(backend, tuple(changes.values())), order_seed

    def _draw_order_seed(self) -> int | None:
        if "order" not in self._faults:
            return None
        return self._random.getrandbits(32)

    def _draw_change(self, kind: str, name: str, value: float = 0.0) -> Change:
        at = self._random.randint(-1, self._wait_counts[name])
        if kind == "fail":
            value = self._random.choice((0.0, 0.0, *FAILURE_COUNTS))
        return Change(
            kind,
            name,
            0 if kind == "hang" else at,
            value or float(kind == "cut" and at % 2),
        )

    def _draw_delay(self) -> float:
        if "durations" not in self._faults:
            return SHORT_DELAY
        plain = self._plain_duration
        return self._random.choice(
            (SHORT_DELAY, SHORT_DELAY, plain / 8, plain / 2, plain, 2 * plain + 1)
        )
