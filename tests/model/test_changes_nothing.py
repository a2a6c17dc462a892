"""What changes no outcome: other labels, watchers, another run, a job that does nothing, a scheduler around it all."""

import contextlib
import functools
import io
import itertools
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from typing import Any
import anyio
import pytest
from trioflow import (
    AbstractJob,
    CycleError,
    Job,
    MissingRequirement,
    Monitor,
    Pool,
    Scheduler,
    Service,
    Throttled,
    Trace,
    current_job,
    ref,
    simulate,
)
from trioflow.abc import Instrument
from trioflow.graph import (
    entry_jobs,
    exit_jobs,
    predecessors,
    successors,
    topological_order,
)
from trioflow.view import listing
from ..bodies import alarm, bad, nap, nothing, serve
from ..conftest import Virtual
from ..transitions import WRITERS, CheckedState
from .generator import scenario_of
from .model import Fate, predict
from .real import observe
from .scenario import LAST_CALL, Group, Leaf, Scenario, endless, walk
from .shrink import found_in
from .steps import Give, Nap

LATE = LAST_CALL * 0.8
"""What ends later has been cut."""
ANSWERED_AT = (LATE / 4, LATE / 2)
"""When a person looks for what asks: after all else, and for what is asked again."""


class Actor(Instrument):
    """Hooks that act on a run at random: they cancel, drain, add jobs, and raise."""

    def __init__(self, seed: object, chance: float) -> None:
        self._random = random.Random(repr(seed))
        self._chance = chance
        self.acts: list[str] = []  # the names of the acts, in their order

    def _act(self, scheduler: Scheduler, job: Any = None) -> None:
        if self._random.random() > self._chance:
            return
        root: Any = scheduler
        while root.scheduler is not None:
            root = root.scheduler
        jobs: list[Any] = list(root.iterate_jobs())
        schedulers = [root, *(each for each in jobs if isinstance(each, Scheduler))]
        what = self._random.choice(
            ("cancel", "cancel this", "try again", "drain", "add", "end", "raise")
        )
        self.acts.append(what)
        with contextlib.suppress(RuntimeError):  # it comes too late
            match what:
                case "cancel":
                    self._random.choice(jobs).cancel()
                case "cancel this":
                    (scheduler if job is None else job).cancel()
                case "try again":
                    self._random.choice([root, *jobs]).try_again()
                case "drain":
                    self._random.choice(schedulers).drain()
                case "add":
                    scheduler.add(Job(nap, 0.25))
                case "end":
                    root.cancel()
                case _:
                    raise ValueError("of a hook")

    before_run = after_run = job_added = job_scheduled = job_started = job_attempt = (
        service_ready
    ) = job_settled = _act


