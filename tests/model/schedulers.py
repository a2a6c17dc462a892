"""The model's schedulers: which job may start, when a run is over, and how it ends."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import chain, combinations, permutations
from typing import Any
from .clock import SAME, World
from .jobs import (
    RAISED_FOR,
    SETTLED,
    UNSETTLED,
    ModelJob,
    ModelLeaf,
    Problem,
    cancel,
    is_in,
    member_of_run,
    problem,
    try_again,
)
from .limits import ModelAdaptive, ModelLimiter, ModelResource
from .scenario import Group, Leaf, Plan, Reaction, Resource, inputs_of, walk
from .steps import Add, Cancel, Steer


class ModelScheduler(ModelJob):
    """The model of a scheduler, or of a `First`."""

    plan: Group

    def __init__(
        self, world: World, plan: Group, parent: ModelScheduler | None
    ) -> None:
        super().__init__(world, plan, parent)
        self.reason: str | None = None
        self.culprit: str | None = None
        self.flushing = self.forever_ended = False
        self.last_start = (
            self.last_release
        ) = -1.0  # of a member; of those that have waited for one
        self.under_way = self.stopping = self.draining = False
        # A new window stays the setting.
        self.window = world.windows.get(plan.name, plan.window)
        # The members before it was tried again, of which its next run keeps some.
        self.earlier: list[ModelJob] = []
        self.fill()

    @property
    def has_shutdown(self) -> bool:
        return self.reason is None and any(job.has_shutdown for job in self.jobs)

    @property
    def counted(self) -> Sequence[ModelJob]:
        return self.jobs if self.plan.enough is None else ()

    @cached_property
    def names(self) -> set[str]:
        """Its name, and those of all in it."""
        return {plan.name for plan in walk(self.plan)}

    def fill(self) -> None:
        """Add the models of all jobs, reset."""
        self.jobs: list[ModelJob] = []
        self.queue: list[ModelJob] = []
        self.starts = 0
        self.running: list[ModelJob] = []
        self.holders: set[ModelJob] = set()  # those that have a slot
        self.token_line: list[ModelJob] = []  # those that wait only for a token
        self.clean_up_jobs: list[ModelJob] = []
        # Of the clean-up, although they wait for nothing.
        self.left_out: list[ModelJob] = []
        self.released: deque[str] = deque()
        # Who was made to wait for a job during the run, in this order.
        self.late: dict[str, list[ModelJob]] = {}
        self.phase = "running"
        self.stopping = self.draining = self.forever_ended = self.flushing = False
        self.paused = self.name in self.world.paused
        self.is_last = False
        self.held_up = self.is_released = (
            False  # whether the run is held, and was let go on by `resume()`
        )
        self.members: dict[str, ModelResource] = {}  # what it keeps for its members
        pools = self.world.pools  # they outlive the attempts of their scheduler
        if self.name not in pools:
            pools[self.name] = {
                each.name: ModelResource(self.world, each) for each in self.plan.pool
            }
        self.pool = pools[self.name]
        if self.plan.adaptive is None:
            self.adaptive = None
        else:
            self.adaptive = ModelAdaptive(*self.plan.adaptive)
        self.winners: list[ModelJob] = []
        # Which had won before it was tried again.
        self.kept_winners: list[ModelJob] = []
        self.open_turns = 0
        self.turn_began: float | None = None
        self.first_problem: Problem | None = None
        self.decided = False
        self.usual: float | None = (
            None  # the duration of a job without an expected one, if that decides
        )
        for plan in self.plan.in_order_added:
            self.admit(plan)

    def admit(self, plan: Plan) -> ModelJob:
        job = make_model_job(self.world, plan, self)
        self.jobs.append(job)
        return job

    def link(self, jobs: Iterable[ModelJob]) -> None:
        """Find for what jobs have to wait."""
        own = {job.name: job for job in self.jobs}
        for job in jobs:
            names = self.required(job.plan)
            job.waits_for = {
                name for name in names if name in own and own[name].is_waited_for
            }

    def rank_jobs(self) -> None:
        """Find the longest expected path from each job to an exit."""
        known = self.known_durations(self.plan)
        decides = self.plan.policy == "auto" and bool(known)
        if not decides and self.plan.policy != "critical-path":
            return
        # Unknown durations count as a median one.
        self.usual = 1.0
        if known:
            self.usual = statistics.median(known.values())
        ranks = self.paths(self.plan.jobs, known, self.usual)
        for job in self.jobs:
            job.rank = ranks[job.name]
        if len({*ranks.values()}) > 1:
            self.world.mark("policy")

    def known_durations(self, plan: Group) -> dict[str, float]:
        """Return the expected durations of members: of a nested scheduler, it may be the longest path in it."""
        found: dict[str, float] = {}
        for job in plan.jobs:
            if job.expected is not None:
                found[job.name] = job.expected
            elif isinstance(job, Group):
                known = self.known_durations(job)
                if known:
                    usual = statistics.median(known.values())
                    found[job.name] = max(self.paths(job.jobs, known, usual).values())
        return found

    def paths(
        self, plans: Sequence[Plan], known: dict[str, float], usual: float
    ) -> dict[str, float]:
        """Return the longest path from each job, which is behind what it requires, to an exit."""
        found: dict[str, float] = {}
        for plan in plans[::-1]:
            users = [
                found[other.name]
                for other in plans
                if other.name in found and plan.name in self.required(other)
            ]
            found[plan.name] = known.get(plan.name, usual) + max(users, default=0.0)
        return found

    def required(self, plan: Plan) -> set[str]:
        """Return the names of the jobs for which a job waits."""
        added = {
            each
            for who, each in {*self.world.bound, *self.world.implied}
            if who == plan.name
        }
        return {*plan.requires, *inputs_of(plan), *added}

    # ---- running

    def call(self) -> None:
        """Begin a run."""
        self.note_call()
        if self.parent is not None:
            self.world.mark("nesting")
        self.reason = self.culprit = None
        self.under_way = True
        held = self.held
        before = self.earlier
        self.earlier = []
        last = [] if self.parent is None else self.jobs
        self.fill()
        self.held = held
        kept = self.keep(before)
        if not before or len(before) != len(self.jobs):
            last = [*everything_in(last)]
            done = {each.name: each for each in last}
            for each in [*everything_in(self.jobs)]:
                if each.name in done:
                    each.carry_on(done[each.name])
        members = planned(self.plan)
        for old in last:
            is_anew = old not in kept and old.state in SETTLED
            if is_anew and old.name in members:
                self.world.hook("reopened", old.name)
        self.world.schedulers.append(self)
        self.world.hook("before_run", self.name)
        self.keep_needs_for_members()
        self.link(self.jobs)
        self.rank_jobs()
        self.began = self.world.now
        if self.plan.timeout is not None:
            self.timers = [
                self.world.after(self.plan.timeout, lambda: self.stop("TIMEOUT"))
            ]
        self.show_life()
        self.open_due_turns()
        early = self.world.cancelled_early.pop(self.name, ())
        own = {job.name: job for job in self.jobs if job.state in UNSETTLED}
        cancelled = [own[name] for name in early if name in own]
        reads = self.world.has_journal or self.plan.enough is not None
        early_ones = [job for job in cancelled if reads or not starts_at_once(job)]
        for job in early_ones:
            cancelled.remove(job)
            job.cancel_alone()
        self.make_ready([job for job in self.jobs if not is_settled_at_once(job)])
        for job in [*self.jobs]:
            self.make_ready([job])
        for job in cancelled:
            if job.state in UNSETTLED:
                job.cancel_alone()
        if self.plan.enough is not None and len(self.winners) >= self.plan.enough:
            # It was decided before it was tried again, and did not complete: a cancellation came while others unwound.
            self.decided = True
            self.reason = "COMPLETED"
            self.stop("COMPLETED")
        self.move()

    def keep_needs_for_members(self) -> None:
        """A nested scheduler with needs is the pool of its members for exactly these names."""
        if self.parent is None:
            return
        for name, need in self.plan.needs:
            found = self.parent.find(name)
            if found is None or found.plan.kind == "rate" or isinstance(need, str):
                continue
            plan = Resource(name=name, kind=found.plan.kind, total=float(need))
            self.members[name] = ModelResource(self.world, plan, found)

    # ---- trying again

    def waits_to_begin(self) -> bool:
        """Return whether a run around it goes on, in which it, or what is around it, will begin."""
        level: Any = self
        while not level.under_way:
            if level.parent is None or level.state not in UNSETTLED:
                return False
            level = level.parent
        return bool(level.goes_on)

    @property
    def accepts_calls(self) -> bool:
        """Return whether the run is one, and neither drains nor stops."""
        is_run = self.parent is not None or not self.world.apart
        return is_run and self.under_way and not (self.stopping or self.draining)

    @property
    def goes_on(self) -> bool:
        """Return whether the run accepts that its jobs are tried again. A `First` has counted their failures."""
        return self.accepts_calls and self.plan.enough is None

    @property
    def times_out_now(self) -> bool:
        """Return whether a timeout of the scheduler, or of one around it, ends at this instant."""
        is_due = any(
            timer.live and abs(timer.when - self.world.now) < SAME
            for timer in self.timers
        )
        return is_due or (self.parent is not None and self.parent.times_out_now)

    def reopen_jobs(self, failed: Sequence[ModelJob]) -> bool:
        """Let failed jobs, and what they have blocked, be as if they had not settled yet; return whether there are any.
        What was SKIPPED stays so; what has run because of the failure, or in spite of it, does not run again."""
        if self.world.drops and not self.is_nested:
            there = self.kept()
        else:
            there = {job.name for job in self.jobs}
        failed = [job for job in failed if job.name in there]  # and was not dropped
        todo = [
            job
            for job in failed
            if job.state == "FAILED" or (job.state == "CANCELLED" and job.alone)
        ]
        if not todo:
            return False
        self.world.mark("try again")
        self.held_up = self.is_released = False
        reopened: list[ModelJob] = []
        for job in todo:
            if job in reopened:
                continue
            job.reopen()
            reopened.append(job)
            self.link([job])
            for user in self.jobs:
                if job.name not in self.required(user.plan):
                    continue
                if user.state == "BLOCKED" and user.name in there:
                    todo.append(user)
                elif user.state == "IDLE":
                    user.waits_for.add(job.name)
        self.make_ready(reopened)
        if any(job.state != "IDLE" for job in reopened):
            self.show_signs()
        self.world.soon.append(self.move_on)
        return True

    def followers(
        self, jobs: Iterable[ModelJob], members: Sequence[ModelJob]
    ) -> list[ModelJob]:
        """Return jobs, and all members that require them, at any distance."""
        found: list[ModelJob] = []
        todo = list(jobs)
        for job in todo:
            if job not in found:
                found.append(job)
                todo += [
                    user for user in members if job.name in self.required(user.plan)
                ]
        return found

    def take_back_success(self, wanted: ModelJob, end: ModelJob) -> None:
        """Let a job that has succeeded run again, and all that has used it, wherever it is, unless that runs now.
        If the job has failed in a group that has succeeded, `end`, all that has used the group does."""
        again = users_of(self.world, wanted, end)
        around = [
            each
            for each in self.world.jobs.values()
            if each is not wanted and is_in(wanted, each)
        ]
        if any(each.state == "RUNNING" and each not in around for each in again):
            return
        self.world.mark("taken back")
        homes = dict.fromkeys(each.parent for each in again if each.parent is not None)
        for home in sorted(
            homes,
            key=lambda home: sum(is_in(home, each) for each in self.world.schedulers),
        ):
            home.put_back(
                [
                    each
                    for each in again
                    if each.parent is home and each.state in SETTLED
                ]
            )

    def put_back(self, jobs: Sequence[ModelJob]) -> None:
        """Let members be IDLE, of which those that have ended before a run under way wait for their next run."""
        for each in jobs:
            self.world.stored.pop(each.name, None)
        if not self.under_way:
            for job in jobs:
                job.reopen()
            return
        self.held_up = self.is_released = False
        names = {job.name for job in jobs}
        users = [each for each in self.jobs if names & self.required(each.plan)]
        for job in [each for each in users if each.state == "SCHEDULED"]:
            job.wait_again()
        for job in jobs:
            job.reopen()
        self.link(
            [
                *jobs,
                *(each for each in users if each.state == "IDLE" and each not in jobs),
            ]
        )
        self.make_ready(jobs)
        if any(job.state != "IDLE" for job in jobs):
            self.show_signs()
        self.world.soon.append(self.move_on)

    def reopen(self) -> None:
        self.earlier = [] if self.reason is None else self.jobs
        super().reopen()

    def keep(self, before: Sequence[ModelJob]) -> list[ModelJob]:
        """Take over those jobs that had succeeded, and the attempts of the others; none if the last run had added some.
        In a `First`, those that compete have won already."""
        kept: list[ModelJob] = []
        if self.world.drops:
            # What was added, and has settled without a failure that counts, was dropped.
            lasting = planned(self.plan)
            before = [
                job
                for job in before
                if job.name in lasting or job.counts or job.state in UNSETTLED
            ]
        if len(before) != len(self.jobs):
            return kept
        again = self.to_repeat(before)
        for place, (old, new) in enumerate(zip(before, self.jobs, strict=True)):
            if old.name not in again:
                self.world.mark("kept")
                self.jobs[place] = old
                # Its bodies are counted in each run of the group.
                old.parent = self
                old.calls = 0
                kept.append(old)
                for each in everything(old):
                    self.world.jobs[each.name] = each
                continue
            new.carry_on(old)
            if (
                isinstance(old, ModelScheduler)
                and isinstance(new, ModelScheduler)
                and old.reason is not None
            ):
                # As its last run has left them, until the next begins.
                new.earlier = new.jobs = old.jobs
                new.reason = old.reason
                new.culprit = old.culprit
                self.world.jobs.update(
                    {each.name: each for each in everything(old) if each is not old}
                )
        line = self.competitors()
        self.kept_winners = sorted(
            (job for job in kept if job in line), key=lambda job: job.settled_as
        )
        self.winners = self.kept_winners[: self.plan.enough]
        return kept

    def to_repeat(self, before: Sequence[ModelJob]) -> set[str]:
        """Return the names of the members that run again: what cleans up after one of them does, and what follows."""
        again = {
            job.name for job in before if job.state != "SUCCEEDED" or job.plan.forever
        }
        todo = [
            job
            for job in before
            if job.plan.run_if == "failed" and again & self.required(job.plan)
        ]
        for job in todo:
            if job.name not in again:
                again.add(job.name)
                todo += [
                    user for user in before if job.name in self.required(user.plan)
                ]
        return again

    def make_ready(self, jobs: Iterable[ModelJob]) -> None:
        """Queue the jobs that wait for nothing, and settle those that will not run."""
        before = list(self.queue)
        phase = self.phase
        self.phase = "releasing"
        ready = [job for job in jobs if not job.waits_for]
        # What an earlier run has paid for decides first.
        if self.plan.enough is not None:
            ready.sort(key=lambda job: job.name not in self.world.restored)
        for job in ready:
            self.make_one_ready(job)
        while self.world.calls_due or self.released:
            take_calls(self.world)
            self.release_due()
        if self.phase == "releasing":
            self.phase = phase
        self.release()
        self.check_order(before)

    def make_one_ready(self, job: ModelJob) -> None:
        """Queue or settle a job whose requirements have settled."""
        if job.state != "IDLE" or self.world.jobs[job.name] is not job:
            return
        if self.stopping or self.draining:
            return
        verdict, cause = job.judge()
        job.fell_short = job.shortfalls()
        stored = self.world.restored.get(job.name)
        is_restored = (
            verdict == "SCHEDULED"
            and stored is not None
            and stored[2] == job.fell_short
        )
        if is_restored and isinstance(job, ModelScheduler):
            self.world.doubt("a First takes no time")  # it is restored as a whole
        if is_restored and isinstance(job, ModelLeaf) and not job.is_service:
            job.restored = True
            # Another attempt of its scheduler runs it again.
            job.value, spent, _ = self.world.restored.pop(job.name)
            self.world.mark("restored")
            for name, amount in spent.items():  # a restored job counts what it had used
                resource = self.find(name)
                if resource is not None:
                    resource.free -= amount
            job.settle("SUCCEEDED")
        elif verdict == "SCHEDULED":
            if self.may_start(job):
                self.enqueue(job)
        else:
            self.world.mark("skip" if verdict == "SKIPPED" else "block")
            job.settle(verdict, cause)

    def enqueue(self, job: ModelJob) -> None:
        """Jobs start in the order in which they became ready."""
        if self.has_order:
            self.note_line()
        self.note_depth(job)
        job.state = "SCHEDULED"
        job.number = next(self.world.numbers)
        job.ready_at = self.world.now
        self.world.hook("scheduled", job.name)
        self.call_back("scheduled", job)
        self.queue.append(job)

    @property
    def has_order(self) -> bool:
        """Return whether something else than the order of becoming ready decides what starts first."""
        has_priorities = any(job.plan.priority for job in self.jobs)
        return self.usual is not None or self.goes_deep or has_priorities

    @property
    def goes_deep(self) -> bool:
        return self.plan.policy == "depth-first"

    def note_depth(self, job: ModelJob) -> None:
        """With "depth-first", the more jobs have started before a job became ready, the earlier it starts."""
        if self.goes_deep:
            starting = [each for each in self.world.admitted if each.parent is self]
            job.rank = self.starts + len(starting)
            self.world.mark("policy")

    def note_line(self) -> None:
        """Give up exactness if a job that may come before others becomes ready as these start, or as time lets them."""
        self.world.doubt_wake()
        if self.has_jobs_to_begin:
            self.world.doubt("a job becomes ready as others start")

    def release(self, *names: str) -> None:
        """Release the jobs that waited for the given ones, one after the other."""
        self.released.extend(names)
        if self.phase == "running":
            self.release_due()

    def release_due(self) -> None:
        """Release the jobs that wait for what has settled."""
        before = list(self.queue)
        phase = self.phase
        self.phase = "releasing"
        while self.released:
            name = self.released.popleft()
            # They come after those that waited for it already.
            late = self.late.get(name, [])
            for job in [*(job for job in self.jobs if job not in late), *late]:
                if name in job.waits_for:
                    job.waits_for.discard(name)
                    if not job.waits_for:
                        self.make_one_ready(job)
        if self.phase == "releasing":
            self.phase = phase
        self.check_order(before)
        if len(self.queue) > len(before):
            is_second = self.last_release == self.world.now
            if (
                self.size < math.inf
                or self.limiter() is not None
                or any(job.plan.needs for job in self.jobs)
            ):
                # Which cannot tell whether a job has waited.
                if is_second and self.world.is_direct_asyncio:
                    self.world.doubt("jobs that have not waited end as others do")
            elif is_second and self.world.tied_at == self.world.now:
                self.world.doubt(
                    "what is not limited starts as several end at one instant"
                )
            self.last_release = self.world.now

    def check_order(self, before: list[ModelJob]) -> None:
        """Give up exactness if jobs have just become ready in another order than they were added. This happens when
        other jobs were settled without a run. Whether they became ready together, or one after the other, is then not
        defined."""
        new = [job for job in self.queue if job not in before]
        if new != sorted(new, key=self.jobs.index):
            self.world.doubt("became ready together or not")

    def move_on(self) -> None:
        """Start what can start, unless the run has ended or stops by now."""
        if self.under_way and not self.stopping:
            self.move()

    def move(self) -> None:
        """Start what can start, and check whether the run is over."""
        admit_all(self.world)
        self.check_over()

    def check_over(self) -> None:
        """Before they are cancelled, forever jobs get turns of the loop to take in what is already there."""
        if self.phase != "running" or self.decided or self.flushing:
            return
        if self.world.tries_due or self.world.calls_due:
            return
        if not self.is_over() or self.has_jobs_to_begin or self.must_be_held():
            return
        if self.draining or not self.running:
            self.complete()
        elif not any(job.plan.forever for job in self.running):
            self.complete()
        else:
            if any(group.flushing for group in self.world.schedulers):
                self.world.doubt(
                    "two schedulers wait for their forever jobs at one instant"
                )
            self.flushing = True
            self.wait_turns(4)

    def wait_turns(self, number: int) -> None:
        """Let all else happen that happens at this instant; then stop, if there is nothing new."""
        if number:
            self.world.soon.append(lambda: self.wait_turns(number - 1))
        else:
            self.flushing = False
            if self.phase == "running" and self.is_over() and not self.must_be_held():
                self.complete()

    def complete(self) -> None:
        """Stop, or end the questions that alone keep the run from its end: then it goes on from there."""
        asking = self.asking()
        if not asking:
            self.stop("COMPLETED")
            return
        self.world.mark("answer in vain")
        for job in asking:
            job.alone = job.alone or not job.asked
        for job in asking:
            job.cancel()

    def asking(self) -> list[ModelJob]:
        """Return the questions that run."""
        return [
            job
            for job in self.running
            if isinstance(job.plan, Leaf) and job.plan.answer
        ]

    def asks_in_vain(self) -> bool:
        """Return whether the run waits for answers alone, and nothing can use any of them."""
        asking = self.asking()
        if not asking or any(map(self.is_needed, asking)):
            return False
        waited = self.waited()
        for job in self.jobs:
            if job.plan.forever and job.name not in waited:
                continue
            starts = job.state == "SCHEDULED" or (
                job.state == "IDLE" and not job.waits_for
            )
            if starts and not self.draining:
                return False
            if job.state != "RUNNING" or job in asking:
                continue
            if not (job.plan.forever and (job.ready or self.draining)):
                return False
        return True

    def waited(self) -> set[str]:
        """Return what jobs that are not forever wait for, at any distance."""
        waiting = [job for job in self.jobs if not job.plan.forever]
        names: set[str] = set()
        for job in waiting:
            if job.state == "IDLE":
                new = job.waits_for - names
                names |= new
                waiting += [other for other in self.jobs if other.name in new]
        return names

    def is_needed(self, job: ModelJob) -> bool:
        """Return whether nothing requires an answer, or something that requires it may still run."""
        users = [other for other in self.world.jobs.values() if job in other.requires()]
        return not users or any(
            user.parent is not self or may_run(user) for user in users
        )

    def must_be_held(self) -> bool:
        """With `hold=True` a run does not end with failures that count, until `resume()`; a block holds nothing."""
        has_failed = any(job.counts and job.state != "BLOCKED" for job in self.jobs)
        self.held_up = (
            self.plan.hold and has_failed and not self.is_released and not self.draining
        )
        if self.held_up:
            self.world.mark("hold=True")
        return self.held_up

    # ---- windows and needs

    @property
    def size(self) -> float:
        if self.adaptive is not None:
            return self.adaptive.size
        return math.inf if self.window is None else self.window

    # ---- steering

    def set_paused(self, paused: bool) -> None:
        """No job starts in a pause, at any depth; what was admitted and has not begun holds nothing. A pause is the
        scheduler's, until the outermost run ends: one that has not begun, or is tried again, takes it."""
        if not paused and self.name not in self.world.paused and self.held_up:
            self.is_released = True
            self.world.soon.append(self.check_over)
            return
        if paused:
            self.world.paused.add(self.name)
        else:
            self.world.paused.discard(self.name)
        comes_too_late = paused and (self.stopping or self.draining)
        if not self.under_way or comes_too_late:
            return
        if paused:
            self.world.mark("pause()")
        self.world.doubt_wake()
        self.paused = paused
        for group in self.world.schedulers:
            if group.is_paused:
                group.take_back()
        admit_all(self.world)

    def set_window(self, size: int) -> None:
        """Another window takes effect at once: with a smaller one, nothing starts until enough jobs have ended."""
        self.world.mark("new window")
        self.world.doubt_wake()
        self.window = self.world.windows[self.name] = size
        if len(self.holders) > size:
            self.take_back()
        admit_all(self.world)

    def take_back(self) -> None:
        """Let the jobs that have not begun wait again: those that could start first, the others in their old places."""
        limiter = self.limiter()
        for job in [
            job
            for job in self.world.admitted
            if job.parent is self and job.state == "SCHEDULED"
        ]:
            self.world.mark("admitted in vain")
            if limiter is not None and limiter.queue and job in limiter.holders:
                self.world.doubt("a job gets a token as others start that take none")
            self.world.admitted.remove(job)
            self.release_held(job)
            job.number = next(self.world.first_numbers)
            job.keeps_key = True
            self.note_depth(job)
            self.queue.append(job)
        for job in list(self.token_line):
            rivals = [
                group
                for group in self.world.schedulers
                if group is not self and group.limiter() is limiter
            ]
            limited = [group for group in rivals if group.size < math.inf]
            if any(each.number < job.number for each in queued_in(limited)):
                self.world.doubt(
                    "a pause takes back what has asked for a token before an older job"
                )
            self.release_held(job)
            self.queue.append(job)

    @property
    def is_paused(self) -> bool:
        """Return whether the scheduler or one around it is paused. Clean-up does not pause."""
        if self.paused or self.parent is None or self.parent.is_cleaning_up(self):
            return self.paused
        return self.parent.is_paused

    def has_slot(self, job: ModelJob) -> bool:
        """A nested scheduler takes one slot, whatever runs in it."""
        return not job.takes_slot or len(self.holders) < self.size

    def find(self, name: str) -> ModelResource | None:
        """A name is looked up in the pool of the nearest enclosing scheduler that has it, going outwards."""
        group: ModelScheduler | None = self
        while group is not None:
            found = group.pool.get(name) or group.members.get(name)
            if found is not None:
                return found
            group = group.parent
        return None

    def limiter(self) -> ModelLimiter | None:
        """A job takes one token of the innermost enclosing limiter."""
        group: ModelScheduler | None = self
        while group is not None:
            if group.plan.limiter is not None:
                return self.world.limiters[group.plan.limiter]
            if group.plan.forever or (
                group.parent is not None and group.parent.is_cleaning_up(group)
            ):
                return None
            group = group.parent
        return None

    def needs_token(self, job: ModelJob) -> bool:
        """A scheduler never holds a token."""
        return (
            job.takes_slot
            and not isinstance(job, ModelScheduler)
            and self.limiter() is not None
        )

    @property
    def is_inside_holder(self) -> bool:
        """A job inside a scheduler with needs is never held back by a reservation."""
        group: ModelScheduler | None = self
        while group is not None:
            if group.members:
                return True
            group = group.parent
        return False

    def missing(self, job: ModelJob) -> dict[str, float]:
        """Return which needs of a job cannot be met now, and when time alone meets them."""
        found = {}
        for name, need in job.plan.needs:
            resource = self.find(name)
            assert resource is not None, (job.name, name)
            when = resource.available_at(need)
            if when > -math.inf:
                found[name] = when
        return found

    def is_throttled(self, job: ModelJob) -> bool:
        """Return whether nothing may start on what a job needs, although it has got that."""
        return any(
            each is not None and each.is_closed(key)
            for each, key in self.resources(job)
        )

    def has_admitted(self) -> bool:
        """Where jobs need nothing but a slot, none is admitted while others that are admitted start."""
        is_shared = self.limiter() is not None or any(
            job.plan.needs for job in self.jobs
        )
        if self.last_start < self.world.now or is_shared or self.size == math.inf:
            return False
        return self.has_jobs_to_begin

    @property
    def has_jobs_to_begin(self) -> bool:
        """Return whether jobs of this scheduler were admitted and have not begun."""
        return any(
            job.parent is self and job.state == "SCHEDULED"
            for job in self.world.admitted
        )

    def before_last_without_slot(self) -> list[ModelJob]:
        """Return the jobs that wait up to the last one that takes no slot."""
        numbers = [job.number for job in self.queue if not job.takes_slot]
        last = max(numbers, default=-math.inf)
        return [job for job in self.queue if job.number <= last]

    def resources(self, job: ModelJob) -> set[tuple[ModelResource | None, str]]:
        """Return the resources that a job needs: each key has its own amount."""
        return {(self.find(name), key_of(need)) for name, need in job.plan.needs}

    def grant(self, job: ModelJob) -> None:
        """Needs are granted all at once or not at all."""
        for name, need in job.plan.needs:
            resource = self.find(name)
            assert resource is not None
            resource.take(need)
            resource.taken_by.append((self.world.now, key_of(need), self))
            job.reported.discard(name)
            job.held[name] = 1.0 if isinstance(need, str) else need
            kind = resource.plan.kind
            self.world.mark("pool" if kind == "amount" else kind)

    def doubt_need_of_one_instant(
        self, job: ModelJob, name: str, resource: ModelResource
    ) -> None:
        """With a journal, the jobs of a group become ready some turns later: maybe after a job has come and gone."""
        if not self.world.has_journal or job.began_attempt != self.world.now:
            return
        others = [
            group
            for group in self.world.schedulers
            if group is not self and group.find(name) is resource
        ]
        if any(name in dict(rival.plan.needs) for rival in queued_in(others)):
            self.world.doubt(
                "a group with a journal asks for what a job gives back as it starts"
            )

    def release_held(self, job: ModelJob) -> None:
        """A slot is released however the job ends, and so are its token and its needs."""
        self.holders.discard(job)
        limiter = self.limiter()
        if job in self.token_line:
            self.token_line.remove(job)
            self.count_unstarted(job, -1)
            if limiter is not None:
                limiter.drop_ticket(self.outermost(), self)
        if limiter is not None:
            limiter.holders.discard(job)
        for name, need in job.plan.needs:
            if name in job.held:
                resource = self.find(name)
                assert resource is not None
                self.doubt_need_of_one_instant(job, name, resource)
                share = job.held.pop(name)
                if job.is_admitted and isinstance(need, str) and resource.plan.of_rates:
                    resource.rate_of(need).correct(1.0, 0.0, self.world.now)
                if job.is_admitted and resource.plan.kind in ("rate", "budget"):
                    self.world.mark("does not start")
                    resource.correct(share, 0.0, self.world.now)  # it does not start
                if job.is_admitted and resource.plan.kind in ("rate", "budget", "keys"):
                    share = 0.0
                if (
                    isinstance(job, ModelScheduler)
                    and resource.plan.kind == "budget"
                    and name in job.members
                ):
                    used = job.members[
                        name
                    ].used  # a scheduler with such needs returns the rest
                    if used != share:
                        self.world.mark("budget of a scheduler")
                    resource.correct(share, used, self.world.now)
                    share = used
                if resource.plan.kind == "budget":
                    job.spent[name] = job.spent.get(name, 0.0) + share
                resource.give_back(need, share)
        job.is_admitted = False

    def take_token(self, job: ModelJob, limiter: ModelLimiter) -> bool:
        """A job never holds a token while it waits for needs or a slot; it may wait for a token with its needs."""
        now = self.world.now
        ended = [
            each
            for each in self.world.jobs.values()
            if each.finished == each.began_attempt == now
        ]
        # In some turns, in which what has ended lets others ask.
        begins = bool(ended) and self.began == now
        if not limiter.queue and len(limiter.holders) < limiter.tokens:
            if (
                begins
                and self.is_nested
                and len(limiter.holders) + len(ended) >= limiter.tokens
            ):
                self.world.doubt("two schedulers ask for a token at one instant")
            limiter.holders.add(job)
            return True
        self.world.mark("limiter")
        self.world.doubt_wake()
        rivals = [
            each.parent
            for each in limiter.holders
            if each.ready_at == job.ready_at == self.world.now
        ]
        if any(
            rival is not None
            and rival is not self
            and (begins or is_apart(rival, self))
            for rival in rivals
        ):
            self.world.doubt("two schedulers ask for a token at one instant")
        self.token_line.append(job)
        self.count_unstarted(job, 1)
        if limiter.asked_last is not self and limiter.asked_at == self.world.now:
            self.world.doubt("two schedulers ask for a token at one instant")
        limiter.asked_at = self.world.now
        limiter.asked_last = self
        limiter.queue.setdefault(self.outermost(), []).append(self)
        return False

    def outermost(self) -> ModelScheduler:
        """Return the scheduler whose run stands in the queue of a limiter for this one."""
        assert self.parent is not None or not self.is_nested
        if self.parent is not None and self.is_nested:
            return self.parent.outermost()
        return self

    def count_unstarted(self, job: ModelJob, sign: int) -> None:
        """What a job has of a rate accrues again only from its start, so no attempt exceeds the rate."""
        for name, need in job.plan.needs:
            resource = self.find(name)
            if (
                resource is not None
                and isinstance(need, str)
                and resource.plan.of_rates
            ):
                resource.rate_of(need).count_unstarted(1.0, sign)
            elif (
                resource is not None
                and resource.plan.kind == "rate"
                and not isinstance(need, str)
            ):
                resource.count_unstarted(need, sign)

    def use(self, job: ModelJob, name: str, amount: float) -> None:
        """Correct what a job has of a rate or a budget."""
        resource = self.find(name)
        if resource is not None and name in job.held:
            self.world.mark("used")
            self.world.doubt_wake()
            resource.correct(job.held[name], amount, job.began_attempt)
            job.held[name] = amount
            job.reported.add(name)
            self.world.soon.append(lambda: admit_all(self.world))

    def throttle(self, job: ModelJob, name: str, after: float) -> None:
        """When `Throttled` leaves a job, nothing starts on that key for `after` seconds."""
        resource = self.find(name)
        assert resource is not None
        key = next(
            (
                need
                for each, need in job.plan.needs
                if each == name and isinstance(need, str)
            ),
            "",
        )
        until = self.world.now + min(
            after, math.inf if resource.plan.give_up is None else resource.plan.give_up
        )
        self.world.doubt_wake()
        if until > resource.closed_until.get(key, -math.inf):
            resource.closed_until[key] = until
        job.throttled_until = resource.closed_until[key]
        if resource.plan.give_up is not None:
            job.gives_up = resource.plan.give_up
        if job.began_attempt - job.throttled_since >= job.gives_up:
            self.world.mark("give_up")
            return
        # The attempt does not count: what it has reserved of budgets comes back, unless it was used.
        for each in job.held.keys() - job.reported:
            resource = self.find(each)
            if resource is not None and resource.plan.kind == "budget":
                if job.held[each]:
                    self.world.mark("throttled with a budget")
                resource.correct(job.held[each], 0.0, job.began_attempt)
                job.held[each] = 0.0

    def result(self) -> Any:
        values = [job.value for job in self.winners]
        if self.plan.enough is None:
            return True
        return values[0] if self.plan.enough == 1 else values

    # ---- the end of a job

    def is_over(self) -> bool:
        """The run ends when there have been other jobs than forever jobs and all of them have settled."""
        if self.draining:
            return (
                not any(not job.plan.forever for job in self.running)
                or self.asks_in_vain()
            )
        ordinary = [job for job in self.jobs if not job.plan.forever]
        if self.world.drops and not self.is_nested:
            # It is open: forever jobs end with its body, whether there have been others or not.
            return (
                not any(job.state in UNSETTLED for job in ordinary)
                or self.asks_in_vain()
            )
        return (
            not any(job.state in UNSETTLED for job in ordinary or self.jobs)
            or self.asks_in_vain()
        )

    def has_settled(self, job: ModelJob) -> None:
        """Take back what a job had, judge its end, and let others start."""
        if job.held:
            self.world.doubt_wake()
        began = job.began_attempt
        job.attempt_problem = job.problem
        was_full = len(self.holders) >= self.size
        was_running = job in self.running
        for jobs in (self.running, self.queue):
            if job in jobs:
                jobs.remove(job)
        self.release_held(job)
        if job.started is not None:
            self.tell_adaptive(job, began, was_full)
        self.note_settled(job)
        self.doubt_culprit(job)
        self.show_signs()
        if self.stopping:
            ends = self.why_stopped != "COMPLETED"
        else:
            ends = self.draining
        job.ended_with_run = was_running and ends and not job.alone
        if self.stopping:
            self.pass_on_and_wind_down()
        elif job.counts and job.criticality:
            # True: its failure (BLOCKED included) ends the run of its scheduler at once.
            self.stop("CRITICAL", job)
        else:
            if self.plan.enough is not None:
                self.judge_first(job)
            if not job.is_uncounted:
                self.release(job.name)
            self.move()

    def doubt_culprit(self, job: ModelJob) -> None:
        """Give up exactness if a scheduler and another job are the first to fail, in one instant with two causes."""
        first = [each for each in self.jobs if each.state == "FAILED" and each.counts]
        if any(each.finished != self.world.now for each in first) or not (
            job in first and self.world.is_tied()
        ):
            return
        if len(first) > 1 and any(isinstance(each, ModelScheduler) for each in first):
            self.world.doubt("a scheduler fails as another job does")

    def tell_adaptive(self, job: ModelJob, began: float, was_full: bool) -> None:
        """Let an `Adaptive` window know of an attempt that has ended: each attempt counts."""
        if self.adaptive is None or job in self.clean_up_jobs:
            return
        if began < 0 or not job.takes_slot:
            return
        why = job.attempt_problem
        if job.state == "SUCCEEDED":
            size = self.adaptive.size
            self.adaptive.has_succeeded(began, self.world.now, was_full)
            follows = any(job.name in each.waits_for for each in self.jobs)
            took_no_time = began == self.world.now and not was_full
            is_filled = len(self.holders) + len(self.queue) >= size
            has_grown = self.adaptive.size > size
            others_start = (took_no_time and is_filled) or (has_grown and follows)
            is_next = took_no_time and follows
            if is_next or (self.queue and others_start):
                self.world.doubt("a window grows as jobs become ready")
            return
        shows_overload = why is not None and bool({"Slow", "Throttled"} & {*why.leaves})
        if (
            job.state in ("FAILED", "SCHEDULED")
            and shows_overload
            and self.adaptive.is_overloaded(began, self.world.now)
        ):
            self.world.mark("Adaptive shrinks")

    def show_signs(self) -> None:
        """An event is a sign of life of the scheduler and of those around it."""
        group: ModelScheduler | None = self
        while group is not None:
            if (
                group.under_way
                and not group.stopping
                and group.plan.idle_timeout is not None
            ):
                group.show_life()
            group = group.parent

    def note_settled(self, job: ModelJob) -> None:
        """`on_job_settled` gets each of its jobs as it settles."""
        if self.plan.on_job_settled is not None or self.plan.calls:
            self.world.mark("on_job_settled")
            self.world.settled.append((self.name, job.name))
            self.call_back("settled", job)

    def call_back(self, hook: str, job: ModelJob) -> None:
        """Note what functions do that are told of a job: it takes effect after the step of which they are told."""
        number = self.world.told[hook, job.name]
        self.world.told[hook, job.name] += 1
        for call in self.plan.calls:
            if (call.hook, call.who, call.number) != (hook, job.name, number):
                continue
            if isinstance(call.step, Steer) and not self.may_try(call.step.who, job):
                continue
            self.world.calls_due.append((self, job, call.step))

    def may_try(self, who: str, told: ModelJob) -> bool:
        """Return whether a word to try a job again is accepted. What waits for a success then waits on."""
        wanted = self.world.jobs.get(who)
        if wanted is None:
            return False
        if wanted in self.world.schedulers:
            return True
        member = member_of_run(wanted)
        group = member.parent
        if member is wanted and wanted.state in UNSETTLED:
            return False
        if not isinstance(group, ModelScheduler) or not group.goes_on:
            return False
        if member not in group.jobs:
            # An earlier run of the group was added it.
            return False
        if member is told and told.state == "SUCCEEDED" and not self.world.drops:
            told.is_uncounted = True
            self.world.stored.pop(told.name, None)
        return True

    def has_become_ready(self, job: ModelJob) -> None:
        """Release the jobs that wait for a service."""
        self.show_signs()
        if self.phase == "cleaning up":
            self.clean_up()
        elif not self.stopping:
            self.release(job.name)
            self.move()

    # ---- growing

    def grow(self, plans: Sequence[Plan]) -> None:
        """Add jobs during the run."""
        if self.stopping or self.draining:
            return
        self.world.mark("add")
        self.held_up = self.is_released = False
        new = [self.admit(inner) for inner in plans]
        if any(job.plan.needs for job in self.jobs):
            self.note_line()
        if self.queue and any(job.plan.forever for job in new):
            # It may start before a job that gets the slot of the adding one.
            self.world.doubt("a forever job is added")
        if self.plan.policy == "auto" and self.usual is None:
            self.learn_durations(new)
        elif self.usual is not None:
            known = {
                plan.name: plan.expected for plan in plans if plan.expected is not None
            }
            for name, rank in self.paths(plans, known, self.usual).items():
                self.world.jobs[name].rank = rank
        self.link(new)
        self.show_signs()
        self.make_ready(new)
        # The body takes no time, and others may become ready at its end.
        if self.world.is_admitting:
            admit_all(self.world)
        self.world.soon.append(self.move_on)

    def learn_durations(self, new: Sequence[ModelJob]) -> None:
        """With "auto", the first expected duration lets the critical path decide among all jobs, waiting ones too."""
        known = {
            job.name: job.plan.expected for job in new if job.plan.expected is not None
        }
        if known:
            self.usual = statistics.median(known.values())
            own = {plan.name for plan in self.plan.jobs}
            plans = [
                *self.plan.jobs,
                *(job.plan for job in self.jobs if job.name not in own),
            ]
            for name, rank in self.paths(plans, known, self.usual).items():
                self.world.jobs[name].rank = rank

    def bind(self, later: str, earlier: str) -> None:
        """A running scheduler accepts `requires` on IDLE jobs."""
        if self.stopping or self.draining:
            return
        user = self.world.jobs.get(later)
        requirement = self.world.jobs.get(earlier)
        if user is None or requirement is None or user.state != "IDLE":
            return
        self.world.mark("bind")
        self.world.bound.add((later, earlier))
        if earlier not in user.waits_for:
            if requirement.is_waited_for:
                user.waits_for.add(earlier)
            # If the requirement has failed: its users wait in this order when it is tried again.
            self.late.setdefault(earlier, []).append(user)

    # ---- First

    def competitors(self) -> list[ModelJob]:
        """Return the members that no other requires, and whose success decides."""
        required: set[str] = set()
        for job in self.jobs:
            required.update(each.name for each in job.requires())
        return [job for job in self.jobs if job.name not in required]

    def may_start(self, job: ModelJob) -> bool:
        """With `stagger` a job starts when the one before it has failed, or that many seconds after its start."""
        if self.plan.enough is None or self.plan.stagger is None:
            return True
        turn = self.turn_of(job)
        return turn is None or self.competitors().index(turn) < self.open_turns

    def turn_of(self, job: ModelJob) -> ModelJob | None:
        """Return the competitor in whose turn a job starts: the first that needs it."""
        for competitor in self.competitors():
            needed = [competitor]
            for needing in needed:
                needed += [
                    other
                    for other in needing.requires()
                    if other.parent is self and other not in needed
                ]
            if job in needed:
                return competitor
        return None

    def open_due_turns(self) -> None:
        """Open the next turn as long as the last open one gives no reason to wait."""
        if self.plan.enough is None or self.plan.stagger is None:
            return
        line = self.competitors()
        while self.open_turns < len(line) and not self.decided:
            if self.open_turns and self.must_wait_after(line[self.open_turns - 1]):
                return
            self.open_turn()

    def must_wait_after(self, last: ModelJob) -> bool:
        """Return whether the turn after that of `last` opens only by time."""
        if last.state != "SUCCEEDED":
            return last.state in UNSETTLED
        is_new = not last.restored and last not in self.kept_winners
        assert self.plan.stagger is not None
        return is_new and self.plan.stagger < math.inf

    def open_turn(self) -> None:
        """Let the next job, and those that it needs, start as any job does."""
        competitor = self.competitors()[self.open_turns]
        self.open_turns += 1
        self.turn_began = None
        if not self.under_way:
            return
        for job in self.jobs:
            is_free = job.state == "IDLE" and not job.waits_for
            if is_free and self.turn_of(job) is competitor:
                self.make_one_ready(job)

    def has_started(self, job: ModelJob) -> None:
        """Open the next turn some seconds after the start of the job of the last one."""
        if self.plan.enough is None or self.plan.stagger is None:
            return
        line = self.competitors()
        turn = self.open_turns
        others_follow = 0 < turn < len(line)
        is_first = others_follow and self.turn_began is None
        if is_first and self.turn_of(job) is line[turn - 1]:
            self.turn_began = self.world.now

            def due() -> None:
                if self.open_turns == turn and not self.stopping and not self.draining:
                    self.world.mark("stagger")
                    self.show_signs()
                    self.open_turn()
                    self.open_due_turns()
                    self.move()

            self.timers.append(self.world.after(self.plan.stagger, due))

    def decide(self, job: ModelJob, reason: str) -> None:
        """End a `First`, whose result `job` has decided. What this job had is free before."""
        self.decided = True
        self.reason = reason
        rivals = [
            each
            for each in self.competitors()
            if isinstance(each, ModelScheduler) and each is not job
        ]
        is_open = any(
            each.finished == self.world.now or (each.under_way and each.is_over())
            for each in rivals
        )
        admit_all(self.world)
        # A rival may be over as soon as what is in it starts. A group that ends as jobs in it have just begun takes
        # some turns, in which others start.
        took_no_time = any(
            each.began_attempt == self.world.now
            for each in everything(job)
            if each is not job
        )
        starters = [*rivals, self] if took_no_time else rivals
        # It may be over as soon as that starts.
        if is_open or any(each.parent in starters for each in self.world.admitted):
            self.world.doubt("a group of a First ends as another decides")
        self.stop(reason)

    def judge_first(self, job: ModelJob) -> None:
        """It has succeeded as soon as `enough` of its jobs have; when too many have failed, it is FAILED."""
        line = self.competitors()
        assert self.plan.enough is not None
        if self.decided or job not in line:
            return
        is_of_schedulers = any(isinstance(each, ModelScheduler) for each in line)
        if is_of_schedulers and self.world.has_journal:
            self.world.doubt("a First of schedulers with a journal")
        has_line = self.size < math.inf and bool(self.queue)
        if self.world.now == self.began and (is_of_schedulers or has_line):
            self.world.doubt("a First takes no time")
        if job.state == "SUCCEEDED":
            self.winners.append(job)
        if len(self.winners) >= self.plan.enough:
            self.world.mark("First" if self.plan.enough == 1 else "quorum")
            self.decide(job, "COMPLETED")
            return
        left = [each for each in line if each.state in UNSETTLED]
        if len(self.winners) + len(left) < self.plan.enough:
            losers = sorted(
                (each for each in line if each.state not in (*UNSETTLED, "SUCCEEDED")),
                key=lambda each: each.settled_as,
            )
            if self.draining and any(each.state == "CANCELLED" for each in losers):
                return  # the drain, not the losers, has kept it from its result
            pairs = combinations(
                [each for each in losers if isinstance(each, ModelScheduler)], 2
            )
            if any(one.finished == other.finished for one, other in pairs):
                self.world.doubt("two groups of a First fail at one instant")
            why = [each.problem or problem(RAISED_FOR[each.state]) for each in losers]
            self.first_problem = group_of(why)
            if all(each.text == "BudgetSpent" for each in why):
                self.first_problem = why[0]
            self.decide(job, "CRITICAL")
            return
        self.open_due_turns()

    # ---- ending

    def is_cleaning_up(self, job: ModelJob) -> bool:
        """Return whether a job is one of the clean-up jobs of a run that stops."""
        return (
            self.stopping
            and self.why_stopped in ("CRITICAL", "TIMEOUT")
            and job in self.clean_up_jobs
        )

    why_stopped = ""  # after a drain, this may differ from the reason

    def unwind(self) -> None:
        """Be cancelled; while ordinary jobs unwind already, cancel them once more."""
        if self.phase == "unwinding":
            self.phase = "telling"
            for job in list(self.running):
                if not job.plan.forever:
                    job.cancel()
            self.phase = "unwinding"
            self.wind_down()
        self.stop("CANCELLED")

    def was_idle(self) -> None:
        """The timeout of a scheduler without any event cancels everything."""
        self.idle_timer = None
        self.idled_at = self.world.now
        self.world.mark("idle_timeout")
        if self.world.is_tied():
            self.world.doubt("an idle timeout ends in the instant of something else")
        self.stop("TIMEOUT")

    def drain(self) -> None:
        """No more jobs start, and those that are running end by themselves. There is no other attempt."""
        self.is_last = True
        if any(each.stopping and each.clean_up_jobs for each in self.around()):
            self.world.mark("drain in a clean-up")
        if self.stopping or self.draining:
            return
        self.world.mark("drain")
        if self.world.is_tied() and any(
            isinstance(job, ModelScheduler) for job in self.running
        ):
            self.world.doubt("a drain comes in the instant of something else")
        groups = [*self.begin_to_drain()]
        for group in groups:
            for job in group.jobs:
                if job.state == "SCHEDULED":
                    job.settle("CANCELLED")  # what was SCHEDULED ends CANCELLED
            for job in [job for job in group.jobs if job.state == "IDLE"]:
                group.tell_unreached(job)
        self.world.soon.append(partial(move_all, groups))

    def around(self) -> Iterator[ModelScheduler]:
        """Yield the scheduler, and those around it."""
        level: ModelScheduler | None = self
        while level is not None:
            yield level
            level = level.parent

    def begin_to_drain(self) -> Iterator[ModelScheduler]:
        """Drain, and so does each scheduler in it, before any job ends for that."""
        if not (self.stopping or self.draining):
            self.draining = True
            self.reason = self.reason or "DRAINED"
            yield self
            for job in list(self.running):
                if isinstance(job, ModelScheduler):
                    yield from job.begin_to_drain()

    def will_not_start(self, job: ModelJob) -> bool:
        """Return whether an IDLE job is never reached: after a drain, or while the last attempt of its run ends."""
        may_come = (
            self.why_stopped in ("CRITICAL", "TIMEOUT")
            and job.plan.run_if == "failed"
            and not job.plan.forever
        )
        group: ModelScheduler | None = self
        while group is not None:
            may_come = may_come or (group.plan.retry is not None and not self.draining)
            group = group.parent
        return (self.draining or self.stopping) and not may_come

    def tell_unreached(self, job: ModelJob) -> None:
        """Waiting for a job raises `JobNotDone` if the run ends without reaching it."""
        if not self.will_not_start(job):
            return
        awaiters = job.awaiters
        job.awaiters = []
        self.world.soon.extend(awaiters)

    @property
    def is_nested(self) -> bool:
        """Return whether the run is one of a job, and not the outermost one, or one of those that share a pool."""
        return self.parent is not None and not (
            self.world.apart and self.parent.parent is None
        )

    def stop(self, reason: str, culprit: ModelJob | None = None) -> None:
        """(1) No more jobs start. RUNNING and SCHEDULED jobs are cancelled and unwind. The first reason wins."""
        if self.under_way and (reason != "COMPLETED" or self.plan.enough is not None):
            for job in (self, *self.jobs):
                job.doubt_idle()
        if self.stopping or not self.under_way:
            return
        if self.world.tries_due:
            self.world.doubt("a scheduler stops as a job is to be tried again")
        if reason != "COMPLETED":
            self.world.doubt_wake()
        self.drop_timers()
        self.stop_idle_timer()
        if (
            self.parent is not None
            and self.world.restores
            and self.world.now == self.began
        ):
            self.world.doubt("a nested scheduler takes no time")
        ended = any(
            isinstance(job, ModelScheduler) and job.finished == self.world.now
            for job in self.jobs
        )
        if ended and any(job.began_attempt == self.world.now for job in self.running):
            # And both end with this one.
            self.world.doubt("a nested scheduler ends as another job starts")
        others = [
            group
            for group in self.world.schedulers
            if group is not self and group.began == self.world.now
        ]
        waiting = any(job.state == "SCHEDULED" for job in members_of(others))
        cuts_off = reason != "COMPLETED" or self.plan.enough is not None
        if waiting and self.running and cuts_off:
            # The jobs of the other scheduler may get what this one has, or end with it.
            self.world.doubt("a scheduler stops as another starts")
        inner = [job for job in self.running if isinstance(job, ModelScheduler)]
        if cuts_off and any(each.is_tied for each in everything_in(inner)):
            self.world.doubt("a scheduler stops as jobs of another in it start or end")
        forever = [job for job in self.jobs if job.plan.forever]
        if reason != "COMPLETED" and any(
            isinstance(each, ModelScheduler) and each.token_line
            for each in everything_in(forever)
        ):
            self.world.doubt(
                "a job gets the token of one that ends as its scheduler does"
            )
        if reason == "CRITICAL" and any(
            job.has_awaited_failure and job.finished == self.world.now
            for job in self.jobs
        ):
            # As what follows that job starts.
            self.world.doubt("a scheduler stops for what a job has awaited")
        if (
            culprit is not None
            and culprit.is_service
            and any(job.began_attempt == self.world.now for job in self.running)
        ):
            self.world.doubt("a service fails as jobs that require it start")
        self.stopping = True
        self.phase = "telling"
        self.why_stopped = reason
        if self.reason is None:
            self.reason = reason
            self.culprit = None if culprit is None else culprit.name
        if reason == "CRITICAL":
            self.world.mark("critical")
        for job in self.jobs:
            if job.state == "SCHEDULED":
                job.settle("CANCELLED")
        had = [job for job in self.world.jobs.values() if job.held]
        for job in list(self.running):
            if not job.plan.forever:
                job.cancel()
        for job in [job for job in self.jobs if job.state == "IDLE"]:
            self.tell_unreached(job)
        self.phase = "unwinding"
        starting = filter(can_start, self.world.schedulers)
        in_need = [job for job in queued_in(starting) if job.plan.needs]
        released = [job for job in had if not job.held]
        if len(in_need) > 1 and len(released) > 1:
            # And the first may do for a later one.
            self.world.doubt("several jobs release their needs at one instant")
        self.pass_on_and_wind_down()

    def pass_on_and_wind_down(self) -> None:
        """What its jobs had is free before this scheduler ends, and so is what others had that end with it."""
        if any(group.phase == "telling" for group in self.world.schedulers):
            self.world.soon.append(self.pass_on_and_wind_down)
            return
        admit_all(self.world)
        self.wind_down()
        admit_all(self.world)

    def wind_down(self) -> None:
        """Continue the ending as far as possible now."""
        if self.phase == "unwinding" and all(job.plan.forever for job in self.running):
            self.begin_clean_up()
        if self.phase == "cleaning up":
            self.clean_up()
        if self.phase == "unwinding forever" and all(
            job.is_service for job in self.running
        ):
            self.end_services()
        if self.phase == "unwinding services":
            self.end_next_services()
        if self.phase == "unwinding services" and not self.running:
            self.drop_timers()
            self.phase = "shutting down"
            seconds = self.shut_down_jobs()
            if seconds:
                self.world.after(seconds, self.end)
            else:
                self.end()

    def begin_clean_up(self) -> None:
        """(2) After CRITICAL or TIMEOUT of this very scheduler, the clean-up jobs run."""
        if self.why_stopped in ("CRITICAL", "TIMEOUT"):
            self.phase = "cleaning up"
            self.clean_up_ends = self.world.now + self.plan.cleanup_timeout
            if self.due():
                self.timers.append(
                    self.world.after(self.plan.cleanup_timeout, self.cut_clean_up)
                )
        else:
            self.end_forever()

    def due(self) -> list[ModelJob]:
        """A `run_if="failed"` job still runs if all its requirements have settled and at least one of them failed. This
        is decided once, when the last of them has settled, or is a service that has become ready."""
        found = []
        for job in self.jobs:
            is_left = job.state == "IDLE" and job not in self.left_out
            if is_left and job.plan.run_if == "failed" and not job.plan.forever:
                self.link([job])
                if job.waits_for:
                    continue
                if job.judge()[0] == "SCHEDULED":
                    found.append(job)
                else:
                    self.left_out.append(job)
        return found

    def clean_up(self) -> None:
        """Run the clean-up jobs that are due, then those that have become due, until there are none."""
        while self.phase == "cleaning up":
            due = []
            if self.world.now < self.clean_up_ends:
                due = self.due()
            if not due:
                waits = any(job.backoff is not None for job in self.clean_up_jobs)
                if all(job.plan.forever for job in self.running) and not waits:
                    self.drop_timers()
                    self.end_forever()
                return
            self.phase = "telling"
            for job in due:
                job.state = "SCHEDULED"
                self.world.hook("scheduled", job.name)
                self.call_back("scheduled", job)
                self.clean_up_jobs.append(job)
                self.begin_clean_up_job(job)
                if job.plan.needs:
                    self.world.mark("clean-up with needs")
            take_calls(self.world)
            for job in sorted(due, key=lambda job: (-job.plan.priority, -job.rank)):
                if job.state == "SCHEDULED":
                    job.start()
            self.phase = "cleaning up"

    def begin_clean_up_job(self, job: ModelJob) -> None:
        """Clean-up jobs get their needs at once."""
        self.running.append(job)
        self.grant(job)

    def cut_clean_up(self) -> None:
        """It runs shielded, within `cleanup_timeout` seconds."""
        self.phase = "telling"
        retried = [job for job in self.clean_up_jobs if job.backoff is not None]
        for job in [*self.running, *retried]:
            if not job.plan.forever:
                job.cancel()
        self.phase = "cleaning up"
        self.wind_down()

    def end_forever(self) -> None:
        """(3) Forever jobs are cancelled."""
        self.doubt_awaits()
        groups = [job for job in self.running if isinstance(job, ModelScheduler)]
        inside: list[ModelJob] = []
        for group in groups:
            inside += group.running
        # What a cancelled job had may have been all that was missing.
        for job in self.jobs:
            has_ended = job.plan.forever and job.finished == self.world.now
            if isinstance(job, ModelScheduler) and has_ended:
                inside += everything(job)
        # What it had may let others start.
        is_left = any(job.finished == self.world.now for job in self.jobs)
        may_start = is_left and any(group.queue for group in groups)
        if may_start or any(
            job.began_attempt == self.world.now or job.is_tied for job in inside
        ):
            self.world.doubt("a job of a forever scheduler starts as that ends")
        self.phase = "telling"
        self.forever_ended = True
        for job in list(self.running):
            if not job.is_service:
                job.end_with_run()
        self.phase = "unwinding forever"
        if self.running and self.world.cancels_once:
            self.timers.append(
                self.world.after(self.plan.shutdown_timeout, self.end_forever_at_once)
            )

    def end_forever_at_once(self) -> None:
        """Cancel the forever jobs that are left at each of their waits, because their time is up."""
        self.phase = "telling"
        for job in list(self.running):
            if not job.is_service:
                job.at_each_wait = True
                job.end_with_run()
        self.phase = "unwinding forever"
        self.wind_down()

    def doubt_awaits(self) -> None:
        """Give up exactness if what a forever job awaits ends as that job is told to end."""
        if any(
            job.plan.forever and job.resumed_at == self.world.now for job in self.jobs
        ):
            self.world.doubt("what a job awaits ends as the job is cancelled")

    def end_services(self) -> None:
        """(4) Services are ended, users before what they use, all within one `shutdown_timeout`."""
        self.drop_timers()
        self.phase = "unwinding services"
        users = {job: self.users(job) for job in self.running}
        is_chain = all(
            job in users[other] or other in users[job]
            for job, other in combinations(self.running, 2)
        )
        if (
            any(users.values())
            and not is_chain
            and any(unwinds(job) for job in self.running)
        ):
            self.world.doubt("the order among services that do not use each other")
        if self.running:
            self.timers.append(
                self.world.after(self.plan.shutdown_timeout, self.end_all_services)
            )

    def end_next_services(self) -> None:
        """Cancel the services that no running one uses."""
        self.doubt_awaits()
        self.phase = "telling"
        while unused := [
            job for job in self.running if not job.told and not self.users(job)
        ]:
            for job in unused:
                job.end_with_run()
        self.phase = "unwinding services"

    def end_all_services(self) -> None:
        """Cancel all services, because their time is up."""
        self.phase = "telling"
        for job in list(self.running):
            job.at_each_wait = True
            job.end_with_run()
        self.phase = "unwinding services"
        self.wind_down()

    def users(self, service: ModelJob) -> list[ModelJob]:
        """Return the running jobs that require a service, directly or through others."""
        users = {service.name}
        for _ in self.jobs:
            for job in self.jobs:
                if not users.isdisjoint(self.required(job.plan)):
                    users.add(job.name)
        return [job for job in self.running if job is not service and job.name in users]

    def shut_down_jobs(self) -> float:
        """(5) `co_shutdown` is called on each job, started or not, concurrently, within `shutdown_timeout`."""
        return min(
            self.plan.shutdown_timeout,
            max((job.shut_down() for job in self.jobs), default=0.0),
        )

    def shut_down(self) -> float:
        """Shut down the jobs of a scheduler that was never run; otherwise its runs have done it."""
        if self.reason is not None:
            return 0.0
        return self.shut_down_jobs()

    def failures(self) -> list[ModelJob]:
        """Return the jobs whose failures count, those in nested schedulers in place of these, in order."""
        found: list[ModelJob] = []
        for job in self.jobs:
            if isinstance(job, ModelScheduler) and self.gives_its_own(job):
                found += job.failures()
            elif job.counts:
                found.append(job)
        causes = {job.problem for job in found}
        causes |= {job.problem for job in self.jobs if job.counts}
        reported: list[ModelJob] = []
        for job in found:
            root = None if job.problem is None else job.problem.root
            if root is None or root not in causes:
                reported.append(job)
        return sorted(reported, key=lambda job: job.settled_as)

    def gives_its_own(self, group: ModelScheduler) -> bool:
        """Return whether the failures in a nested scheduler are reported in its place."""
        if group.first_problem is not None:
            return False
        has_culprit = group.culprit is not None and group.plan.enough is None
        return self.is_cut_off_with(group) or (group.counts and has_culprit)

    def is_cut_off_with(self, job: ModelJob) -> bool:
        """Return whether a nested scheduler was cut off with this one, not at its end, or alone: its failures count."""
        return (
            job.ended_with_run
            and job.state == "CANCELLED"
            and job.criticality is not False
        )

    def kept(self) -> frozenset[str]:
        """Return the names of the members that are left where no job is kept that has settled. What was critical or
        counts has to be reported, and what has a shutdown of its own is kept until then."""
        groups = [job for job in self.jobs if isinstance(job, ModelScheduler)]
        cut_off = {
            job.name for job in groups if self.is_cut_off_with(job) and job.failures()
        }
        own = {
            job.name
            for job in self.jobs
            if job.state in UNSETTLED or job.counts or job.has_shutdown
        }
        return frozenset(own | cut_off)

    def failed_in_drained(self) -> bool:
        """Return whether a failure counts in a forever scheduler that a drain, and not `cancel()`, has cut off."""
        groups = [
            job
            for job in self.jobs
            if isinstance(job, ModelScheduler) and job.state == "CANCELLED"
        ]
        return any(
            group.criticality is not False and not group.asked and group.failures()
            for group in groups
        )

    def end(self) -> None:
        """(6) The run is over: it settles as a job of the outer scheduler."""
        self.phase = "over"
        self.under_way = False
        self.drop_timers()
        self.world.schedulers.remove(self)
        if (
            self.reason == "DRAINED"
            and self.why_stopped in ("COMPLETED", "CANCELLED")
            and self.is_nested
        ):
            ordinary = [job for job in self.jobs if not job.plan.forever]
            if self.plan.enough is None and all(
                job.state not in (*UNSETTLED, "CANCELLED") for job in ordinary
            ):
                self.reason = "COMPLETED"  # a drain has kept no job of this nested run from its end
        counting = [job for job in self.jobs if job.counts]
        failed = [
            job
            for job in counting
            if job.problem is not None and job.problem.root is None
        ]
        if any(
            job.has_awaited_failure and each.finished == job.finished
            for job, each in permutations(failed, 2)
        ):
            self.world.doubt("a job raises what it awaited as another fails")
        if self.reason == "COMPLETED" and counting:
            self.reason = "FAILED"
            self.culprit = min(counting, key=lambda job: job.settled_as).name
        elif self.reason == "COMPLETED" and self.draining and self.failed_in_drained():
            self.reason = "FAILED"
        self.world.hook("after_run", self.name)
        ended = [
            job
            for job in self.world.jobs.values()
            if job.finished == self.world.now == self.world.tied_at
        ]
        groups = [
            job
            for job in ended
            if isinstance(job, ModelScheduler) and is_apart(job, self)
        ]
        if groups and any(group.plan.enough is not None for group in (self, *groups)):
            self.world.doubt("a First ends as another scheduler does")
        if self.parent is not None and self.world.now == self.began:
            self.world.doubt("a nested scheduler takes no time")
        if self.asked:
            self.settle("CANCELLED")
        elif self.reason == "TIMEOUT":
            self.has_timed_out()
        elif self.reason == "DRAINED":
            self.settle("CANCELLED")
        elif self.first_problem is not None and self.reason == "CRITICAL":
            self.has_raised(self.first_problem)
        elif self.reason in ("FAILED", "CRITICAL"):
            problems = [
                job.problem for job in self.failures() if job.problem is not None
            ]
            self.has_raised(group_of(problems))
        else:
            self.settle("SUCCEEDED" if self.reason == "COMPLETED" else "FAILED")


