"""The figures: how each is computed from the measurements; and those that CI checks, with their limits."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from .cases.commands import BODIES as COMMANDS
from .cases.groups import BY_HAND
from .cases.groups import SCENARIOS as GROUPED
from .cases.keys import EACH
from .cases.keys import ONE as ONE_KEY
from .cases.limits import ADAPTIVE
from .cases.nodes import MANY, ONE
from .cases.small import GRAPHS, SMALL_BODIES, WAYS
from .cases.waiting import KINDS, SCENARIOS
from .elapsed.ways import BY_LEVELS, PATH
from .measuring import CONDITIONS, Measurement
from .plans import FIGURE_SHAPES, LOOPS, SCARCE
from .rivals import OURS, all_rivals
from .rivals.of_commands import BATCH


class Limit(NamedTuple):
    """The most that a figure may be, and the case whose measurements decide it."""

    case: str
    most: float


LIMITS: Final[dict[tuple[str, str], Limit]] = {
    ("no-op, trio", "wide"): Limit("running", 0.45),
    ("no-op, trio", "layered"): Limit("running", 0.6),
    ("no-op, asyncio", "wide"): Limit("running", 0.5),
    ("checkpoint, trio", "wide"): Limit("running", 0.9),
    ("checkpoint, asyncio", "wide"): Limit("running", 1.15),
    ("window 16, no-op, trio", "wide"): Limit("running", 0.3),
    ("window 16, no-op, asyncio", "wide"): Limit("running", 0.45),
    ("no-op, asynciojobs", "layered"): Limit("running", 0.25),
    ("memory of a waiting job, beside gather of tasks", "asyncio"): Limit(
        "memory", 0.55
    ),
    ("timeout, no-op", "trio"): Limit("groups", 1.2),
    ("chains in a window, checkpoint", "trio"): Limit("windows", 0.9),
    ("a limiter as window, no-op", "trio"): Limit("windows", 0.75),
    ("a limiter as window, no-op", "asyncio"): Limit("windows", 0.75),
    ("different needs: a job of many beside one of few", "trio"): Limit("waiting", 2.5),
    ("memory of many keys beside few", "trio"): Limit("keys", 1.2),
    ("workflows on a virtual clock, beside gather by levels", "asyncio"): Limit(
        "makespans", 0.85
    ),
}
"""Sixteen ratios that hold by a wide margin, on a busy machine too; otherwise `python -m benchmarks --check` fails.

They are CPU time beside the best that is written by hand, medians of both, but for memory, and for the last one, which
is exact.
"""
WITH_LIMITER: Final = ("counters on a nursery", "counters on a TaskGroup")
GATHER: Final = "gather of tasks"
COMMAND_RIVALS: Final = (
    "xargs",
    "xargs -I",
    "create_subprocess_exec",
    "GNU parallel",
    "PyExPool",
)
NODE_RIVALS: Final = {
    ONE: ("xargs over ControlMaster",),
    MANY: ("xargs over ssh", "ControlMaster for each"),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: a ratio to a rival if it has no unit."""

    group: str
    row: str
    column: str
    value: float | None  # None: not measured
    unit: str = ""
    against: str = ""  # the rival it was compared with

    @property
    def limit(self) -> float | None:
        """Return the limit that CI checks; None if it does not."""
        found = LIMITS.get((self.row, self.column))
        return None if found is None else found.most

    @property
    def is_reached(self) -> bool | None:
        """Return whether it is within its limit; None if it has none, or was not measured."""
        return (
            None
            if self.value is None or self.limit is None
            else self.value <= self.limit
        )


class Results:
    """All measurements, and ways to look them up."""

    def __init__(self, measurements: Iterable[Measurement]) -> None:
        self._measurements = list(measurements)

    def find(
        self, case: str, metric: str, name: str | None = None, **setting: Any
    ) -> list[Measurement]:
        """Return the measurements that match; those without special conditions, unless `setting` names some."""
        setting = {"conditions": "", **setting}
        return [
            one
            for one in self._measurements
            if (one.case, one.metric) == (case, metric)
            and name in (None, one.contestant)
            and all(
                getattr(one.setting, key) == value for key, value in setting.items()
            )
        ]

    def best(self, case: str, metric: str, name: str, **setting: Any) -> float | None:
        """Return the best of one contestant, for the largest size if there are several."""
        found = self.find(case, metric, name, **setting)
        size = max((one.setting.size for one in found), default=None)
        return min(
            (one.best for one in found if one.setting.size == size), default=None
        )

    def against_best(
        self, case: str, metric: str, rivals: Iterable[str], **setting: Any
    ) -> tuple[float | None, str]:
        """Return trioflow's value over the best rival's, and its name, for the largest size that rivals ran."""
        names = set(rivals)
        found = [
            one for one in self.find(case, metric, **setting) if one.contestant in names
        ]
        size = max((one.setting.size for one in found), default=None)
        own = self.best(case, metric, OURS, **{**setting, "size": size})
        if own is None:
            return None, ""
        rival = min(
            (one for one in found if one.setting.size == size), key=lambda one: one.best
        )
        return own / rival.best, rival.contestant


