"""The figures to reach: how each is computed, its limit, and whether the measurements reach it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from .cases.commands import CAPTURED, PLAIN
from .cases.delays import BY_HAND
from .cases.features import BY_HAND as FEATURE_BY_HAND
from .cases.features import ORDER_ALONE, PROGRAMS
from .cases.importing import NEEDED, WITH_OURS
from .cases.limits import ADAPTIVE
from .cases.nodes import MANY, ONE
from .cases.ordering import RANKED
from .cases.running import INSTRUMENTED
from .cases.waiting import SCENARIOS
from .measuring import CONDITIONS, Measurement
from .plans import FIGURE_SHAPES, LOOPS, SCARCE
from .rivals import OURS, all_rivals

RUN_LIMITS: Final[dict[str, dict[str, tuple[float, float]]]] = {
    "no-op": {"wide": (0.2, 0.2), "chain": (0.2, 0.2), "layered": (0.35, 0.35), "tree": (0.2, 0.2)},
    "checkpoint": {"wide": (0.45, 0.45), "chain": (0.5, 0.5), "layered": (0.8, 0.95), "tree": (0.45, 0.45)},
    "nap": {"wide": (1.1, 1.15), "layered": (1.1, 1.15), "tree": (1.1, 1.15)},
}
"""CPU time to run, as a fraction of the best rival's on the same backend: on trio, on asyncio."""

TOGETHER_LIMITS: Final[dict[str, tuple[float, float]]] = {
    "wide": (0.7, 0.7),
    "chain": (0.7, 0.7),
    "layered": (0.8, 1.0),
    "tree": (0.7, 0.7),
}
"""CPU time to build and to run no-op jobs, likewise."""
WINDOW_LIMIT: Final = 0.3
SLEEPERS_LIMITS: Final = {"trio": 1.2, "asyncio": 1.5}
WAITING_LIMIT: Final = 450.0  # bytes a job
GATHER_LIMIT: Final = 0.5
GROWTH_LIMIT: Final = 1.5
WAITING_GROWTH_LIMIT: Final = 1.3
ASYNCIOJOBS_LIMIT: Final = 1 / 20
CANCEL_LIMITS: Final = {"trio": 1.0, "asyncio": 1.2}
"""With the collector off: one pause of it decides this figure."""
IMPORT_LIMIT: Final = 40.0  # ms
DELAY_LIMIT: Final = 5.0  # ms
INSTRUMENT_LIMIT: Final = 0.5  # µs a job
RANKED_LIMIT: Final = 1.5  # µs a job
SIMULATE_LIMIT: Final = 2.0  # s, for 10,000 jobs
RATE_LIMIT: Final = 1 / 0.95  # of the least time that a server with a rate allows
ADAPTIVE_LIMIT: Final = 1 / 0.9  # of the time with the best fixed window

FEATURE_LIMITS: Final[dict[tuple[str, str], tuple[float, float]]] = {
    ("timeout", "nap"): (1.0, 1.0),
    ("groups of five", "no-op"): (1.0, 1.0),
    ("groups of five", "checkpoint"): (1.5, 2.0),
    ("threads", "no-op in a thread"): (1.1, 1.1),
    **{(f"requests, {window} at once", means): (1.05, 1.05) for window in (16, 64, 200) for means in PROGRAMS},
}
"""CPU time to run, as a fraction of what is written by hand: on trio, on asyncio."""

TIMEOUT_LIMIT: Final = 4.0  # µs, a job that does nothing
DATA_EDGE_LIMIT: Final = 1.0  # µs, more than an edge of order alone
BACKGROUND_LIMIT: Final = 15.0  # µs a job

COMMAND_LIMITS: Final = {
    (PLAIN, "xargs"): 0.9,
    (PLAIN, "xargs -I"): 0.9,
    (PLAIN, "create_subprocess_exec"): 0.8,
    (PLAIN, "GNU parallel"): 1 / 3,
    (PLAIN, "PyExPool"): 0.1,
    (CAPTURED, "xargs"): 1.3,
}
"""Time from the start of the first command to the end of the last, as a fraction of the rival's."""