def group_of(problems: Sequence[Problem]) -> Problem:
    """Return the exception that holds these."""
    texts = ", ".join(each.text for each in problems)
    leaves = chain.from_iterable(each.leaves for each in problems)
    return Problem(f"ExceptionGroup {texts}", tuple(leaves))


def key_of(need: float | str) -> str:
    """Return the key that a need names, or an empty text."""
    return need if isinstance(need, str) else ""


def starts_at_once(job: ModelJob) -> bool:
    """Return whether a job waits for nothing, and will run."""
    return not job.waits_for and job.judge()[0] == "SCHEDULED"


def is_settled_at_once(job: ModelJob) -> bool:
    """Return whether a job waits for nothing, and is SKIPPED or BLOCKED."""
    return not job.waits_for and job.judge()[0] != "SCHEDULED"


def queued_in(groups: Iterable[ModelScheduler]) -> Iterator[ModelJob]:
    """Yield the jobs that wait in schedulers for what they need."""
    return chain.from_iterable(group.queue for group in groups)


def members_of(groups: Iterable[ModelScheduler]) -> Iterator[ModelJob]:
    """Yield the members of schedulers."""
    return chain.from_iterable(group.jobs for group in groups)


def move_all(groups: Iterable[ModelScheduler]) -> None:
    """Start what can start in schedulers whose runs go on."""
    for group in groups:
        group.move_on()