def medians(measurements: Iterable[Measurement]) -> list[Measurement]:
    """Return one measurement for each metric of a contestant, with the median of all its samples as the only one.

    Where the speed of the processor changes, one sample in a fast moment decides a best, but not a median.
    """
    alike = dict[Measurement, list[float]]()
    for one in measurements:
        alike.setdefault(replace(one, samples=()), []).extend(one.samples)
    return [
        replace(one, samples=(statistics.median(samples),))
        for one, samples in alike.items()
    ]


def by_hand(backend: str) -> list[str]:
    """Return the rivals that count as the best effort by hand."""
    return [
        rival.name
        for rival in all_rivals()
        if rival.backend == backend and rival.counts and rival.name != OURS
    ]


def figures(results: Results) -> list[Figure]:
    """Return all figures, in the order in which they are shown."""
    return [
        *small(results),
        *running(results),
        *(figure for backend in LOOPS for figure in others(results, backend)),
        makespans(results),
        *commands(results),
        *nodes(results),
        *limits(results),
    ]


def small(results: Results) -> Iterator[Figure]:
    """Yield ratios for small graphs: of CPU time, to run again, and to build and run; and of turns of the loop."""
    for shape in GRAPHS:
        for body in SMALL_BODIES:
            for metric in ("again", "built", "turns"):
                for backend in LOOPS if metric != "turns" else ("asyncio",):
                    rivals = [name for name in WAYS[backend] if name != OURS]
                    setting = {"backend": backend, "shape": shape, "body": body}
                    value, against = results.against_best(
                        "small", metric, rivals, **setting
                    )
                    yield Figure(
                        "small",
                        f"{shape}, {body}, {metric}",
                        backend,
                        value,
                        against=against,
                    )


def running(results: Results) -> Iterator[Figure]:
    """Yield, for each shape, ratios of CPU time: to run, built before or not, in a window; and what a no-op costs."""

    def figure(
        row: str, shape: str, rivals: Iterable[str], metric: str = "run", **setting: Any
    ) -> Figure:
        value, against = results.against_best(
            "running",
            metric,
            rivals,
            **{"shape": shape, "window": None, "body": "no-op", **setting},
        )
        return Figure("running", row, shape, value, against=against)

    for backend in LOOPS:
        rivals = by_hand(backend)
        for shape in FIGURE_SHAPES:
            for body in ("no-op", "checkpoint", "nap"):
                yield figure(
                    f"{body}, {backend}", shape, rivals, backend=backend, body=body
                )
            yield figure(
                f"built and run, {backend}", shape, rivals, "together", backend=backend
            )
            cost = results.best(
                "running",
                "run",
                OURS,
                backend=backend,
                shape=shape,
                body="no-op",
                window=None,
            )
            yield Figure("running", f"no-op, {backend}, in µs", shape, cost, "µs")
        for body in ("no-op", "checkpoint"):
            for shape in ("wide", "layered"):
                row = f"window 16, {body}, {backend}"
                yield figure(
                    row, shape, WITH_LIMITER, backend=backend, body=body, window=16
                )
    for shape in FIGURE_SHAPES:
        yield figure("no-op, asynciojobs", shape, ["asynciojobs"], backend="asyncio")


