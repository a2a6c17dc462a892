"""What always holds, whatever the scenario: laws, checked over random scenarios, and an oracle that predicts them whole.

In the suite a few scenarios each; for more of them, on both backends::

    TRIOFLOW_SOAK=2000 python -m pytest tests/test_invariants.py -m soak --timeout 0
"""

from __future__ import annotations

import contextvars
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from trioflow import Job, JobState, Scheduler, StopReason

from .oracle import predict
from .scenarios import Group, Leaf, Performance, Plan, Scenario, Stage, scenarios, walk

if TYPE_CHECKING:
    from .conftest import Virtual

FEW = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # no shrinking: of scenarios it takes minutes, which the soak tests have
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
MANY = settings(
    FEW,
    max_examples=int(os.environ.get("TRIOFLOW_SOAK", "1000")),
    derandomize=False,
    phases=list(Phase),
    print_blob=True,
)

Law = Callable[[Performance], None]


def perform(virtual: Virtual, scenario: Scenario) -> tuple[Performance, Performance]:
    """Run a scenario twice: as users do, and with an instrument, which takes the engine off its shortest path."""

    async def both() -> tuple[Performance, Performance]:
        stage = Stage(scenario)
        return await stage.perform(watched=False), await stage.perform(watched=True)

    return virtual(both)


# ---------------------------------------------------------------- what the laws ask


def groups(seen: Performance) -> dict[str, Group]:
    return {plan.name: plan for plan in walk(seen.scenario.root) if isinstance(plan, Group)}


def members(group: Group) -> Iterator[Plan]:
    """The plans of one scheduler's own jobs, those added while it runs included."""
    todo: list[Plan] = list(group.jobs)
    while todo:
        plan = todo.pop()
        yield plan
        if isinstance(plan, Leaf):
            todo += plan.adds


def plans(seen: Performance) -> dict[str, Plan]:
    return {plan.name: plan for plan in walk(seen.scenario.root)}


class Queues:
    """Which jobs of one scheduler wait and which run, as its events tell."""

    def __init__(self) -> None:
        self.waiting: list[str] = []
        self.running: list[str] = []

    def take(self, hook: str, job: str) -> None:
        if hook == "before_run":
            self.__init__()  # type: ignore[misc]
        elif hook == "scheduled":
            self.waiting.append(job)
        elif hook == "started":
            self.waiting.remove(job)
            self.running.append(job)
        elif hook == "finished":
            for names in (self.waiting, self.running):
                if job in names:
                    names.remove(job)


def calm_moments(seen: Performance) -> Iterator[dict[str, Queues]]:
    """The queues of all schedulers, whenever time is about to pass."""
    queues: defaultdict[str, Queues] = defaultdict(Queues)
    for _, events in groupby(seen.events, key=lambda event: event[0]):
        for _, hook, scheduler, job in events:
            queues[scheduler].take(hook, job)
        yield queues


# ---------------------------------------------------------------- the laws


def starts_after_what_it_requires(seen: Performance) -> None:
    """A job starts only after all it requires has settled."""
    settled: defaultdict[str, set[str]] = defaultdict(set)
    for _, hook, scheduler, job in seen.events:
        if hook == "before_run":
            settled[scheduler].clear()
        elif hook == "finished":
            settled[scheduler].add(job)
        elif hook == "started":
            assert settled[scheduler].issuperset(plans(seen)[job].requires), job


def keeps_windows(seen: Performance) -> None:
    """Never more jobs of a scheduler run than its window has slots; forever jobs take none."""
    queues: defaultdict[str, Queues] = defaultdict(Queues)
    for _, hook, scheduler, job in seen.events:
        queues[scheduler].take(hook, job)
        window = groups(seen)[scheduler].window
        if window is not None:
            running = [name for name in queues[scheduler].running if not plans(seen)[name].forever]
            assert len(running) <= window, running


def fills_windows(seen: Performance) -> None:
    """No job waits for a slot while one is free."""
    for queues in calm_moments(seen):
        for name, queue in queues.items():
            group = groups(seen)[name]
            if group.shared:
                continue
            running = [job for job in queue.running if not plans(seen)[job].forever]
            assert not queue.waiting or len(running) == group.window, queue.waiting
            assert not any(plans(seen)[job].forever for job in queue.waiting), queue.waiting


def starts_in_order(seen: Performance) -> None:
    """Jobs start in the order in which they became ready; forever jobs, which need no slot, may go ahead."""
    queues: defaultdict[str, Queues] = defaultdict(Queues)
    for _, hook, scheduler, job in seen.events:
        if hook == "started":
            waiting = queues[scheduler].waiting
            ahead = waiting[: waiting.index(job)]
            assert not [name for name in ahead if plans(seen)[name].forever >= plans(seen)[job].forever], (job, ahead)
        queues[scheduler].take(hook, job)