def unwinds(job: ModelJob) -> bool:
    """Return whether a job may take time to unwind."""
    plan = job.plan
    return isinstance(plan, Leaf) and (
        plan.linger > 0 or plan.reaction is Reaction.GO_ON
    )


def admit_all(world: World) -> None:
    """Start the jobs that can start, in all schedulers, in order, until none can."""
    if any(group.phase in ("releasing", "telling") for group in world.schedulers):
        world.soon.append(lambda: admit_all(world))
        return
    take_calls(world)
    take_round(world)
    if world.is_admitting:
        return  # they start after those that have been admitted before
    world.is_admitting = True
    try:
        while world.admitted:
            job = world.admitted.popleft()
            group = job.parent
            if group is None or job.state != "SCHEDULED" or not can_start(group):
                continue
            if group.is_throttled(job):  # it waits again, in its old place
                group.release_held(job)
                group.queue.append(job)
            else:
                begin(job)
            take_round(world)
    finally:
        world.is_admitting = False
    if world.wake is not None:
        world.wake.live = False
    world.wake = None
    if world.next_start < math.inf:
        if abs(world.woken_at - world.now) < SAME:
            world.was_woken_at = world.now
        world.wake = world.after(world.next_start - world.now, partial(wake, world))
        world.woken_at = world.next_start
    for group in world.schedulers[::-1]:
        group.check_over()