ELSEWHERE_LIMITS: Final = {
    ("nodes", ONE, "command wall", "xargs over ControlMaster"): 0.5,
    ("nodes", MANY, "command wall", "xargs over ssh"): 1.2,
    ("nodes", MANY, "command wall", "ControlMaster for each"): 1.05,
    ("cluster", "", "run wall", "client.map"): 1.3,
}
"""The same for commands on nodes, with their connections, and for calls on a Dask cluster."""

WITH_LIMITER: Final = ("counters on a nursery", "counters on a TaskGroup")
GATHER: Final = "gather of tasks"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure to reach."""

    group: str
    row: str
    column: str
    limit: float
    value: float | None  # None: not measured
    unit: str = ""  # empty: a ratio
    against: str = ""  # the rival it was compared with

    @property
    def is_reached(self) -> bool | None:
        return None if self.value is None else self.value <= self.limit

    @property
    def shortfall(self) -> float:
        """How far the value lies beyond the limit, as a fraction of the limit."""
        if self.value is None:
            return 0.0
        return max(0.0, self.value / self.limit - 1 if self.limit else self.value)


class Results:
    """All measurements, and ways to look them up."""

    def __init__(self, measurements: Iterable[Measurement]) -> None:
        self._measurements = list(measurements)

    def find(self, case: str, metric: str, name: str | None = None, **setting: Any) -> list[Measurement]:
        """Return the measurements that fit; those under no special conditions, unless `setting` names some."""
        setting = {"conditions": "", **setting}
        return [
            one
            for one in self._measurements
            if (one.case, one.metric) == (case, metric)
            and name in (None, one.contestant)
            and all(getattr(one.setting, key) == value for key, value in setting.items())
        ]

    def best(self, case: str, metric: str, name: str, **setting: Any) -> float | None:
        """Return the best of one contestant, for the largest size if there are several."""
        found = self.find(case, metric, name, **setting)
        return max(found, key=lambda one: one.setting.size).best if found else None

    def against_best(self, case: str, metric: str, rivals: Iterable[str], **setting: Any) -> tuple[float | None, str]:
        """Return ours as a fraction of the best rival's, and its name, for the largest size that rivals ran."""
        names = set(rivals)
        found = [one for one in self.find(case, metric, **setting) if one.contestant in names]
        size = max((one.setting.size for one in found), default=None)
        own = self.best(case, metric, OURS, **{**setting, "size": size})
        if own is None:
            return None, ""
        rival = min((one for one in found if one.setting.size == size), key=lambda one: one.best)
        return own / rival.best, rival.contestant


def by_hand(backend: str) -> list[str]:
    """Return the rivals that count as somebody's best effort."""
    return [rival.name for rival in all_rivals() if rival.backend == backend and rival.counts and rival.name != OURS]


def figures(results: Results) -> list[Figure]:
    """Return all figures to reach, in the order in which they are shown."""
    return [
        *running(results),
        *together(results),
        *window(results),
        *asynciojobs(results),
        *(figure for backend in reversed(LOOPS) for figure in others(results, backend)),
        importing(results),
        simulating(results),
        *features(results),
        *commands(results),
        *elsewhere(results),
        *limits(results),
    ]


def running(results: Results) -> Iterator[Figure]:
    for body, limits in RUN_LIMITS.items():
        for number, backend in enumerate(LOOPS):
            for shape, both in limits.items():
                value, against = results.against_best(
                    "running", "run", by_hand(backend), backend=backend, body=body, shape=shape, window=None
                )
                yield Figure("running", f"{body}, {backend}", shape, both[number], value, against=against)


def together(results: Results) -> Iterator[Figure]:
    for number, backend in enumerate(LOOPS):
        for shape, limits in TOGETHER_LIMITS.items():
            value, against = results.against_best(
                "running", "together", by_hand(backend), backend=backend, body="no-op", shape=shape, window=None
            )
            yield Figure("running", f"built and run, {backend}", shape, limits[number], value, against=against)


