"""The laws that each run keeps, for any scenario."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

from .real_run import Recording
from .scenarios import Group, Leaf, Plan, inputs_in, inputs_of, walk

Law = Callable[[Recording], None]


def groups(seen: Recording) -> dict[str, Group]:
    return {plan.name: plan for plan in walk(seen.scenario.root) if isinstance(plan, Group)}


def members(group: Group) -> Iterator[Plan]:
    """Yield the plans of a scheduler's own jobs, including those added while it runs."""
    todo: list[Plan] = list(group.jobs)
    while todo:
        plan = todo.pop()
        yield plan
        if isinstance(plan, Leaf):
            todo += plan.adds


def plans(seen: Recording) -> dict[str, Plan]:
    return {plan.name: plan for plan in walk(seen.scenario.root)}


class Queues:
    """The jobs of one scheduler that wait, and those that run, by its events."""

    def __init__(self, seen: Recording) -> None:
        self.plans = plans(seen)
        self.clear()

    def clear(self) -> None:
        self.waiting: list[str] = []
        self.running: list[str] = []
        self.paused: list[str] = []  # they wait for their next attempt, at first for no slot

    def take(self, hook: str, job: str) -> None:
        if hook == "before_run":
            self.clear()
        elif hook == "scheduled" and job in self.running:
            self.running.remove(job)
            if self.plans[job].pause:
                self.paused.append(job)
            else:
                self.waiting.insert(0, job)
        elif hook == "scheduled":
            self.waiting.append(job)
        elif hook in ("started", "finished"):
            for names in (self.waiting, self.running, self.paused):
                if job in names:
                    names.remove(job)
            if hook == "started":
                self.running.append(job)


def calm_moments(seen: Recording) -> Iterator[dict[str, Queues]]:
    """Yield the queues of all schedulers whenever time is about to pass."""
    queues: defaultdict[str, Queues] = defaultdict(lambda: Queues(seen))
    for _, events in groupby(seen.events, key=lambda event: event.when):
        for _, hook, scheduler, job, _ in events:
            queues[scheduler].take(hook, job)
        yield queues


def may_clean_up(plan: Plan) -> bool:
    """Return whether a job may run after its scheduler has stopped, regardless of window and interval."""
    return plan.run_if == "failed" and not plan.forever


def takes_slot(plan: Plan) -> bool:
    return not plan.forever and not may_clean_up(plan)


# ---- the laws


def starts_after_what_it_requires(seen: Recording) -> None:
    """A job starts only after all it requires has settled."""
    bound = defaultdict(set)
    for later, earlier in seen.bound:
        bound[later].add(earlier)
    settled: set[str] = set()
    for _, hook, scheduler, job, _ in seen.events:
        if hook == "before_run":
            settled -= names_in(groups(seen)[scheduler])
        elif hook in ("finished", "ready"):
            settled.add(job)
        elif hook == "started":
            assert settled.issuperset({*plans(seen)[job].requires, *inputs_of(plans(seen)[job]), *bound[job]}), job


def keeps_windows(seen: Recording) -> None:
    """Never more jobs of a scheduler run than its window has slots; forever jobs take none."""
    queues: defaultdict[str, Queues] = defaultdict(lambda: Queues(seen))
    for _, hook, scheduler, job, _ in seen.events:
        queues[scheduler].take(hook, job)
        window = groups(seen)[scheduler].window
        if window is not None:
            running = [name for name in queues[scheduler].running if takes_slot(plans(seen)[name])]
            assert len(running) <= window, running


def fills_windows(seen: Recording) -> None:
    """No job waits for a slot while one is free. Under a limiter a leaf may wait with a slot; a scheduler does not."""
    limiters = limiters_around(seen)
    # What stands in a scheduler that may clean up needs tokens, too, if that runs before the end of its run.
    maybe = {one.name for plan in plans(seen).values() if may_clean_up(plan) for one in walk(plan)}
    for queues in calm_moments(seen):
        for name, queue in queues.items():
            ready = with_slots(groups(seen)[name], queue, seen)
            if limiters[name] is not None or (seen.scenario.tokens and name in maybe):
                ready = [job for job in ready if isinstance(plans(seen)[job], Group)]
            assert not ready, queue.waiting
            assert not any(plans(seen)[job].forever for job in queue.waiting), queue.waiting