def becomes_ready_in_order_added(seen: Performance) -> None:
    """Jobs that become ready together are queued in the order in which they were added."""
    order = {name: [plan.name for plan in group.in_order_added] for name, group in groups(seen).items()}
    for is_scheduling, events in groupby(seen.events, key=lambda event: event[1] == "scheduled"):
        together: defaultdict[str, list[str]] = defaultdict(list)
        for _, _, scheduler, job in events if is_scheduling else ():
            if job in order[scheduler]:  # those added later come last, and wait for the same
                together[scheduler].append(job)
        for scheduler, jobs in together.items():
            assert jobs == sorted(jobs, key=order[scheduler].index)


def settles_all_it_reaches(seen: Performance) -> None:
    """After the run no job is SCHEDULED or RUNNING, and none is IDLE but for a reason."""
    for name, fate in seen.fates.items():
        if name == "root":
            continue
        assert fate.state not in ("SCHEDULED", "RUNNING"), name
        assert (fate.finished is None) == (fate.state == "IDLE"), name
    for name, group in groups(seen).items():
        verdict = seen.verdicts.get(name)
        if verdict is not None and verdict.reason == "COMPLETED":
            assert not [plan.name for plan in group.jobs if seen.fates[plan.name].state == "IDLE"]
        if verdict is not None and verdict.reason is not None:
            assert not [plan.name for plan in group.jobs if not plan.requires and seen.fates[plan.name].state == "IDLE"]


def leaves_nothing_behind(seen: Performance) -> None:
    """When the run has returned, each body that was entered has been left, and no token is borrowed."""
    balance = Counter(name for _, what, name in seen.bodies if what == "enter")
    balance.subtract(name for _, what, name in seen.bodies if what == "leave")
    assert not +balance
    assert not -balance
    assert seen.left_borrowed == 0


def shuts_down_once_a_run(seen: Performance) -> None:
    """Each job is shut down once for each run of its scheduler, and once if that was never run."""
    again = {name for group in groups(seen).values() if group.on_timeout == "restart" for name in names_in(group)}
    for name, plan in plans(seen).items():
        if isinstance(plan, Leaf) and name in seen.fates:
            count = seen.fates[name].shutdowns
            assert count == 1 or (name in again and count > 1), (name, count)


def names_in(group: Group) -> set[str]:
    return {plan.name for plan in walk(group)} - {group.name}


def isolates_contexts(seen: Performance) -> None:
    """No job sees a context variable that another has changed."""
    assert seen.leaks == []


def gives_own_tasks(seen: Performance) -> None:
    """A job with a task of its own shares it with no other."""
    users: defaultdict[Any, set[str]] = defaultdict(set)
    for name, task in seen.tasks:
        users[task].add(name)
    for names in users.values():
        assert len(names) == 1 or not any(plans(seen)[name].own_task for name in names), names


def ends_forever_jobs_last(seen: Performance) -> None:
    """A forever job is cancelled when the ordinary jobs of its scheduler have unwound, not before."""
    meddled = {name for _, name in seen.scenario.cancels}
    for group in groups(seen).values():
        own = [plan for plan in members(group) if plan.name in seen.fates]
        ordinary = [seen.fates[plan.name].finished or 0.0 for plan in own if not plan.forever]
        told = [plan.name for plan in own if plan.forever and not plan.timeout and plan.name not in meddled]
        for when, what, name in seen.bodies:
            if what == "cancelled" and name in told and group.on_timeout != "restart":
                assert when >= max(ordinary, default=0.0), name


def keeps_tokens(seen: Performance) -> None:
    """Never more jobs run under the shared limiter than it has tokens."""
    holders = set(token_users(seen.scenario.root))
    running: set[str] = set()
    for _, hook, _, job in seen.events:
        if hook == "started" and job in holders:
            running.add(job)
        elif hook == "finished":
            running.discard(job)
        assert len(running) <= seen.scenario.tokens, running


def uses_tokens(seen: Performance) -> None:
    """No job waits for a token while all that could hold one are neither running nor kept for a scheduler that ends."""
    holders = set(token_users(seen.scenario.root))
    shared = {name: group for name, group in groups(seen).items() if group.shared}
    for queues in calm_moments(seen):
        busy = [job for queue in queues.values() for job in queue.running if job in holders]
        waiting = {name: queues[name].waiting for name in shared if name in queues}
        if any(waiting.values()):
            assert len(busy) + len(kept_idle(seen, queues)) >= seen.scenario.tokens, (busy, waiting)