def take_calls(world: World) -> None:
    """Do what functions do that were told of a step, before the next job starts."""
    while world.calls_due:
        group, job, step = world.calls_due.popleft()
        match step:
            case Steer(who, "try_again") if world.jobs[who] in world.tries_due:
                # Both words are one.
                continue
            case Steer(who, "try_again"):
                world.mark("callback tries again")
                wanted = world.jobs[who]
                world.tries_due.append(wanted)
                action = partial(try_late, world, wanted, job)
                if wanted.state == "SUCCEEDED":
                    # What was to be taken back comes first.
                    world.soon.appendleft(action)
                else:
                    world.soon.append(action)
            case Cancel(who):
                mechanism = "callback cancels"
                target = world.jobs.get(who)
                if target is not None and target.state == "RUNNING":
                    world.soon.append(partial(cancel, world, who, mechanism))
                else:
                    cancel(world, who, mechanism)
            case Add(plans):
                world.mark("callback adds")
                group.grow(plans)
                ready = [each for each in group.queue if each.ready_at == world.now]
                if len(ready) > 1 and group.has_order:
                    # What was added first may be admitted before.
                    world.doubt("a job becomes ready as others start")
            case _:
                raise AssertionError(step)


def try_late(world: World, wanted: ModelJob, told: ModelJob) -> None:
    """Try a job again in the turn after the step of which a function was told. What cannot be done lets others wait no
    more."""
    world.tries_due.remove(wanted)
    if any(each.began_attempt == world.now for each in users_of(world, wanted, wanted)):
        world.doubt("a job is tried again as what uses it starts")
    if isinstance(wanted.parent, ModelScheduler) and wanted.parent.has_order:
        # What comes in one turn comes in the loop's order.
        if any(each.began_attempt == world.now for each in world.jobs.values()):
            world.doubt("a job is tried again as others start")
    is_told = told.is_uncounted and member_of_run(wanted) is told
    try_again(world, wanted)
    group = told.parent
    if is_told and told.state == "SUCCEEDED" and group is not None:
        told.is_uncounted = False
        if group.phase == "running":
            group.release(told.name)
            group.move()
    for each in world.schedulers[::-1]:
        each.check_over()