def window(results: Results) -> Iterator[Figure]:
    for body in ("no-op", "checkpoint"):
        for backend in LOOPS:
            for shape in ("wide", "layered"):
                value, against = results.against_best(
                    "running", "run", WITH_LIMITER, backend=backend, body=body, shape=shape, window=16
                )
                yield Figure("running", f"window 16, {body}, {backend}", shape, WINDOW_LIMIT, value, against=against)


def asynciojobs(results: Results) -> Iterator[Figure]:
    for shape in FIGURE_SHAPES:
        value, against = results.against_best(
            "running", "run", ["asynciojobs"], backend="asyncio", body="no-op", shape=shape, window=None
        )
        yield Figure("running", "no-op, asynciojobs", shape, ASYNCIOJOBS_LIMIT, value, against=against)


def others(results: Results, backend: str) -> Iterator[Figure]:
    """Yield the figures that are one number for each backend."""

    def figure(row: str, limit: float, value: float | None, unit: str = "", against: str = "") -> Figure:
        return Figure("others", row, backend, limit, value, unit, against)

    for conditions in CONDITIONS:
        under = f", {conditions}" if conditions else ""
        value, against = results.against_best(
            "sleepers", "run", by_hand(backend), backend=backend, conditions=conditions
        )
        yield figure(f"all sleep 1 s at once, CPU{under}", SLEEPERS_LIMITS[backend], value, against=against)

    waiting = [results.best("memory", "waiting", OURS, backend=backend, shape=shape) for shape in FIGURE_SHAPES]
    yield figure("memory of a waiting job", WAITING_LIMIT, worst(waiting), "bytes")

    if backend == "asyncio":
        ratios = [
            results.against_best("memory", "waiting", [GATHER], backend=backend, shape=shape)[0]
            for shape in FIGURE_SHAPES
        ]
        yield figure("its ratio to gather of tasks", GATHER_LIMIT, worst(ratios), against=GATHER)

    yield figure("a job of 1,000,000 against one of 10,000", GROWTH_LIMIT, growth(results, backend))

    for scenario in SCENARIOS:
        costs = sorted(
            (one.setting.size, one.best)
            for one in results.find("waiting", "overhead", OURS, backend=backend, shape=scenario)
        )
        value = None if len(costs) < 2 else costs[-1][1] / costs[0][1]
        against = "" if value is None else f"{costs[-1][0]} jobs against {costs[0][0]}"
        yield figure(f"{scenario}: a job of many against one of few", WAITING_GROWTH_LIMIT, value, against=against)

    value, against = results.against_best(
        "cancel",
        "cancel",
        ["nursery", "TaskGroup", "anyio task group"],
        backend=backend,
        conditions="collector off",
    )
    yield figure("cancel() of running jobs, CPU, collector off", CANCEL_LIMITS[backend], value, against=against)

    for body in ("no-op", "20 µs burn"):
        delay = results.best("ticker", "delay p99", OURS, backend=backend, body=body)
        reference = worst([results.best("ticker", "delay p99", name, backend=backend, body=body) for name in BY_HAND])
        against = "" if reference is None else f"by hand: {reference:.2f} ms"
        yield figure(f"p99 of a ticker's delay, {body}", DELAY_LIMIT, delay, "ms", against)

    added = [added_by("instrument", INSTRUMENTED, results, backend, shape) for shape in FIGURE_SHAPES]
    yield figure("an instrument with empty hooks adds", INSTRUMENT_LIMIT, worst(added), "µs")
    for policy, name in RANKED.items():
        added = [added_by("order", name, results, backend, shape) for shape in FIGURE_SHAPES]
        yield figure(f"policy {policy} adds", RANKED_LIMIT, worst(added), "µs")


