"""Changes: the differences of a run from the plain run, their notation, and the plans to try.

A plan is a backend and the changes to one run; it determines the run. Its text repeats a run:
``trio late@1:a=3 fail@0:b``. A place is counted within a job: 0 is its beginning, 1 its first wait, "end" the moment in
which it has returned.

The plans to try are every single fault at every place, in random order, interleaved with random plans. Most faults in
concurrent programs need few events to coincide (Burckhardt et al., "A Randomized Scheduler with Probabilistic
Guarantees of Finding Bugs", ASPLOS 2010, which calls their number the depth). So a plan has few changes. Orders are
drawn as in that paper: random ranks for all jobs, which ready tasks obey in each iteration of the loop, and a job that
resumes only after all others are blocked, which is a change of its rank. In addition there is a random order in each
iteration.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, get_args
from urllib.parse import quote, unquote

from ..abc import BackendName

if TYPE_CHECKING:
    from ._explored_run import Outcome


AT_END: Final = -1
SHORT_DELAY: Final = 2.0**-20
"""The delay, in seconds, that lets all other jobs go first: the clock advances only when they are blocked."""

KINDS: Final = {
    "first": "order",  # in iteration `at` of the loop, the task of the job resumes first
    "turn": "order",  # in iteration `at`, the tasks resume in an order that `value` determines
    "rank": "order",  # ready tasks resume by the ranks of their jobs, lower ones first
    "late": "durations",  # the job resumes `value` seconds late
    "hang": "timeouts",  # the job never begins, until it is cancelled
    "fail": "failures",  # the job raises an exception; `value` times, if it reaches this line again
    "cancel": "cancellation",  # `cancel()` of the job
    "stop": "cancellation",  # `cancel()` of its scheduler
    "cut": "cancellation",  # cancellation of a scope around the whole run, or (natively) of the task that awaits it
    "ctrl-c": "ctrl-c",
    "crash": "crash",
}
"""Each kind of change, and its fault in the user's terms."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference from the plain run."""

    kind: str
    name: str = ""  # the path of the job
    at: int = 0
    value: float = 0.0

    def __str__(self) -> str:
        at = "end" if self.at == AT_END else str(self.at)
        value = "=moment" if self.value == SHORT_DELAY else f"={self.value!r}".removesuffix(".0") if self.value else ""
        return f"{self.kind}@{at}:{quote(self.name, safe='/()#,[]')}{value}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A run: its backend, and its changes."""

    backend: str
    changes: tuple[Change, ...] = ()

    def __str__(self) -> str:
        return " ".join([self.backend, *map(str, self.changes)])


def read_plan(text: str) -> Plan:
    """Parse a plan.

    Raises:
        ValueError: the text is not a plan.

    """
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
    if kind not in KINDS or not separator:
        raise ValueError
    change = Change(kind, unquote(name), AT_END if at == "end" else int(at), _seconds(value))
    if not math.isfinite(change.value) or (change.value < 0 and kind != "rank") or (at != "end" and change.at < 0):
        raise ValueError
    return change


def _seconds(value: str) -> float:
    return SHORT_DELAY if value == "moment" else float(value or 0)


FAILURE_COUNTS: Final = (2.0, 3.0)
"""How often a job may fail at one place, besides once: a repeated failure may break a retry."""


class PlanGenerator:
    """A generator of plans for one exploration.

    Args:
        seed: determines all plans.
        faults: the kinds of faults.

    """

    def __init__(self, seed: int, faults: Iterable[str]) -> None:
        self._random: Final = random.Random(seed)
        self._faults: Final = frozenset(faults)
        self._kinds: Final = [kind for kind, fault in KINDS.items() if fault in self._faults - {"order", "durations"}]
        self._steps: Final[dict[str, int]] = {}
        self._limited: Final[set[str]] = set()
        self._retried: Final[set[str]] = set()
        self._span = 1.0
        self._singles: Iterator[Change] = iter(())
        self.places = 0  # the number of single faults

    def record(self, outcome: Outcome) -> None:
        """Record the places of a run."""
        for name, steps in outcome.steps.items():
            self._steps[name] = max(steps, self._steps.get(name, 0))
        self._limited.update(outcome.limited)
        self._retried.update(outcome.retried)

    def begin(self, span: float) -> None:
        """Begin to generate plans, after the plain runs, which took `span` seconds."""
        self._span = span or 1.0
        singles = list(self._single_faults())
        self.places = len(singles)
        self._random.shuffle(singles)
        self._singles = iter(singles)

    def _single_faults(self) -> Iterator[Change]:
        kinds = list(self._kinds)
        if self._faults & {"order", "durations"}:
            kinds.append("late")
        for name, steps in self._steps.items():
            for at in (*range(steps + 1), AT_END):
                for kind in kinds:
                    if self._is_applicable(kind, name, at):
                        for value in self._values(kind, name):
                            yield Change(kind, name, at, value)

    def _values(self, kind: str, name: str) -> tuple[float, ...]:
        if kind == "fail" and name in self._retried:
            return (0.0, *FAILURE_COUNTS)
        return (SHORT_DELAY if kind == "late" else 0.0,)

    def _is_applicable(self, kind: str, name: str, at: int) -> bool:
        if kind == "hang":
            return at == 0 and name in self._limited
        return at != AT_END or kind in ("fail", "crash")

    def plan(self, backend: str) -> tuple[Plan, int | None]:
        """Return a plan, and a seed for the order in each iteration, or None."""
        draw = self._random
        single = next(self._singles, None) if draw.random() < 0.5 else None
        if single is not None:
            return Plan(backend, (single,)), self._every() if draw.random() < 0.5 else None
        names = list(self._steps)
        changes: dict[tuple[str, str, int], Change] = {}
        kind = name = ""
        for _ in range(draw.choice((0, 1, 1, 2, 2, 3))) if self._kinds and names else ():
            if not changes or draw.random() < 0.5:  # else the same kind for the same job again
                kind, name = draw.choice(self._kinds), draw.choice(names)
            change = self._change(kind, name)
            if self._is_applicable(change.kind, change.name, change.at):
                changes.setdefault((change.kind, change.name, change.at), change)
        every = None
        how = draw.random()
        if "order" in self._faults and names:
            if how < 0.4:
                every = self._every()
            elif how < 0.6:
                ranks = list(range(1, len(names) + 1))
                draw.shuffle(ranks)
                for name, rank in zip(names, ranks, strict=True):
                    changes["rank", name, 0] = Change("rank", name, 0, rank)
        for _ in range(draw.choice((0, 1, 2, 3))) if self._faults & {"order", "durations"} and names else ():
            change = self._change("late", draw.choice(names), self._seconds())
            if change.at != AT_END:
                changes["late", change.name, change.at] = change
        return Plan(backend, tuple(changes.values())), every

    def _every(self) -> int | None:
        return self._random.getrandbits(32) if "order" in self._faults else None

    def _change(self, kind: str, name: str, value: float = 0.0) -> Change:
        at = self._random.randint(-1, self._steps[name])
        if kind == "fail":
            value = self._random.choice((0.0, 0.0, *FAILURE_COUNTS))
        return Change(kind, name, 0 if kind == "hang" else at, value or float(kind == "cut" and at % 2))

    def _seconds(self) -> float:
        if "durations" not in self._faults:
            return SHORT_DELAY
        return self._random.choice(
            (SHORT_DELAY, SHORT_DELAY, self._span / 8, self._span / 2, self._span, 2 * self._span + 1)
        )
