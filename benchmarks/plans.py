"""The plans: the measurements and their sizes, for everything, for some minutes, for CI, or for a smoke test."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from .rivals import OURS, Rival, all_rivals

FIGURE_SHAPES: Final = ("wide", "chain", "layered", "tree")
ALL_SHAPES: Final = (*FIGURE_SHAPES, "ladder", "random")
LOOPS: Final = ("trio", "asyncio")
SCARCE: Final = ("requests", "tokens")  # of what a server allows so much per minute


@dataclass(frozen=True, slots=True)
class Grid:
    """Every shape with every body in every size and window on every backend."""

    shapes: tuple[str, ...]
    bodies: tuple[str, ...]
    sizes: tuple[int, ...]
    windows: tuple[int | None, ...] = (None,)
    backends: tuple[str, ...] = LOOPS
    rivals: tuple[str, ...] = ()  # empty: the plan's


@dataclass(frozen=True, slots=True)
class ElapsedSize:
    """The part of the workflows' elapsed times that is measured."""

    windows: tuple[int, ...] = (4, 16, 64)  # that are simulated
    simulated: int | None = None  # workflows; None: all that there are
    real: int = 6  # workflows that sleep; of these at most three for what follows
    seconds: float = 1.0  # that each real run takes at least
    largest: int | None = None  # tasks; None: any number
    folder: Path | None = None  # of recorded workflows; None: drawn ones


@dataclass(frozen=True, slots=True)
class Plan:
    """The measurements of one call of the suite."""

    name: str
    cases: tuple[str, ...]
    rounds: int
    few_rounds: int  # for cases whose attempts are long, and therefore steady
    grids: tuple[Grid, ...]
    backends: tuple[str, ...] = (*LOOPS, "threads")
    rivals: tuple[str, ...] = ()  # empty: all
    slow_rivals: bool = True
    elapsed: ElapsedSize = field(default_factory=ElapsedSize)
    small_runs: int = 200  # of one small graph, in one attempt
    sleepers: int = 10_000
    sleep: str = "1 s sleep"
    memory_size: int = 10_000
    growth_sizes: tuple[int, ...] = (100, 1_000, 10_000, 100_000, 1_000_000)
    growth_shapes: tuple[str, ...] = ("wide", "layered")
    growth_rivals: bool = True
    growth_rounds: int = 3
    growth_batch: int = 50_000  # jobs in one attempt: small graphs are run several times, as a short run may be lucky
    cancelled: int = 10_000
    commands: int = 2_000
    nodes: int = 100
    node_commands: int = 500  # on one node
    kept_nodes: int = 20  # whose memory is measured, more than two; 0: none
    grouped: int = 5_000  # jobs in groups of five, with a timeout, and in chains
    waiting_sizes: tuple[int, ...] = (250, 1_000, 4_000, 10_000)
    grouped_sizes: tuple[int, ...] = (30_000, 100_000)  # besides, in groups of five
    key_sizes: tuple[int, ...] = (1_000, 1_000_000)
    scenarios: tuple[str, ...] = ()  # of those that wait; empty: all
    drawn: int = 40  # workflows
    limited_seconds: int = 20  # that requests to a server with limits take
    limited_windows: tuple[int, ...] = (4, 8, 12, 16, 24)
    requests_per_minute: int = 1_200
    scarce: tuple[str, ...] = SCARCE
    conditions: tuple[str, ...] = (
        "",
        "collector off",
        "200 MB heap",
    )  # of sleepers and cancel

    @property
    def loops(self) -> tuple[str, ...]:
        """The backends that are event loops."""
        return tuple(backend for backend in LOOPS if backend in self.backends)

    def contenders(self, backend: str, chosen: tuple[str, ...] = ()) -> list[Rival]:
        """Return the installed rivals on a backend: the chosen ones, or else the plan's; always with trioflow."""
        names = chosen or self.rivals
        return [
            rival
            for rival in all_rivals()
            if rival.backend == backend
            and rival.is_installed
            and (
                rival.name == OURS
                or (
                    rival.name in names if names else self.slow_rivals or not rival.slow
                )
            )
        ]


ELAPSED: Final = "elapsed"
"""The case with a report of its own, which comes first: it is not among the contests."""
NODES: Final = "nodes"
"""The case with other programs that take seconds to start: not among those of the short plans."""

CASES: Final = (
    ELAPSED, "small", "running", "sleepers", "growth", "memory", "cancel", "groups", "windows", "waiting", "keys",
    "makespans", "rates", "adaptive", "commands", NODES,
)  # fmt: skip