def with_slots(group: Group, queue: Queues, seen: Recording) -> list[str]:
    """Return the jobs that wait, but not for a slot: the first ones, if more slots are there than jobs run."""
    running = [job for job in queue.running if not plans(seen)[job].forever]
    return queue.waiting if group.window is None else queue.waiting[: max(0, group.window - len(running))]


def limiters_around(seen: Recording) -> dict[str, int | None]:
    """Return the limiter under which each job works, and the members of each scheduler: the innermost around them."""
    found: dict[str, int | None] = {}

    def look(group: Group, around: int | None) -> None:
        around = around if group.limiter is None else group.limiter
        found[group.name] = around
        for plan in members(group):
            if isinstance(plan, Group):
                look(plan, around if takes_slot(plan) else None)
            else:
                found[plan.name] = around

    look(seen.scenario.root, None)
    return found


def starts_in_order(seen: Recording) -> None:
    """Jobs start in the order in which they became ready.

    Forever jobs, which need no slot, may go ahead; and so may schedulers under a limiter, which need no token.
    """
    queues: defaultdict[str, Queues] = defaultdict(lambda: Queues(seen))
    limiters = limiters_around(seen)
    for _, hook, scheduler, job, _ in seen.events:
        if hook == "started":
            waiting, plan = queues[scheduler].waiting, plans(seen)[job]
            ahead = [plans(seen)[name] for name in waiting[: waiting.index(job) if job in waiting else 0]]
            if limiters[scheduler] is not None:  # tokens go round in the order in which they were asked for
                ahead = [one for one in ahead if not one.retry]
            if isinstance(plan, Group) and limiters[scheduler] is not None:
                ahead = [one for one in ahead if isinstance(one, Group)]
            assert not [one for one in ahead if one.forever >= plan.forever], (job, ahead)
        queues[scheduler].take(hook, job)


def becomes_ready_in_order_added(seen: Recording) -> None:
    """Jobs that one event makes ready together are queued in the order in which they were added."""
    order = {name: [plan.name for plan in group.in_order_added] for name, group in groups(seen).items()}
    settled: dict[str, int] = {}  # in which order
    started: set[str] = set()  # they are ready again for another attempt
    together: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    for number, (_, hook, scheduler, job, _) in enumerate(seen.events):
        if hook in ("finished", "ready"):
            settled.setdefault(job, number)
        elif hook == "before_run":
            settled = {name: when for name, when in settled.items() if name not in order[scheduler]}
            started -= {*order[scheduler]}
            together = defaultdict(list, {key: jobs for key, jobs in together.items() if key[0] != scheduler})
        elif hook == "started":
            started.add(job)
        elif (
            hook == "scheduled" and job in order[scheduler] and job not in started
        ):  # those added later come last, and wait for the same
            plan = plans(seen)[job]
            waited_for = {*plan.requires, *(inputs_of(plan) if isinstance(plan, Leaf) else inputs_in([plan]))}
            if waited_for <= set(order[scheduler]) and job not in {later for later, _ in seen.bound}:
                cause = max((settled[name] for name in waited_for), default=-1)
                together[scheduler, cause].append(job)
                jobs = together[scheduler, cause]
                assert jobs == sorted(jobs, key=order[scheduler].index)


def settles_all_it_reaches(seen: Recording) -> None:
    """After the run no job is SCHEDULED or RUNNING, and none is IDLE without a reason."""
    for name, fate in seen.fates.items():
        if name == "root":
            continue
        assert fate.state not in ("SCHEDULED", "RUNNING"), name
        assert (fate.finished is None) == (fate.state == "IDLE"), name
    for name, group in groups(seen).items():
        verdict = seen.verdicts.get(name)
        if verdict is not None and verdict.reason in ("COMPLETED", "FAILED"):
            ordinary = [plan.name for plan in group.jobs if not plan.forever]
            assert not [name for name in ordinary if seen.fates[name].state == "IDLE"]
        # It may have stopped at its beginning, or have been cancelled before that.
        blocked = verdict is not None and verdict.culprit and seen.fates[verdict.culprit].state == "BLOCKED"
        began = [
            event.hook for event in seen.events if event.scheduler == name and event.hook in ("before_run", "scheduled")
        ]
        if verdict is not None and verdict.reason is not None and not blocked and began[-1:] == ["scheduled"]:
            waiting = {later for later, _ in seen.bound} | {plan.name for plan in group.jobs if plan.requires}
            waiting |= {plan.name for plan in group.jobs if inputs_in([plan])}
            assert {plan.name for plan in group.jobs if seen.fates[plan.name].state == "IDLE"} <= waiting