def worst(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def growth(results: Results, backend: str) -> float | None:
    """Return how much more a job costs in a graph of a million than in one of ten thousand, for the worst shape."""
    grown = []
    for shape in {one.setting.shape for one in results.find("growth", "run", OURS, backend=backend)}:
        small = results.best("growth", "run", OURS, backend=backend, shape=shape, size=10_000)
        large = results.best("growth", "run", OURS, backend=backend, shape=shape, size=1_000_000)
        if small and large:
            grown.append(large / small)
    return worst(grown)


def added_by(case: str, name: str, results: Results, backend: str, shape: str) -> float | None:
    """Return how much longer a job takes to run with something than without."""
    plain = results.best(case, "run", OURS, backend=backend, shape=shape)
    added = results.best(case, "run", name, backend=backend, shape=shape)
    return None if plain is None or added is None else added - plain


def simulating(results: Results) -> Figure:
    value = worst(results.best("simulate", "simulate", OURS, shape=shape) for shape in FIGURE_SHAPES)
    return Figure("others", "simulate() 10,000 jobs", "either", SIMULATE_LIMIT, value, "s")


def importing(results: Results) -> Figure:
    needed = results.best("import", "import", NEEDED)
    total = results.best("import", "import", WITH_OURS)
    value = None if needed is None or total is None else total - needed
    return Figure("others", "import, over trio and anyio", "either", IMPORT_LIMIT, value, "ms")


def features(results: Results) -> Iterator[Figure]:
    for (feature, body), limits in FEATURE_LIMITS.items():
        for number, backend in enumerate(LOOPS):
            rival = FEATURE_BY_HAND[backend]
            value, _ = results.against_best("features", "run", [rival], backend=backend, shape=feature, body=body)
            yield Figure("features", f"{feature}, {body}", backend, limits[number], value, against=rival)

    def cost(name: str, backend: str, feature: str) -> float | None:
        return results.best("features", "run", name, backend=backend, shape=feature, body="no-op")

    for backend in LOOPS:
        yield Figure("features", "a timeout, no-op", backend, TIMEOUT_LIMIT, cost(OURS, backend, "timeout"), "µs")
        data, order = cost(OURS, backend, "pairs"), cost(ORDER_ALONE, backend, "pairs")
        # One edge for two jobs.
        edge = None if data is None or order is None else 2 * (data - order)
        yield Figure("features", "an edge with data, over one without", backend, DATA_EDGE_LIMIT, edge, "µs")
        background = cost(OURS, backend, "background jobs")
        yield Figure("features", "a background job", backend, BACKGROUND_LIMIT, background, "µs")


def commands(results: Results) -> Iterator[Figure]:
    for (body, rival), limit in COMMAND_LIMITS.items():
        theirs = results.best("commands", "command wall", rival, body=body)
        for backend in LOOPS:
            own = results.best("commands", "command wall", OURS, body=body, backend=backend)
            value = None if own is None or theirs is None else own / theirs
            yield Figure("commands", f"{body}, {rival}", backend, limit, value, against=rival)


def elsewhere(results: Results) -> Iterator[Figure]:
    for (case, task, metric, rival), limit in ELSEWHERE_LIMITS.items():
        theirs = results.best(case, metric, rival, shape=task)
        for backend in LOOPS:
            own = results.best(case, metric, OURS, shape=task, backend=backend)
            value = None if own is None or theirs is None else own / theirs
            yield Figure("elsewhere", task or "calls on a Dask cluster", backend, limit, value, against=rival)


def limits(results: Results) -> Iterator[Figure]:
    for backend in LOOPS:
        for key in SCARCE:
            value = results.best("rates", "limited wall", OURS, backend=backend, shape=f"scarce {key}")
            yield Figure("limits", f"{key} per minute, time", backend, RATE_LIMIT, value)
            value = results.best("rates", "refused", OURS, backend=backend, shape=f"scarce {key}")
            yield Figure("limits", f"{key} per minute, refused", backend, 0, value, "requests")
        own = results.best("adaptive", "run wall", ADAPTIVE, backend=backend)
        fixed = [one.best for one in results.find("adaptive", "run wall", OURS, backend=backend)]
        value = None if own is None or not fixed else own / min(fixed)
        yield Figure("limits", "a server whose capacity changes", backend, ADAPTIVE_LIMIT, value, against="best window")