def token_users(root: Group) -> Iterator[str]:
    """The jobs that hold a token each while they run: those in shared windows that don't pass it on to jobs inside."""
    for plan in walk(root):
        if isinstance(plan, Group) and plan.shared:
            yield from (job.name for job in members(plan) if not job.forever and not passes_on(job))


def passes_on(plan: Plan) -> bool:
    return isinstance(plan, Group) and any(isinstance(inner, Group) and inner.shared for inner in walk(plan))


def kept_idle(seen: Performance, queues: dict[str, Queues]) -> list[str]:
    """Running schedulers that may hold a token for jobs inside that have no use for it now."""
    found = []
    for plan in walk(seen.scenario.root):
        if isinstance(plan, Group) and plan.shared:
            for job in queues[plan.name].running if plan.name in queues else ():
                inside = [inner.name for inner in walk(plans(seen)[job]) if isinstance(inner, Group) and inner.shared]
                if passes_on(plans(seen)[job]) and not any(
                    queues[name].waiting or queues[name].running for name in inside if name in queues
                ):
                    found.append(job)
    return found


LAWS: tuple[Law, ...] = (
    starts_after_what_it_requires,
    keeps_windows,
    fills_windows,
    starts_in_order,
    becomes_ready_in_order_added,
    settles_all_it_reaches,
    leaves_nothing_behind,
    shuts_down_once_a_run,
    isolates_contexts,
    gives_own_tasks,
    ends_forever_jobs_last,
    keeps_tokens,
    uses_tokens,
)


# ---------------------------------------------------------------- the oracle


def agrees_with_oracle(seen: Performance) -> None:
    """States, times, shutdowns, result, reasons, culprits and the order of starts are what the contract says."""
    expected = predict(seen.scenario)
    if not expected.exact:
        return
    assert (seen.result, seen.ended_at) == (expected.result, expected.ended_at)
    assert seen.verdicts == expected.verdicts
    leaves = {name for name, plan in plans(seen).items() if isinstance(plan, Leaf)}
    for name, fate in expected.fates.items():
        if name != "root":  # the outermost scheduler is nobody's job
            real = seen.fates[name]
            assert (name, real.state, real.started, real.finished) == (name, fate.state, fate.started, fate.finished)
            assert name not in leaves or real.shutdowns == fate.shutdowns, name
    assert seen.fates.keys() == expected.fates.keys()
    entered = list(dict.fromkeys(name for _, what, name in seen.bodies if what == "enter"))
    for group in groups(seen).values():
        own = {plan.name for plan in members(group)} & leaves
        assert [name for name in entered if name in own] == [name for name in expected.started if name in own]


def is_the_same_again(first: Performance, second: Performance) -> None:
    """A second run gives the same again."""
    assert (first.result, first.ended_at) == (second.result, second.ended_at)
    assert first.verdicts == second.verdicts
    assert first.fates == second.fates


# ---------------------------------------------------------------- the tests


def check(virtual: Virtual, scenario: Scenario) -> None:
    """Hold the two runs of a scenario against the laws, the oracle, and each other."""
    first, second = perform(virtual, scenario)
    for seen in (first, second):
        for law in LAWS:
            law(seen)
        agrees_with_oracle(seen)
    if predict(scenario).exact:
        is_the_same_again(first, second)


def check_shared(virtual: Virtual, scenario: Scenario) -> None:
    """Hold the two runs of a scenario with shared limiters against the laws."""
    for seen in perform(virtual, scenario):
        for law in LAWS:
            law(seen)


@FEW
@given(scenario=scenarios())
def test_scenarios(virtual: Virtual, scenario: Scenario) -> None:
    """Any scenario keeps all laws, comes out as the oracle says, and does so again."""
    check(virtual, scenario)


@FEW
@given(scenario=scenarios(shared=True))
def test_scenarios_with_shared_limiters(virtual: Virtual, scenario: Scenario) -> None:
    """Schedulers that share a limiter through nesting keep all laws, and never come to a standstill."""
    check_shared(virtual, scenario)


@pytest.mark.soak
@MANY
@given(scenario=scenarios())
def test_many_scenarios(virtual: Virtual, scenario: Scenario) -> None:
    """As `test_scenarios`, for long."""
    check(virtual, scenario)


@pytest.mark.soak
@MANY
@given(scenario=scenarios(shared=True))
def test_many_scenarios_with_shared_limiters(virtual: Virtual, scenario: Scenario) -> None:
    """As `test_scenarios_with_shared_limiters`, for long."""
    check_shared(virtual, scenario)


# ---------------------------------------------------------------- what they have found


async def nothing() -> None:
    pass


class SlowToShutDown(Job[None]):
    """A job whose shutdown takes half a second."""

    async def co_shutdown(self) -> None:
        await anyio.sleep(0.5)