def wake(world: World) -> None:
    """Time alone lets jobs start. What ends in the same instant may come first, and let others start before them."""
    seen = len(world.hooks)
    admit_all(world)
    if len(world.hooks) > seen and world.is_tied():
        world.doubt("time lets jobs start in the instant of something else")


def block_unaffordable(world: World) -> None:
    """A job waits as long as what running jobs have reserved could come back, and then ends BLOCKED: `BudgetSpent`."""
    waiting = queued_in(filter(goes_on, world.schedulers))
    for job in sorted(waiting, key=lambda job: job.number):
        group = job.parent
        assert group is not None
        found = [(group.find(name), need) for name, need in job.plan.needs]
        if job.state == "SCHEDULED" and any(
            each is not None and not each.can_ever_meet(need) for each, need in found
        ):
            world.mark("budget spent")
            last = world.last_blocked
            world.last_blocked = (world.now, group)
            beside = [
                each
                for each in world.schedulers
                if each is not group and each.parent is group.parent
            ]
            # They end some turns later.
            ending = [each for each in beside if each.stopping or each.decided]
            ends = any(each.finished == world.now for each in members_of(ending))
            if last is not None and last[0] == world.now:
                ends = ends or last[1] is not group
            if ends:
                world.doubt("a scheduler fails as another job does")
            took_no_time = any(
                each.finished == each.began_attempt == world.now
                for each in world.jobs.values()
            )
            # It may have ended some turns later.
            if took_no_time and group.began == world.now and world.is_direct:
                world.doubt("a budget is spent as others start")
            around_stops = group.parent is not None and group.parent.stopping
            job.settle("BLOCKED", problem("BudgetSpent"))
            if around_stops and group.stopping:
                world.doubt("a forever scheduler ends as the one around it does")