def leaves_nothing_behind(seen: Recording) -> None:
    """When the run has returned, each body that was entered has been left, and no token is borrowed."""
    balance = Counter(name for _, what, name in seen.bodies if what == "enter")
    balance.subtract(name for _, what, name in seen.bodies if what == "leave")
    assert not +balance
    assert not -balance
    assert seen.left_borrowed == 0


def shuts_down_once_a_run(seen: Recording) -> None:
    """Each job is shut down once for each run of its scheduler, and once if that was never run."""
    again = {name for group in groups(seen).values() if may_run_again(group) for name in names_in(group)}
    for name, plan in plans(seen).items():
        if isinstance(plan, Leaf) and name in seen.fates:
            count = seen.fates[name].shutdowns
            assert count == 1 or (name in again and count > 1), (name, count)


def names_in(group: Group) -> set[str]:
    return {plan.name for plan in walk(group)} - {group.name}


def may_run_again(group: Group) -> bool:
    """Return whether a scheduler may run several times within one run of its parent."""
    return group.retry > 0


def groups_run_once(seen: Recording) -> list[Group]:
    """Yield the schedulers that run at most once, like all schedulers around them."""
    again = [group for group in groups(seen).values() if may_run_again(group)]
    inside = {name for group in again for name in (group.name, *names_in(group))}
    return [group for name, group in groups(seen).items() if name not in inside]


def isolates_contexts(seen: Recording) -> None:
    """No job sees a context variable that another has changed."""
    assert seen.leaks == []


def gives_own_tasks(seen: Recording) -> None:
    """A job with a task of its own shares it with no other."""
    users: defaultdict[Any, set[str]] = defaultdict(set)
    for name, task in seen.tasks:
        users[task].add(name)
    for names in users.values():
        assert len(names) == 1 or not any(plans(seen)[name].own_task for name in names), names


def ends_forever_jobs_last(seen: Recording) -> None:
    """A forever job is cancelled when the ordinary jobs of its scheduler have unwound, and not before."""
    cancelled_outside = {name for _, name in seen.scenario.cancels}
    for group in groups_run_once(seen):
        own = [plan for plan in members(group) if plan.name in seen.fates]
        ordinary = [
            seen.fates[one.name].finished or 0.0 for one in own if not one.forever and one.name not in cancelled_outside
        ]
        told = [plan.name for plan in own if plan.forever and not plan.timeout and plan.name not in cancelled_outside]
        for when, what, name in seen.bodies:
            if what == "cancelled" and name in told:
                assert when >= max(ordinary, default=0.0), name


def keeps_tokens(seen: Recording) -> None:
    """Never more jobs work under a limiter than it has tokens; schedulers have none."""
    limiters = limiters_around(seen)
    running: set[str] = set()
    for _, hook, _, job, _ in seen.events:
        if hook == "started" and takes_slot(plans(seen)[job]) and isinstance(plans(seen)[job], Leaf):
            running.add(job)
        elif hook in ("finished", "scheduled"):
            running.discard(job)
        taken = Counter(limiters[name] for name in running)
        for limiter, tokens in enumerate(seen.scenario.tokens):
            assert taken[limiter] <= tokens, running


def uses_tokens(seen: Recording) -> None:
    """No job waits for a token that is free."""
    limiters = limiters_around(seen)
    for queues in calm_moments(seen):
        running = [job for queue in queues.values() for job in queue.running]
        leaves = [job for job in running if isinstance(plan := plans(seen)[job], Leaf) and not plan.forever]
        taken = Counter(limiters[job] for job in leaves)
        for name, queue in queues.items():
            limiter = limiters[name]
            if limiter is not None and with_slots(groups(seen)[name], queue, seen):
                assert taken[limiter] >= seen.scenario.tokens[limiter], (running, queue.waiting)


LAWS_OF_RUNS: tuple[Law, ...] = (
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