FULL: Final = Plan(
    name="full",
    cases=CASES,
    rounds=7,
    few_rounds=3,
    grids=(
        Grid(ALL_SHAPES, ("no-op", "checkpoint"), (10_000,)),
        Grid(("wide", "tree"), ("nap",), (10_000,)),
        Grid(("layered", "random"), ("nap",), (2_000,)),
        Grid(("wide", "layered"), ("no-op", "checkpoint"), (10_000,), (1, 16, 1_000)),
        Grid(("wide", "layered"), ("nap",), (2_000,), (16,)),
        Grid(FIGURE_SHAPES, ("no-op", "1 ms burn"), (1_000,), backends=("threads",)),
    ),
)

QUICK: Final = Plan(
    name="quick",
    cases=(
        ELAPSED,
        "small",
        "running",
        "sleepers",
        "memory",
        "cancel",
        "groups",
        "windows",
        "makespans",
        "commands",
    ),
    rounds=2,
    few_rounds=2,
    grids=(
        Grid(FIGURE_SHAPES, ("no-op", "checkpoint"), (10_000,)),
        Grid(
            FIGURE_SHAPES,
            ("no-op",),
            (1_000,),
            backends=("asyncio",),
            rivals=("asynciojobs",),
        ),
        Grid(("wide", "tree"), ("nap",), (2_000,)),
        Grid(("wide", "layered"), ("no-op", "checkpoint"), (3_000,), (16,)),
    ),
    backends=LOOPS,
    slow_rivals=False,
    elapsed=ElapsedSize(windows=(16,), simulated=6, real=1, seconds=0.3, largest=400),
    memory_size=5_000,
    cancelled=5_000,
    commands=150,
    conditions=("collector off",),
)

PAGES: Final = replace(
    QUICK,
    name="pages",
    cases=(
        ELAPSED, "small", "running", "sleepers", "memory", "windows", "waiting", "rates", "adaptive", "commands", NODES,
    ),
    rounds=5,
    grids=tuple(replace(grid, sizes=(min(3_000, *grid.sizes),)) for grid in QUICK.grids),
    elapsed=ElapsedSize(simulated=16, real=2),
    small_runs=60,
    commands=1_000,
    nodes=40,
    node_commands=200,
    kept_nodes=0,
    waiting_sizes=(250, 10_000),
    grouped_sizes=(),
    scenarios=("different needs",),
    limited_seconds=10,
    limited_windows=(4, 8, 12),
    conditions=("", "collector off"),
)  # fmt: skip

CHECK: Final = Plan(
    name="check",
    cases=("running", "memory", "groups", "windows", "waiting", "keys", "makespans"),
    rounds=3,
    few_rounds=2,
    grids=(
        Grid(("wide", "layered"), ("no-op",), (3_000,)),
        Grid(("wide",), ("checkpoint",), (3_000,)),
        Grid(("wide",), ("no-op",), (3_000,), (16,)),
        Grid(
            ("layered",),
            ("no-op",),
            (1_000,),
            backends=("asyncio",),
            rivals=("asynciojobs",),
        ),
    ),
    backends=LOOPS,
    slow_rivals=False,
    memory_size=1_000,
    grouped=1_000,
    waiting_sizes=(250, 2_000),
    grouped_sizes=(),
    scenarios=("different needs",),
    key_sizes=(300, 2_000),
    drawn=6,
)

TINY_ELAPSED: Final = ElapsedSize(simulated=2, real=1, seconds=0.05, largest=200)
TINY: Final = Plan(
    name="tiny",
    cases=tuple(case for case in CASES if case != NODES),
    rounds=1,
    few_rounds=1,
    grids=(
        Grid(ALL_SHAPES, ("no-op",), (100,)),
        Grid(("layered",), ("checkpoint", "nap", "1 ms burn"), (20,), (None, 16)),
        Grid(("layered",), ("no-op",), (200,), backends=("threads",)),
    ),
    elapsed=TINY_ELAPSED,
    small_runs=2,
    sleepers=10,
    sleep="nap",
    memory_size=100,
    growth_sizes=(100, 1_000),
    growth_rivals=False,
    growth_rounds=1,
    growth_batch=1_000,
    cancelled=100,
    commands=10,
    nodes=3,
    node_commands=10,
    kept_nodes=0,
    grouped=20,
    waiting_sizes=(10, 20),
    grouped_sizes=(30,),
    key_sizes=(10, 20),
    drawn=2,
    limited_seconds=1,
    limited_windows=(4,),
    requests_per_minute=60,
    scarce=("tokens",),
    conditions=("", "collector off"),
)

PLANS: Final = {plan.name: plan for plan in (FULL, QUICK, PAGES, CHECK, TINY)}