def planned(group: Group) -> set[str]:
    """Return the names of the jobs in a group, at any depth, that no job has added."""
    names: set[str] = set()
    for job in group.jobs:
        names.add(job.name)
        if isinstance(job, Group):
            names |= planned(job)
    return names


def users_of(world: World, wanted: ModelJob, end: ModelJob) -> list[ModelJob]:
    """Return a job, with all in it, and all jobs that use it, at any distance, for themselves or for a group around
    them, and the groups around all of these. A job uses what it requires, and all in a group that it requires."""
    jobs = [job for job in world.jobs.values() if job.parent is not None]
    found = []
    if wanted is end:
        found = [*everything(wanted)]
    groups = [job for job in jobs if is_in(end, job)]
    if wanted is not end:
        found += [
            job
            for job in jobs
            if job.state in ("BLOCKED", "SKIPPED") and wanted.name in uses(job)
        ]
    number = -1
    while number != len(found):
        number = len(found)
        names = {job.name for job in groups}
        for job in found:
            names.update(level.name for level in levels_of(job))
        for job in jobs:
            used = set().union(*map(uses, levels_of(job)))
            if job not in found and names & used:
                found.append(job)
    return [
        job
        for job in jobs
        if job in found or job in groups or any(is_in(each, job) for each in found)
    ]