def others(results: Results, backend: str) -> Iterator[Figure]:
    """Yield the figures that are one number for each backend."""

    def figure(
        row: str, value: float | None, unit: str = "", against: str = ""
    ) -> Figure:
        return Figure("others", row, backend, value, unit, against)

    def ratio(
        row: str, case: str, metric: str, rivals: Iterable[str], **setting: Any
    ) -> Figure:
        value, against = results.against_best(
            case, metric, rivals, backend=backend, **setting
        )
        return figure(row, value, against=against)

    for conditions in CONDITIONS:
        under = f", {conditions}" if conditions else ""
        yield ratio(
            f"all sleep 1 s at once{under}",
            "sleepers",
            "run",
            by_hand(backend),
            conditions=conditions,
        )
    rivals = ["nursery", "TaskGroup", "anyio task group"]
    yield ratio(
        "cancel() of running jobs",
        "cancel",
        "cancel",
        rivals,
        conditions="collector off",
    )
    for case, scenarios in GROUPED.items():
        for name, bodies, _, _ in scenarios:
            for body in bodies:
                yield ratio(
                    f"{name}, {body}",
                    case,
                    "run",
                    [BY_HAND[backend]],
                    shape=name,
                    body=body,
                )
    waiting = [
        results.best("memory", "waiting", OURS, backend=backend, shape=shape)
        for shape in FIGURE_SHAPES
    ]
    yield figure("memory of a waiting job", worst(waiting), "bytes")
    if backend == "asyncio":
        ratios = [
            results.against_best(
                "memory", "waiting", [GATHER], backend=backend, shape=shape
            )[0]
            for shape in FIGURE_SHAPES
        ]
        yield figure(
            "memory of a waiting job, beside gather of tasks",
            worst(ratios),
            against=GATHER,
        )
    yield ratio(KINDS, "waiting", "overhead", [BY_HAND[backend]], shape=KINDS)
    for scenario in SCENARIOS:
        costs = results.find(
            "waiting", "overhead", OURS, backend=backend, shape=scenario
        )
        yield figure(f"{scenario}: a job of many beside one of few", grown(costs))
    each, one_key = (
        results.best("keys", "together", OURS, backend=backend, shape=shape)
        for shape in (EACH, ONE_KEY)
    )
    yield figure(
        "a job with its own key beside one key",
        None if each is None or one_key is None else each / one_key,
    )
    held = results.find("keys", "held", OURS, backend=backend, shape=EACH)
    yield figure("memory of many keys beside few", grown(held))
    shapes = {
        one.setting.shape
        for one in results.find("growth", "run", OURS, backend=backend)
    }
    most = worst(
        grown(results.find("growth", "run", OURS, backend=backend, shape=shape))
        for shape in shapes
    )
    yield figure("no-op: a job of many beside one of few", most)


def worst(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def grown(found: Iterable[Measurement]) -> float | None:
    """Return how much more a job costs at the largest size than at the least."""
    best: dict[int, float] = {}
    for one in found:
        best[one.setting.size] = min(one.best, best.get(one.setting.size, one.best))
    return best[max(best)] / best[min(best)] if len(best) > 1 else None


def makespans(results: Results) -> Figure:
    own, levels = (
        results.best("makespans", "makespan", name) for name in (PATH, BY_LEVELS)
    )
    value = None if own is None or levels is None else own / levels
    row = "workflows on a virtual clock, beside gather by levels"
    return Figure("others", row, "asyncio", value, against=BY_LEVELS)


def beside(
    results: Results,
    case: str,
    rival: str,
    backend: str,
    own: str = OURS,
    **setting: Any,
) -> float | None:
    """Return the time of a command as a fraction of a rival's, which has no backend of ours."""
    theirs = results.best(case, "command wall", rival, **setting)
    ours = results.best(case, "command wall", own, backend=backend, **setting)
    return None if ours is None or theirs is None else ours / theirs


def commands(results: Results) -> Iterator[Figure]:
    for body in COMMANDS:
        for rival in COMMAND_RIVALS:
            for backend in LOOPS:
                value = beside(results, "commands", rival, backend, body=body)
                yield Figure(
                    "commands", f"{body}, {rival}", backend, value, against=rival
                )
            value = beside(results, "commands", rival, "", BATCH, body=body)
            yield Figure("commands", f"{body}, {rival}", "batch", value, against=rival)


def nodes(results: Results) -> Iterator[Figure]:
    for task, rivals in NODE_RIVALS.items():
        for rival in rivals:
            for backend in LOOPS:
                value = beside(results, "nodes", rival, backend, shape=task)
                yield Figure("nodes", f"{task}, {rival}", backend, value, against=rival)


def limits(results: Results) -> Iterator[Figure]:
    for backend in LOOPS:
        for key in SCARCE:
            value = results.best(
                "rates", "limited wall", OURS, backend=backend, shape=f"scarce {key}"
            )
            yield Figure("limits", f"{key} per minute, time", backend, value)
            value = results.best(
                "rates", "refused", OURS, backend=backend, shape=f"scarce {key}"
            )
            yield Figure(
                "limits", f"{key} per minute, refused", backend, value, "requests"
            )
        own = results.best("adaptive", "run wall", ADAPTIVE, backend=backend)
        fixed = [
            one.best
            for one in results.find("adaptive", "run wall", OURS, backend=backend)
        ]
        value = None if own is None or not fixed else own / min(fixed)
        yield Figure(
            "limits",
            "a server whose capacity changes",
            backend,
            value,
            against="best window",
        )
