"""`explore`: run a scenario many times, with varying orders, durations and faults.

```
plain runs ──► list of all places ──► a plan ──► ExploredRun.run ──► an invariant is violated? ──► shrunk ──► BrokenRun
                                            ▲             │ no
                                            └─────────────┘ until the number of runs is reached
```

Decided in docs/decisions: 27-exploration.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast, final, get_args

from .. import Scheduler
from .._core.backend import loop_running
from .._core.base._text_forms import is_among, short_repr
from .._core.job._job_options import check_number
from ..abc import BackendName
from ._explored_run import ExploredRun
from ._fault_plans import (
    FAULT_OF_KIND,
    SHORT_DELAY,
    Change,
    Plan,
    PlanGenerator,
    RunOutcome,
    read_plan,
)
from ._judge import MIN_ROUND_WAITS, PLAIN_ROUND_WAITS, ROUND_FACTOR, count_arguments

MAX_SHRINK_RUNS: Final = 500
MAX_FIRST_TASKS: Final = 6
"""The maximum number of jobs that the shrinker tries to resume first in an iteration, and to begin late."""
FAULTS: Final = tuple(dict.fromkeys(FAULT_OF_KIND.values()))
"""The kinds of faults of `explore`: "order", "durations", "timeouts", "failures", "cancellation", "ctrl-c", "crash"."""

NO_WORLD_TEXT: Final = (
    "make_scheduler takes no argument; let it take the world, which outlives a crash"
)
BACKENDS: Final = get_args(BackendName)
RUNS_PER_GC: Final = 50
"""The number of runs between two garbage collections. Automatic collection would take a fifth of the time."""


_IN_PROGRESS: Final = threading.RLock()
"""Held by the exploration in progress. It sets what the whole program shares: trio's order of tasks, and the log."""