def uses(job: ModelJob) -> set[str]:
    """Return the names of what a job requires."""
    return {
        *job.plan.requires,
        *inputs_of(job.plan),
        *(each for who, each in job.world.bound if who == job.name),
    }


def everything(job: ModelJob) -> Iterator[ModelJob]:
    """Yield a job and all in it."""
    yield job
    if isinstance(job, ModelScheduler):
        yield from everything_in(job.jobs)


def everything_in(jobs: Iterable[ModelJob]) -> Iterator[ModelJob]:
    """Yield jobs and all in them."""
    return chain.from_iterable(map(everything, jobs))


def levels_of(job: ModelJob) -> Iterator[ModelJob]:
    """Yield a job and the nested schedulers around it."""
    while job.parent is not None:
        yield job
        job = job.parent


def can_start(group: ModelScheduler) -> bool:
    """Return whether jobs of a scheduler may start now."""
    return goes_on(group) and not group.is_paused


def goes_on(group: ModelScheduler) -> bool:
    """Return whether a scheduler starts jobs. A stop reaches all in it at the same instant, but forever jobs."""
    if group.phase != "running" or group.draining or group.decided:
        return False
    while not is_stopping(group):
        parent = group.parent
        if parent is None or group.plan.forever or parent.is_cleaning_up(group):
            return True
        if parent.decided:
            return False
        group = parent
    return False