class _Faults(logging.Handler):
    """Collects the log records that only a fault of the engine brings about."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "fault of trioflow" in text or "Traceback" in text:
            self.texts.append(text)


def faults_in(scenario: Scenario, backend: str, seed: object) -> Iterator[str]:
    """Run a scenario with hooks that act; yield what must not be, whatever they do."""
    # A hook may end the job that would give an answer: in the end, a person gives it, also in a drained run.
    questions = [
        plan.name
        for plan in walk(scenario.root)
        if isinstance(plan, Leaf) and plan.answer
    ]
    answers: Any = itertools.product(ANSWERED_AT, map(Give, questions))
    scenario = replace(
        scenario, killed_at=None, keep_jobs=True, steers=(*scenario.steers, *answers)
    )
    actor = Actor(seed, random.Random(repr(seed)).choice((0.02, 0.1, 0.3)))
    logger = logging.getLogger("trioflow")
    handler = _Faults()
    logger.addHandler(handler)
    try:
        (seen,) = observe(scenario, backend, 1, actor)
    finally:
        logger.removeHandler(handler)
    yield from handler.texts
    yield from (doubt for doubt in seen.doubts if "left" in doubt)
    if sleeps_forever(scenario):
        # A hook may have cancelled the job that would end it.
        return
    if seen.ended_at > LATE and observe(scenario, backend)[0].ended_at < LATE:
        yield f"it does not end, after {actor.acts}"


def sleeps_forever(scenario: Scenario) -> bool:
    leaves = [plan for plan in walk(scenario.root) if isinstance(plan, Leaf)]
    bodies = itertools.chain.from_iterable(leaf.bodies for leaf in leaves)
    return any(map(endless, bodies))


SEEDS = range(4)
# The next run finds these changed.
SIMPLE = (
    "outside",
    "cut",
    "drain",
    "journal",
    "answer",
    "await",
    "budget",
    "rate",
)


@functools.cache
def exact_scenarios(backend: str) -> list[Scenario]:
    scenarios = [
        replace(scenario_of(("the same", seed), SIMPLE), keep_jobs=True, apart=False)
        for seed in SEEDS
    ]
    return [scenario for scenario in scenarios if not predict(scenario, backend).doubts]


def fates(
    scenario: Scenario, backend: str, *instruments: object, **options: str
) -> dict[str, Fate]:
    """Return what becomes of the jobs, without the outermost scheduler."""
    [seen] = observe(scenario, backend, 1, *instruments, **options)  # type: ignore[arg-type]
    return {name: fate for name, fate in seen.fates.items() if name != "root"}


def test_other_labels_change_nothing(backend: str) -> None:
    for scenario in exact_scenarios(backend):
        (one,) = observe(scenario, backend)
        (other,) = observe(scenario, backend, labels="{} again")
        assert one.started == other.started
        assert [replace(fate, cause=None) for fate in one.fates.values()] == [
            replace(fate, cause=None) for fate in other.fates.values()
        ]


def test_watchers_change_nothing(backend: str) -> None:
    for scenario in exact_scenarios(backend):
        assert fates(scenario, backend) == fates(
            scenario, backend, Trace(), Monitor(file=StringIO())
        )


def test_a_second_run_ends_as_the_first(backend: str) -> None:
    for scenario in exact_scenarios(backend):
        first, second = observe(scenario, backend, 2)
        if not second.bound:
            assert first.started == second.started
            assert [fate.state for fate in first.fates.values()] == [
                fate.state for fate in second.fates.values()
            ]


def reordered(plan: Any) -> Any:
    """Return a plan whose requirements, needs and resources are named in the opposite order."""
    lists = ["requires", "settled", "needs"]
    if isinstance(plan, Group):
        lists.append("pool")
        plan = replace(plan, jobs=tuple(map(reordered, plan.jobs)))
    return replace(plan, **{name: getattr(plan, name)[::-1] for name in lists})


def test_the_order_of_requirements_and_needs_changes_nothing(backend: str) -> None:
    for scenario in exact_scenarios(backend):
        assert fates(scenario, backend) == fates(
            replace(scenario, root=reordered(scenario.root)), backend
        )


def test_an_open_scheduler_that_keeps_no_jobs_ends_as_a_run(backend: str) -> None:
    """It has the body of its block, with which forever jobs end, also where a run has no other job and goes on."""
    for scenario in exact_scenarios(backend):
        if all(job.forever for job in scenario.root.jobs):
            continue
        kept = fates(scenario, backend)
        dropped = fates(replace(scenario, keep_jobs=False), backend)
        assert kept == {
            name: replace(fate, shutdowns=kept[name].shutdowns)
            for name, fate in dropped.items()
        }


@pytest.mark.parametrize("change", ["idler", "around"])
def test_more_around_it_changes_nothing(change: str, backend: str) -> None:
    for scenario in exact_scenarios(backend):
        root = scenario.root
        if (
            root.critical_jobs is not None
            or root.timeout is not None
            or root.idle_timeout is not None
        ):
            continue
        idler = Leaf(name="idler", forever=True, bodies=((Nap(4000.0),),))
        if change == "idler":
            changed = replace(root, jobs=(*root.jobs, idler), backwards=False)
            plain = replace(root, backwards=False)
        else:
            changed = Group(name="around", jobs=(replace(root, name="root"),))
            plain = root
        one = fates(replace(scenario, root=plain), backend)
        other = fates(replace(scenario, root=changed), backend)
        assert {name: other[name] for name in one} == one


# --- Hooks of instruments may do what they like: the run ends, and nothing is left behind
PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_hooks_that_act_leave_nothing_behind(part: int, backend: str) -> None:
    """Hooks cancel, drain, add and raise at random: each job settles, limits are free, and no run stands still."""
    for number in range(part, 12, PARTS):
        scenario = scenario_of(("acting", number), varied=number % 2 == 0)
        assert ([*faults_in(scenario, backend, number)], number) == ([], number)


@pytest.mark.soak
def test_hooks_that_act_leave_nothing_behind_in_many_scenarios(backend: str) -> None:
    for number in range(1000):
        scenario = scenario_of(("many acting", number), varied=number % 2 == 0)
        assert ([*faults_in(scenario, backend, number)], number) == ([], number)


# --- To look at a scenario or a run changes nothing, and what a check has found, it finds again
LOOKS: dict[str, Callable[[Scheduler], Any]] = {
    "is_runnable": Scheduler.is_runnable,
    "topological_order": topological_order,
    "entry_jobs": entry_jobs,
    "exit_jobs": exit_jobs,
    "predecessors": lambda scheduler: [
        list(predecessors(scheduler, job)) for job in scheduler
    ],
    "successors": lambda scheduler: [
        list(successors(scheduler, job)) for job in scheduler
    ],
    "listing": lambda scheduler: listing(scheduler, details=True),
    "graph": lambda scheduler: scheduler.graph().source,
    "explain": lambda scheduler: [
        scheduler.explain(job) for job in scheduler.iterate_jobs()
    ],
    "results": Scheduler.results,
    "failures": Scheduler.failures,
    "window_size": lambda scheduler: scheduler.window_size,
    "debrief": lambda scheduler: debriefed(scheduler),
    "simulate": lambda scheduler: simulate(scheduler).makespan,
    "paths": lambda scheduler: [job.path for job in scheduler.iterate_jobs()],
    "repr": lambda scheduler: [repr(scheduler), *map(repr, scheduler.iterate_jobs())],
}
"""All that looks at a scheduler, by name."""


def debriefed(scheduler: Scheduler) -> str:
    text = io.StringIO()
    scheduler.debrief(file=text, listing=True)
    return text.getvalue()


def look(scheduler: Scheduler, name: str) -> Any:
    """Return what one look shows, or the error that it raises."""
    try:
        return LOOKS[name](scheduler)
    except Exception as error:
        return type(error), str(error)


def look_twice(scheduler: Scheduler) -> None:
    """Look at a scheduler in each way, twice in a row; the second look shows the same."""
    for name in LOOKS:
        look_twice_at(scheduler, name)


class Looker(Instrument):
    """Looks at the running scheduler, once in each way, and at its end twice in all ways."""

    def __init__(self) -> None:
        self.root: Any = None
        self.names: Iterator[str] = iter(LOOKS)

    def look(self, scheduler: Scheduler, *_: Any) -> None:
        self.root = self.root or scheduler
        name = next(self.names, None)
        if name is None:
            self.names = iter(LOOKS)
        else:
            look_twice_at(self.root, name)

    before_run = job_scheduled = job_started = service_ready = job_settled = (
        job_added
    ) = look

    def after_run(self, scheduler: Scheduler) -> None:
        if scheduler is self.root:
            look_twice(scheduler)


def look_twice_at(scheduler: Scheduler, name: str) -> None:
    assert look(scheduler, name) == look(scheduler, name), name


def test_looking_at_a_scenario_or_a_run_changes_nothing(backend: str) -> None:
    """A random scenario runs as predicted if it is looked at in every way, twice in a row, again and again."""
    for seed in range(3):
        scenario = scenario_of(("looked at", seed))
        assert (found_in(scenario, backend, Looker())[1], seed) == ([], seed), scenario


# ---- scenarios that cannot run
def cycle() -> tuple[Scheduler, Callable[[], Any]]:
    a = Job(nap, label="a")
    b = Job(nap, label="b")
    a.requires(b)
    b.requires(a)
    return Scheduler(a, b), lambda: b.requires(a, remove=True)


def nested_cycle() -> tuple[Scheduler, Callable[[], Any]]:
    inner, repair = cycle()
    return Scheduler(Job(nap), Scheduler(inner), Scheduler(Job(nap))), repair


def cycle_through_inputs() -> tuple[Scheduler, Callable[[], Any]]:
    first = Job(nap, label="first")
    second = Job(nap, label="second")
    right = Scheduler(second, label="right")
    left = Scheduler(first, Job(nap, 0, second), label="left")
    scheduler = Scheduler(left, right)
    right.requires(left)
    return scheduler, lambda: right.requires(left, remove=True)


def missing_requirement() -> tuple[Scheduler, Callable[[], Any]]:
    scheduler = Scheduler(Job(nap, required=Job(nap, label="elsewhere")), Job(nap))
    return scheduler, scheduler.sanitize


def forever_requirement() -> tuple[Scheduler, Callable[[], Any]]:
    endless = Job(anyio.sleep_forever, forever=True, label="endless")
    user = Job(nap, required=endless)
    return Scheduler(user, endless), lambda: user.requires(endless, remove=True)


def requirement_that_becomes_forever() -> tuple[Scheduler, Callable[[], Any]]:
    first = Job(nap, label="first")
    scheduler = Scheduler(first, Job(nap, required=first))
    assert scheduler.is_runnable()
    first.forever = True
    return scheduler, lambda: setattr(first, "forever", False)


def need_without_a_pool() -> tuple[Scheduler, Callable[[], Any]]:
    job = Job(nap, needs={"gpu": 1})
    return Scheduler(job), lambda: setattr(job, "needs", None)


def need_that_services_leave_too_little_for() -> tuple[Scheduler, Callable[[], Any]]:
    job = Job(nap, needs={"gpu": 2})
    service = Service(serve, needs={"gpu": 1})
    return Scheduler(job, service, pool=Pool(gpu=2)), lambda: setattr(
        job, "needs", {"gpu": 1}
    )


def spent_coroutine() -> tuple[Scheduler, Callable[[], Any]]:
    spent = Job(nap(0), label="spent")
    Scheduler(spent).run()
    assert spent.scheduler is not None
    spent.scheduler.remove(spent)
    scheduler = Scheduler(spent, Job(nap))
    return scheduler, lambda: scheduler.remove(spent)


DEFECTS = (
    cycle, nested_cycle, cycle_through_inputs, missing_requirement, forever_requirement,
    requirement_that_becomes_forever, need_without_a_pool, need_that_services_leave_too_little_for, spent_coroutine,
)  # fmt: skip


@pytest.mark.sampled
@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_check_finds_same_again(
    virtual: Virtual, defect: Callable[[], tuple[Scheduler, Callable[[], Any]]]
) -> None:
    """A scenario that cannot run never starts, whatever is asked before and however often, and runs once repaired. Once
    a cycle was found only by the first check; the next run started, and stood still for ever."""
    for name in ("run", *LOOKS):
        scheduler, repair = defect()
        scheduler.timeout = 1000
        for _ in range(2):
            if name == "run":
                with pytest.raises((CycleError, MissingRequirement, ValueError)):
                    virtual(scheduler.co_run)
            else:
                look(scheduler, name)
        assert not scheduler.is_runnable()
        with pytest.raises((CycleError, MissingRequirement, ValueError)):
            virtual(scheduler.co_run)
        assert scheduler.stop_reason is None
        repair()
        assert virtual(scheduler.co_run)


@pytest.mark.parametrize("depth", [0, 2])
def test_a_running_scheduler_is_neither_checked_nor_simulated(
    virtual: Virtual, depth: int
) -> None:
    """A check or a simulation of a running scheduler raises; once it overwrote counts, and the run stood still."""
    seen: list[Any] = []

    async def looks() -> None:
        await anyio.sleep(1)
        root: Any = last.scheduler
        for scheduler in (
            root,
            *(job for job in root.iterate_jobs() if isinstance(job, Scheduler)),
        ):
            seen.append(scheduler.is_runnable())
            with pytest.raises(RuntimeError, match="is running"):
                simulate(scheduler)

    first = Job(looks)
    inner: Any = first
    for _ in range(depth):
        inner = Scheduler(inner, Job(nap, required=inner))
    second = Job(nap, 3)
    last = Job(nap, required=[inner, second])
    scheduler = Scheduler(inner, second, last, timeout=100)
    assert virtual(scheduler.co_run)
    assert first.raised_exception() is None
    assert seen == [False] * (depth + 1)


async def throttled_once() -> None:
    extras = current_job()._extras
    if extras is None or not extras.throttlings:
        raise Throttled("api", 1)


async def take_back(_: object, succeeded: AbstractJob[None]) -> None:
    """Try again a job that another one in the line has waited for."""
    succeeded.try_again()


def test_only_listed_functions_write_job_states(
    virtual: Virtual, backend: str, checked_states: CheckedState
) -> None:
    checked_states.writers.clear()
    for seed in range(3):
        assert observe(
            replace(scenario_of(("writers", seed)), keep_jobs=True), backend, 2
        )
    failing = bad()
    virtual(Scheduler(failing, alarm(failing)).co_run)
    virtual(Scheduler(Job(throttled_once, needs={"api": 1}), pool=Pool(api=1)).co_run)
    first = Job(nothing)
    in_line = Job(nothing, required=first)
    virtual(
        Scheduler(
            first, Job(take_back, None, ref(first)), in_line, jobs_window=1
        ).co_run
    )
    assert checked_states.writers == WRITERS.keys()