def test_forever_job_taken_up_after_instant_jobs(virtual: Virtual) -> None:
    """A worker that went on from a job without a checkpoint to a forever job never told that the first had settled."""

    async def main() -> bool | None:
        with anyio.move_on_after(10):
            return await Scheduler(Job(nothing), Job(anyio.sleep_forever, forever=True)).co_run()
        return None

    assert virtual(main) is True


def test_late_requirement_keeps_the_order_added(virtual: Virtual) -> None:
    """A job made to wait during the run was queued behind jobs added after it, when they became ready together."""
    order: list[str] = []

    async def start(name: str) -> None:
        order.append(name)

    async def main() -> None:
        early, late = Job(anyio.sleep, 1), Job(anyio.sleep, 2)
        first, second = Job(start, "first", required=early), Job(start, "second", required=late)

        async def tie() -> None:
            first.requires(late)

        await Scheduler(early, late, first, second, Job(tie)).co_run()

    virtual(main)
    assert order == ["first", "second"]


def test_cancellation_during_the_shutdown_is_raised_after_it(virtual: Virtual) -> None:
    """On asyncio, an anyio scope that was cancelled while the run shut down was not told at all."""

    async def main() -> None:
        scheduler = Scheduler(SlowToShutDown(anyio.sleep, 1))
        with anyio.move_on_after(1.25) as scope:
            await scheduler.co_run()
        assert (scope.cancelled_caught, scheduler.stop_reason) == (True, StopReason.COMPLETED)

    virtual(main)


def test_nested_scheduler_cancelled_during_its_shutdown(virtual: Virtual) -> None:
    """On asyncio, a nested scheduler that was shutting down when the outer one stopped ended SUCCEEDED."""

    async def main() -> None:
        nested = Scheduler(SlowToShutDown(anyio.sleep, 1))
        await Scheduler(nested, Job(anyio.sleep, 100), timeout=1.25).co_run()
        assert nested.state is JobState.CANCELLED

    virtual(main)


def test_outer_stop_reaches_nested_schedulers_at_once(virtual: Virtual) -> None:
    """On trio it was left to chance whether a nested run learnt of it before its jobs had reacted to it."""

    async def stubborn(error: type[Exception] | None) -> None:
        try:
            await anyio.sleep(100)
        except anyio.get_cancelled_exc_class():
            if error is not None:
                raise error from None

    async def main() -> tuple[StopReason | None, JobState]:
        swallower = Job(stubborn, None)
        successor = Job(anyio.sleep, 1, required=swallower)
        nested = Scheduler(swallower, successor, Job(stubborn, ValueError, critical=True))
        await Scheduler(nested, timeout=1).co_run()
        return nested.stop_reason, successor.state

    assert {virtual(main) for _ in range(40)} == {(StopReason.CANCELLED, JobState.IDLE)}


def test_shuts_down_what_was_never_run_at_any_depth(virtual: Virtual) -> None:
    """Jobs two levels inside a scheduler that was never run were not shut down."""
    calls: list[str] = []

    class Counting(Job[None]):
        async def co_shutdown(self) -> None:
            calls.append(self.label)

    async def main() -> None:
        inner = Scheduler(Counting(nothing, label="deep"), label="inner")
        middle = Scheduler(inner, Counting(nothing, label="middle"), label="middle")
        endless = Job(anyio.sleep_forever)
        middle.requires(endless)
        await Scheduler(endless, middle, timeout=1).co_run()

    virtual(main)
    assert sorted(calls) == ["deep", "middle"]


def test_lent_token_is_used_by_the_worker_that_waits(virtual: Virtual) -> None:
    """A worker that retired left its lent token idle, while another of the same run waited for one, for ever."""
    changed: contextvars.ContextVar[bool] = contextvars.ContextVar("changed")

    async def change() -> None:
        changed.set(True)
        await anyio.sleep(1)

    async def main() -> tuple[bool | None, float]:
        limiter = anyio.CapacityLimiter(1)
        nested = Scheduler(Job(change), Job(anyio.sleep, 1), jobs_window=limiter)
        result = None
        with anyio.move_on_after(10):
            result = await Scheduler(nested, jobs_window=limiter).co_run()
        return result, anyio.current_time()

    assert virtual(main) == (True, 2)


def test_forever_job_does_not_overtake_where_there_is_a_slot(virtual: Virtual) -> None:
    """A forever job taken up with a slot had the next forever job looked for before it gave that slot back."""
    order: list[str] = []

    async def endless(name: str) -> None:
        order.append(name)
        await anyio.sleep_forever()

    async def main() -> None:
        first, last = (Job(endless, name, forever=True) for name in ("first", "last"))
        await Scheduler(first, Job(endless, "between"), last, jobs_window=1, timeout=1).co_run()

    virtual(main)
    assert order == ["first", "between", "last"]