class Shrinker:
    """Minimizes a run that violates an invariant: its plan is reduced to as few and as simple changes as possible.

    Changes are left out by delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input",
    IEEE TSE 2002): first half of them, then smaller and smaller parts. A smaller plan is accepted only if its run
    violates the same invariant.

    Args:
        broken: the outcome of the run.
        order_seed: the seed of the order of tasks in its iterations, or None for the usual order.
        run: a function that runs a plan and returns the outcome.

    Attributes:
        smallest: the outcome of the smallest run so far that violates the same invariant.
        run_count: the number of runs that were tried.

    """

    def __init__(
        self,
        broken: RunOutcome,
        order_seed: int | None,
        run: Callable[[Plan], RunOutcome],
    ) -> None:
        self._run_plan: Final = run
        self.smallest = broken
        self.run_count = 0
        self._order_seed: Final = order_seed

    def shrink(self) -> RunOutcome:
        """Return the outcome of the smallest run that was found to violate the same invariant.

        If the plan alone does not reproduce the violated invariant, return the original outcome.
        """
        original = self.smallest
        applied = [
            change
            for change in original.plan.changes
            if change in original.applied_changes
        ]
        order_changes = list[Change]()
        if self._order_seed is not None:
            for iteration in original.task_order.chosen_orders:
                order_changes.append(
                    Change("turn", "", iteration, float(self._order_seed))
                )
        if not self._still_breaks(applied) and not (
            order_changes and self._still_breaks([*order_changes, *applied])
        ):
            return original
        changes = list(self.smallest.plan.changes)
        changes = self._leave_out_parts(changes)
        for index, change in enumerate(changes):
            for simpler in self._simpler_changes(change):
                candidate = [*changes[:index], simpler, *changes[index + 1 :]]
                if self._still_breaks(candidate):
                    changes = candidate
                    break
        self._leave_out_parts(changes)
        return self.smallest

    def _still_breaks(self, changes: Iterable[Change]) -> bool:
        """Run a plan with only these changes, and return whether it violates the same invariant.

        If so, keep its outcome as the smallest. After `MAX_SHRINK_RUNS` runs, return False without a run.
        """
        if self.run_count >= MAX_SHRINK_RUNS:
            return False
        self.run_count += 1
        outcome = self._run_plan(Plan(self.smallest.plan.backend, tuple(changes)))
        if outcome.violated_invariant != self.smallest.violated_invariant:
            return False
        self.smallest = outcome
        return True

    def _leave_out_parts(self, changes: Sequence[Change]) -> list[Change]:
        """Leave out as many changes as possible while the invariant is still violated. Return the remaining changes."""
        remaining = list(changes)
        size = max(1, len(remaining) // 2)
        while remaining:
            for start in range(0, len(remaining), size):
                candidate = remaining[:start] + remaining[start + size :]
                if self._still_breaks(candidate):
                    remaining = candidate
                    size = min(size, max(1, len(remaining)))
                    break
            else:
                if size == 1:
                    break
                size = max(1, size // 2)
        return remaining

    def _simpler_changes(self, change: Change) -> Iterable[Change]:
        if change.kind == "late" and change.value > SHORT_DELAY:
            yield replace(change, value=SHORT_DELAY)
            yield replace(change, value=1.0)
            yield replace(change, value=float(round(change.value) + 1))
        elif change.kind == "fail" and change.value:
            yield replace(change, value=0.0)
            yield replace(change, value=2.0)
        elif change.kind == "rank":
            yield replace(change, value=-1.0)
            yield replace(change, value=1.0)
        elif change.kind == "turn":
            chosen = self.smallest.task_order.chosen_orders.get(change.at, [])
            for name in list(dict.fromkeys(filter(None, chosen)))[:MAX_FIRST_TASKS]:
                yield Change("first", name, change.at)
            for name in list(self.smallest.wait_counts)[:MAX_FIRST_TASKS]:
                yield Change("late", name, 0, SHORT_DELAY)
        elif change.kind in ("stop", "cut") and change.value:
            yield replace(change, value=0.0)


@final
@dataclass(frozen=True, slots=True)
class Exploration:
    """The summary of an exploration that violated no invariant.

    *Provisional*: a minor release may change it.

    Attributes:
        runs: the number of runs.
        seed: the seed for `explore` to repeat these runs.
        tried: the number of runs with each kind of fault. Kinds that did not occur are left out.

    """

    runs: int
    seed: int | str
    tried: dict[str, int]

    def __str__(self) -> str:
        """Return a summary as a line."""
        tried = ", ".join(f"{name} in {count}" for name, count in self.tried.items())
        return f"{self.runs} runs, seed={self.seed!r}, nothing broken: {tried or 'no fault'}"


class BrokenRun(AssertionError):
    """The error of `explore` for a run that has violated an invariant. The text of the error is the story of the run.

    *Provisional*: a minor release may change it.

    Attributes:
        story: the violated invariant, the faults and the events of the run, each on its own line.
        seed: the seed for `explore` to repeat exactly this run.

    """

    def __init__(self, story: str, seed: str) -> None:
        """Create the error with the story of the run and its seed."""
        super().__init__(story)
        self.story: Final = story
        self.seed: Final = seed

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments, so that a pool of processes can run explorations."""
        return type(self), (self.story, self.seed), vars(self)


def explore(
    make_scheduler: Callable[[], Scheduler] | Callable[[dict[Any, Any]], Scheduler],
    *,
    runs: int = 1000,
    seed: int | str | None = None,
    check: Callable[[Scheduler], object]
    | Callable[[Scheduler, dict[Any, Any]], object]
    | None = None,
    faults: Collection[str] = FAULTS,
    backends: Collection[str] = BACKENDS,
) -> Exploration:
    """Run a scenario many times on virtual time, with varying orders and faults, and report the run that breaks it.

    *Provisional*: a minor release may change it.

    The first runs are plain. In the others, tasks resume in other orders. Jobs take longer, fail, time out, or are
    cancelled at any of their waits. The run is interrupted, or the program is killed and started again with its
    journal. After each run these invariants must hold:

    - No job raised an AssertionError, and `check` raised nothing.
    - `make_scheduler` and the run raised nothing, except a KeyboardInterrupt after an injected Ctrl-C.
    - The run ended: it did not stall, and its jobs did not wait again and again forever.
    - No timeout of a scheduler ended a run that would otherwise have stalled, unless a job was made to hang.
    - No job and no asyncio task is still running, and `co_shutdown` of each job was called once.
    - All resources of pools and tokens of limiters have been returned.

    A broken run is repeated with fewer faults, until none can be left out. See `BrokenRun`. Explorations in several
    threads take turns.

    Args:
        make_scheduler: builds a new scenario at each call, in the event loop. If it takes an argument, it gets the
            world: a dict that is new for each run, and survives a crash, like a disk or a bank. Everything else that it
            builds is lost in a crash.
        runs: the number of runs, at least 1.
        seed: a whole number, which repeats all runs, or the `seed` of a `BrokenRun`, a string that repeats that run, or
            None for a random number.
        check: called with the scheduler after each run, in the event loop. It raises an exception, usually by `assert`,
            if an invariant of the scenario is violated, and returns None. The invariant must hold after any faults. For
            example, a cancelled job has no result. If `check` takes two arguments, the second is the world.
        faults: the kinds of faults, from `FAULTS`. Crashes need msgspec, for the journal, and are left out if
            `make_scheduler` takes no world, because then nothing to check survives them.
        backends: the backends to alternate between: "trio", "asyncio" or both.

    Returns:
        A summary of the runs.

    Raises:
        BrokenRun: an invariant was violated.
        TypeError, ValueError: an argument is invalid, or a job works in a thread or a process, which takes real time.
        RuntimeError: an event loop runs in this thread, or this version of trio does not allow repeatable runs.
        Exception: the error of the first call of `make_scheduler`, or the reason why the scenario cannot run at all.

    Example:
        >>> from trioflow.testing import explore
        >>> def slots():
        ...     free = anyio.Semaphore(1)
        ...     async def work():
        ...         await free.acquire()
        ...         await anyio.sleep(1)
        ...         free.release()
        ...     return Scheduler(Job(work, label="a"), Job(work, label="b"))
        >>> try:
        ...     explore(slots, seed=1, faults=["failures"], backends=["trio"])
        ... except AssertionError as broken:
        ...     print(broken.seed)
        trio fail@2:a

    """
    __tracebackhide__ = True
    takes_world = count_arguments(make_scheduler, "make_scheduler", 1) == 1
    if check is not None:
        count_arguments(check, "check", 2)
    runs = check_number(runs, "runs", "explore()", least=1)
    chosen_faults = _choose_names(faults, FAULTS, "faults", "all of them")
    backend_names = _choose_names(backends, BACKENDS, "backends", "both")
    if not chosen_faults:
        raise ValueError(
            "faults=(): choose at least one; for a plain run, give seed='trio' or seed='asyncio'"
        )
    if not backend_names:
        raise ValueError("backends=(): choose one of 'trio' and 'asyncio', or both")
    if not takes_world:
        if chosen_faults == ("crash",):
            raise ValueError(f"faults=('crash',): {NO_WORLD_TEXT}")
        chosen_faults = tuple(fault for fault in chosen_faults if fault != "crash")
    given: Any = seed
    if given is not None and (
        isinstance(given, bool) or not isinstance(given, (int, str))
    ):
        raise TypeError(
            f"seed={short_repr(seed)}: give a whole number, or the text from the story of a broken run"
        )
    if loop_running():
        raise RuntimeError(
            "explore() starts an event loop, but one is already running: call it from synchronous code"
        )
    explorer = _Explorer(make_scheduler, check)
    with _IN_PROGRESS, _suspend_log_and_gc():
        if isinstance(seed, str):
            plan = read_plan(seed)
            if not takes_world and any(
                change.kind == "crash" for change in plan.changes
            ):
                raise ValueError(f"seed={seed!r}: {NO_WORLD_TEXT}")
            return explorer.repeat(plan, seed)
        if seed is None:
            seed = random.randrange(10**6)
        return explorer.explore(runs, seed, chosen_faults, backend_names)


class _Explorer:
    def __init__(
        self, make: Callable[..., Scheduler], check: Callable[..., object] | None
    ) -> None:
        self._make_scheduler: Final = make
        self._check: Final = check
        self._round_size = PLAIN_ROUND_WAITS
        self._fault_counts: Final = Counter[str]()
        self._run_count = 0

    def _run(self, plan: Plan, order_seed: int | None = None) -> RunOutcome:
        self._run_count += 1
        if not self._run_count % RUNS_PER_GC:
            gc.collect()
        outcome = ExploredRun(
            self._make_scheduler, self._check, plan, self._round_size, order_seed
        ).run()
        if self._run_count == 1 and outcome.make_error is not None:
            raise outcome.make_error
        return outcome

    def repeat(self, plan: Plan, seed: str) -> Exploration:
        """Repeat the run of a plan.

        Args:
            plan: the plan.
            seed: the text of the plan, for errors.

        Raises:
            BrokenRun: the run violates an invariant.
            ValueError: a change of the plan does not fit the scenario.

        """
        __tracebackhide__ = True
        outcome = self._run(plan)
        for change in plan.changes:
            if change.name and change.name not in outcome.wait_counts:
                names = ", ".join(map(repr, outcome.wait_counts)) or "none"
                raise ValueError(
                    f"seed={seed!r}: the scenario has no job {change.name!r}; its jobs are {names}"
                )
        if outcome.violated_invariant is not None:
            raise _make_broken_run(outcome, "This run violates an invariant:")
        for change in plan.changes:
            if change not in outcome.applied_changes:
                waits = (
                    f"{change.name!r} waited {outcome.wait_counts[change.name]} times"
                )
                raise ValueError(
                    f"seed={seed!r}: {str(change)!r} could not be applied in this run, in which {waits}: the seed is "
                    f"from another scenario"
                )
        self._count_faults(outcome, None)
        return Exploration(1, seed, dict(self._fault_counts))

    def explore(
        self, runs: int, seed: int, faults: tuple[str, ...], backends: tuple[str, ...]
    ) -> Exploration:
        __tracebackhide__ = True
        generator = PlanGenerator(seed, faults)
        plain_wait_count, plain_duration = 0, 0.0
        for number in range(runs):
            backend = backends[number % len(backends)]
            if number < len(backends):
                plan = Plan(backend)
                order_seed = None
            else:
                if number == len(backends):
                    self._round_size = max(
                        MIN_ROUND_WAITS, ROUND_FACTOR * plain_wait_count
                    )
                    generator.begin(plain_duration)
                plan, order_seed = generator.next_plan(backend)
            try:
                outcome = self._run(plan, order_seed)
            except Exception as error:
                if number:
                    error.add_note(
                        f"This is run {number + 1} of {runs} (seed={seed}) of explore: {plan}"
                    )
                raise
            if outcome.violated_invariant is not None:
                heading = f"Run {number + 1} of {runs} (seed={seed}) violates an invariant. The shortest story of it:"
                raise _make_broken_run(
                    Shrinker(outcome, order_seed, self._run).shrink(), heading
                )
            if number < len(backends):
                plain_wait_count = max(plain_wait_count, outcome.total_wait_count)
                plain_duration = max(plain_duration, outcome.end_time)
            generator.record(outcome)
            self._count_faults(outcome, order_seed)
        fault_counts = {
            fault: self._fault_counts[fault]
            for fault in faults
            if self._fault_counts[fault]
        }
        return Exploration(runs, seed, fault_counts)

    def _count_faults(self, outcome: RunOutcome, order_seed: int | None) -> None:
        applied_faults = {
            FAULT_OF_KIND[change.kind] for change in outcome.applied_changes
        }
        if order_seed is not None:
            applied_faults.add("order")
        self._fault_counts.update(applied_faults)


def _make_broken_run(outcome: RunOutcome, heading: str) -> BrokenRun:
    """Create the error for a run that has violated an invariant.

    Args:
        outcome: the outcome of the run.
        heading: the first line of the story.

    """
    plan = outcome.plan
    lines = [heading, "", f"on {plan.backend}: {outcome.violated_invariant}"]
    for change in plan.changes:
        if change.kind == "rank":
            when = "before" if change.value < 0 else "after"
            lines.append(
                f"{'':10}whenever several can resume, {change.name!r} resumes {when} the others"
            )
        elif change.kind == "first":
            lines.append(
                f"{'':10}in iteration {change.at} of the loop, {change.name!r} resumes before the others"
            )
        elif change.kind == "turn":
            chosen_order = outcome.task_order.chosen_orders.get(change.at, [])
            order = ", ".join(map(repr, filter(None, chosen_order))) or "another one"
            lines.append(
                f"{'':10}in iteration {change.at} of the loop, the order is {order}"
            )
    if not plan.changes:
        lines.append(f"{'':10}no fault was injected into this run")
    lines += [f"  {line}" for line in outcome.event_lines]
    lines += ["", f"To repeat this run: explore(..., seed={str(plan)!r})"]
    broken = BrokenRun("\n".join(lines), str(plan))
    broken.__cause__ = outcome.error
    return broken


@contextlib.contextmanager
def _suspend_log_and_gc() -> Generator[None]:
    """In the body of a `with`, silence the log of intended failures, and disable automatic garbage collection."""
    logger = logging.getLogger("trioflow")
    was_disabled = logger.disabled
    collected_garbage = gc.isenabled()
    logger.disabled = True
    gc.disable()
    try:
        yield
    finally:
        logger.disabled = was_disabled
        if collected_garbage:
            gc.enable()


def _choose_names(
    value: Any, known: tuple[str, ...], name: str, default_text: str
) -> tuple[str, ...]:
    is_collection: bool = isinstance(value, Collection) and not isinstance(value, str)
    if not is_collection:
        raise TypeError(
            f"{name}={short_repr(value)}: give a tuple of names, or omit it for {default_text}"
        )
    for entry in cast("Collection[object]", value):
        if not is_among(entry, known):
            raise ValueError(
                f"{name}=...: unknown name {short_repr(entry)}; choose from {', '.join(map(repr, known))}"
            )
    return tuple(known_name for known_name in known if known_name in value)