def is_stopping(group: ModelScheduler) -> bool:
    """Return whether a scheduler stops, or is one of several forever jobs that are cancelled at this instant."""
    around = group.parent
    return group.stopping or (
        group.plan.forever and around is not None and around.forever_ended
    )


def take_round(world: World) -> None:
    """Admit all that can start now; what the start of one of them makes ready comes after them."""
    while (job := next_job(world)) is not None:
        take_all(job)
    for limiter in world.limiters:
        pass_tokens_on(world, limiter)
    block_unaffordable(world)


def take_all(job: ModelJob) -> None:
    """Give a job its slot and its needs, then its token; it starts after those that were admitted before."""
    group = job.parent
    assert group is not None
    group.queue.remove(job)
    job.overtaken = 0  # it is counted anew each time that it waits
    if job.takes_slot:
        group.holders.add(job)
        if group.size < math.inf:
            group.world.mark("Adaptive" if group.adaptive else "window")
    group.grant(job)
    job.is_admitted = True
    limiter = group.limiter()
    if limiter is not None and not group.needs_token(job):
        if limiter.passed_at == group.world.now:
            group.world.doubt("a job gets a token as others start that take none")
        limiter = None
    if limiter is None or group.take_token(job, limiter):
        group.world.admitted.append(job)


def pass_tokens_on(world: World, limiter: ModelLimiter) -> None:
    """Outermost runs take turns; in one, tokens go round in the order of asking; in a group, its first job is next."""
    while limiter.queue and len(limiter.holders) < limiter.tokens:
        world.doubt_wake()
        group = limiter.pop_ticket()
        last = limiter.asked_last
        outermost = group.outermost()
        has_asked_now = limiter.asked_at == world.now and outermost in limiter.queue
        if has_asked_now and last and last.outermost() is not outermost:
            # The other run has asked, and a scheduler of this run once more.
            world.doubt("two schedulers ask for a token at one instant")
        job = min(group.token_line, key=start_key)
        group.token_line.remove(job)
        group.count_unstarted(job, -1)
        if not all(map(takes_token, world.admitted)):
            world.doubt("a job gets a token as others start that take none")
        limiter.holders.add(job)
        limiter.passed_at = world.now
        world.admitted.append(job)


def takes_token(job: ModelJob) -> bool:
    """Return whether a job that has a scheduler needs a token to start."""
    return job.parent is None or job.parent.needs_token(job)


def start_key(job: ModelJob) -> tuple[bool, int, float, int]:
    """`priority` comes before the policy, and that before the order of becoming ready; what was throttled is first."""
    is_first = job.number < 0 and not job.keeps_key
    if is_first:
        return (False, 0, 0.0, job.number)
    return (True, -job.plan.priority, -job.rank, job.number)


def in_order(waiting: Iterable[ModelJob]) -> Iterator[ModelJob]:
    """Merge the lines of all schedulers: each has its own policy; between them, the order of becoming ready counts."""
    lines: dict[ModelScheduler | None, list[ModelJob]] = {}
    for job in sorted(waiting, key=start_key, reverse=True):
        lines.setdefault(job.parent, []).append(job)
    while lines:
        first = min(
            lines,
            key=lambda group: (
                *start_key(lines[group][-1])[:2],
                lines[group][-1].number,
            ),
        )
        yield lines[first].pop()
        if not lines[first]:
            del lines[first]


def begin(job: ModelJob) -> None:
    """Start a job that was admitted."""
    group = job.parent
    assert group is not None
    group.running.append(job)
    group.starts += 1
    job.is_admitted = False
    group.last_start = group.world.now
    group.show_signs()
    job.start()
    group.has_started(job)


def ties(
    job: ModelJob, other: ModelJob, resources: set[tuple[ModelResource | None, str]]
) -> bool:
    """Return whether jobs of two schedulers compete that became ready at one instant."""
    group = other.parent
    if group is None or job.parent is None or group is job.parent:
        return False
    if other.ready_at != job.ready_at:
        return False
    return not resources.isdisjoint(group.resources(other))


def is_apart(group: ModelScheduler, other: ModelScheduler) -> bool:
    """Return whether neither of two schedulers stands in the other."""
    return group.name not in other.names and other.name not in group.names


def next_job(world: World, only: ModelScheduler | None = None) -> ModelJob | None:
    """Jobs start in the policy's order. A job that does not fit lets later jobs pass if they fit, `backfill` times."""
    waiting: list[ModelJob] = []
    groups = world.schedulers if only is None else [only]
    for group in groups:
        if not can_start(group):
            continue
        if only or not group.has_admitted():
            waiting += group.queue
        else:
            waiting += group.before_last_without_slot()
    world.next_start = math.inf
    passed: list[ModelJob] = []
    reserved: set[tuple[ModelResource | None, str]] = set()
    for job in in_order(waiting):
        group = job.parent
        assert group is not None
        if not group.has_slot(job):
            continue
        resources = group.resources(job)
        missing = group.missing(job)
        if not missing and (group.is_inside_holder or not resources & reserved):
            if any(ties(job, other, resources) for other in waiting):
                world.doubt("jobs of two schedulers become ready at one instant")
            for other in passed:
                assert other.parent is not None
                if resources & other.parent.resources(other):
                    world.mark("overtaking")
                    other.overtaken += 1
            return job
        takers: list[ModelScheduler] = []
        if missing:
            takers = [*takers_now(world, resources)]
        is_ready_now = job.ready_at == world.now
        if is_ready_now and any(is_apart(taker, group) for taker in takers):
            world.doubt("jobs of two schedulers become ready at one instant")
        began_now = [taker for taker in takers if taker.began == world.now]
        # Those that had run for some time.
        ended = [
            each
            for each in world.jobs.values()
            if each.finished == world.now and 0 <= each.began_attempt < world.now
        ]
        if len(ended) > 1 and any(taker is not group for taker in began_now):
            # Its run takes some turns to begin, in which what the second of them gives back may let others start.
            world.doubt("a nested scheduler takes no time")
        if not missing:
            world.mark("reservation")
        if missing and max(missing.values()) < world.next_start:
            world.next_start = max(missing.values())
        if any(
            isinstance(need, str) and name in missing for name, need in job.plan.needs
        ):
            continue  # it waits apart for its key, and holds nobody up
        if not any(
            each.parent is group and each.plan.needs == job.plan.needs
            for each in passed
        ):
            passed.append(job)
            if job.overtaken >= group.plan.backfill:
                reserved |= resources
    return None


def takers_now(
    world: World, resources: Iterable[tuple[ModelResource | None, str]]
) -> Iterator[ModelScheduler]:
    """Yield the schedulers that have taken something of resources at this instant."""
    for resource, key in resources:
        if resource is None:
            continue
        for when, its_key, taker in resource.taken_by:
            if when == world.now and its_key == key:
                yield taker


def make_model_job(world: World, plan: Plan, parent: ModelScheduler | None) -> ModelJob:
    kind: Any = ModelScheduler if isinstance(plan, Group) else ModelLeaf
    model: ModelJob = kind(world, plan, parent)
    return model


def may_run(job: ModelJob) -> bool:
    """Return whether nothing that has settled keeps a job from running."""
    if job.state not in UNSETTLED:
        return False
    inputs = [job.world.jobs[name] for name in job.inputs]
    return not any(
        each.state not in UNSETTLED
        and each.has_failed
        and (each in inputs or each.criticality is not False)
        for each in job.essential()
    )
