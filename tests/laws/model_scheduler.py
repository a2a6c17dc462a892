"""The oracle's schedulers: which job may start, when a run is over, and how it ends."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from .model_jobs import UNSETTLED, ModelJob, ModelLeaf, World
from .scenarios import Group, Leaf, Plan


class ModelScheduler(ModelJob):
    """The model of a scheduler."""

    plan: Group

    def __init__(self, world: World, plan: Group, parent: ModelScheduler | None) -> None:
        super().__init__(world, plan, parent)
        self.reason: str | None = None
        self.culprit: str | None = None
        self.under_way = self.stopping = False
        self.fill()

    def fill(self) -> None:
        """Add the models of all jobs, reset."""
        self.jobs: list[ModelJob] = []
        self.queue: list[ModelJob] = []
        self.running: list[ModelJob] = []
        self.clean_up_jobs: list[ModelJob] = []
        self.ended_services: list[ModelJob] = []
        self.released: deque[str] = deque()
        self.late: dict[str, list[ModelJob]] = {}  # who was made to wait for a job during the run, in this order
        self.phase = "running"
        for plan in self.plan.in_order_added:
            self.admit(plan)

    def admit(self, plan: Plan) -> ModelJob:
        """Add the model of one job."""
        job = make_model_job(self.world, plan, self)
        self.jobs.append(job)
        return job

    def link(self, jobs: Iterable[ModelJob]) -> None:
        """Find what each job has to wait for."""
        own = {job.plan.name: job for job in self.jobs}
        for job in jobs:
            added = {one for who, one in {*self.world.bound, *self.world.implied} if who == job.plan.name}
            names = {*job.plan.requires, *job.inputs, *added}
            job.waits_for = {name for name in names if name in own and own[name].is_waited_for}

    # ---- running

    def call(self) -> None:
        """Begin a run."""
        self.note_call()
        self.reason = self.culprit = None
        self.late = {}
        self.under_way, self.stopping = True, False
        self.fill()
        self.link(self.jobs)
        self.began = self.world.now
        if self.plan.timeout is not None:
            self.timers = [self.world.after(self.plan.timeout, lambda: self.stop("TIMEOUT"))]
        self.make_ready(sorted(self.jobs, key=lambda job: not job.waits_for and job.judge()[0] != "SCHEDULED"))
        self.move()

    def make_ready(self, jobs: Iterable[ModelJob]) -> None:
        """Queue the jobs that wait for nothing, and settle those that will not run."""
        before = list(self.queue)
        phase, self.phase = self.phase, "releasing"
        for job in [job for job in jobs if not job.waits_for]:
            self.make_one_ready(job)
        if self.phase == "releasing":
            self.phase = phase
        self.release()
        self.check_order(before)

    def make_one_ready(self, job: ModelJob) -> None:
        if job.state != "IDLE" or self.stopping:
            return
        verdict, cause = job.judge()
        if verdict == "SCHEDULED":
            job.state = verdict
            self.queue.append(job)
        else:
            job.settle(verdict, cause)

    def release(self, *names: str) -> None:
        """Release the jobs that waited for the given ones, one after the other."""
        self.released.extend(names)
        if self.phase != "running":
            return
        before = list(self.queue)
        self.phase = "releasing"
        while self.released:
            name = self.released.popleft()
            late = self.late.pop(name, [])  # they come after those that waited for it already
            for job in [*(job for job in self.jobs if job not in late), *late]:
                if name in job.waits_for:
                    job.waits_for.discard(name)
                    if not job.waits_for:
                        self.make_one_ready(job)
        if self.phase == "releasing":
            self.phase = "running"
        self.check_order(before)

    def check_order(self, before: list[ModelJob]) -> None:
        """Give up exactness if jobs have just become ready in another order than they were added.

        This happens when other jobs were settled without a run. Whether they became ready together, or one after the
        other, is then not defined.
        """
        new = [self.jobs.index(job) for job in self.queue if job not in before]
        self.world.exact = self.world.exact and new == sorted(new)

    def move(self) -> None:
        """Start what can start, and check whether the run is over."""
        while self.phase == "running" and (job := self.next_to_start()) is not None:
            self.queue.remove(job)
            self.running.append(job)
            behind = {waiting.plan.forever for waiting in self.queue}
            job.start()
            if behind == {True, False} and job not in self.running:
                self.world.exact = False  # a forever job may start before the one that gets this slot, freed at once
        if self.phase == "running" and self.is_over():
            self.stop("COMPLETED")

    def next_to_start(self) -> ModelJob | None:
        """Return the first job in the queue that has a slot or does not need one."""
        free = self.free_slots()
        return next((job for job in self.queue if free > 0 or job.plan.forever), None)

    def free_slots(self) -> float:
        """Return how many more jobs could start."""
        taken = sum(not job.plan.forever for job in self.running)
        return math.inf if self.plan.window is None else self.plan.window - taken

    def is_over(self) -> bool:
        """Return whether all ordinary jobs have settled, or all jobs if none is ordinary."""
        ordinary = [job for job in self.jobs if not job.plan.forever]
        return not any(job.state in UNSETTLED for job in ordinary or self.jobs)

    def has_settled(self, job: ModelJob) -> None:
        """Act on the end of a job."""
        for jobs in (self.running, self.queue):
            if job in jobs:
                jobs.remove(job)
        if self.stopping:
            self.wind_down()
        elif job.counts and job.criticality:
            self.stop("CRITICAL", job)
        else:
            self.release(job.plan.name)
            self.move()

    def has_become_ready(self, job: ModelJob) -> None:
        """Release the jobs that waited for a service."""
        if not self.stopping:
            self.release(job.plan.name)
            self.move()

    def grow(self, plan: Leaf) -> None:
        """Add jobs during the run; they can start once the job that adds them has settled, at the same time."""
        if self.stopping:
            return
        new = [self.admit(inner) for inner in plan.adds]
        self.link(new)
        self.make_ready(new)
        waiting = [job for job in self.queue if not job.plan.forever]
        if len(waiting) < len(self.queue) and len(waiting) > self.free_slots():
            self.world.exact = False  # a forever job may start before a job that gets the slot of the adding one
        for later, earlier in plan.binds:
            one, other = self.world.jobs[later], self.world.jobs[earlier]
            if one.state == "IDLE":
                self.world.bound.add((later, earlier))
                if other.is_waited_for and earlier not in one.waits_for:
                    one.waits_for.add(earlier)
                    self.late.setdefault(earlier, []).append(one)

    # ---- ending

    def is_cleaning_up(self, job: ModelJob) -> bool:
        """Return whether a job runs in the clean-up phase."""
        return self.stopping and self.reason in ("CRITICAL", "TIMEOUT") and job in self.clean_up_jobs

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

    def stop(self, reason: str, culprit: ModelJob | None = None) -> None:
        """Start nothing more, and cancel the jobs that are running."""
        if self.stopping:
            return
        if self.parent is not None and self.world.now == self.began and reason != "COMPLETED":
            self.world.exact = False  # its jobs may not have begun
        self.drop_timers()
        self.stopping, self.phase = True, "telling"
        self.reason, self.culprit = reason, culprit and culprit.plan.name
        for job in [job for job in self.jobs if job.state == "SCHEDULED"]:
            job.settle("CANCELLED")
        for job in list(self.running):
            if not job.plan.forever:
                job.cancel()
        self.phase = "unwinding"
        self.wind_down()

    def wind_down(self) -> None:
        """Continue the ending as far as possible now."""
        if self.phase == "unwinding" and all(job.plan.forever for job in self.running):
            self.begin_clean_up()
        if self.phase == "cleaning up" and all(job.plan.forever for job in self.running):
            self.clean_up()
        if self.phase == "unwinding forever" and all(job.is_service for job in self.running):
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
        """Run the clean-up jobs, if the stop reason asks for it."""
        if self.reason in ("CRITICAL", "TIMEOUT"):
            self.phase = "cleaning up"
            self.clean_up_ends = self.world.now + self.plan.cleanup_timeout
            if self.due():
                self.timers.append(self.world.after(self.plan.cleanup_timeout, self.cut_clean_up))
        else:
            self.end_forever()

    def due(self) -> list[ModelJob]:
        """Return the clean-up jobs that can run now."""
        own = {job.plan.name: job for job in self.jobs}
        found = []
        for job in self.jobs:
            if job.state == "IDLE" and job.plan.run_if == "failed" and not job.plan.forever:
                self.link([job])
                if not job.waits_for and own and job.judge()[0] == "SCHEDULED":
                    found.append(job)
        return found

    def clean_up(self) -> None:
        """Run the clean-up jobs that are due, then those that have become due, until there are none."""
        while self.phase == "cleaning up" and not [job for job in self.running if not job.plan.forever]:
            due = self.due() if self.world.now < self.clean_up_ends else []
            if not due:
                self.drop_timers()
                self.end_forever()
                return
            self.phase = "telling"
            for job in due:
                job.state = "SCHEDULED"
                self.running.append(job)
                self.clean_up_jobs.append(job)
            for job in due:
                if job.state == "SCHEDULED":
                    job.start()
            self.phase = "cleaning up"

    def cut_clean_up(self) -> None:
        """Cancel the clean-up jobs, whose time is up."""
        self.phase = "telling"
        for job in list(self.running):
            if not job.plan.forever:
                job.cancel()
        self.phase = "cleaning up"
        self.wind_down()

    def end_forever(self) -> None:
        """End the forever jobs that are not services."""
        self.phase = "telling"
        for job in list(self.running):
            if not job.is_service:
                job.end_with_run()
        self.phase = "unwinding forever"
        if self.running and self.world.cancels_once:
            self.timers.append(self.world.after(self.plan.shutdown_timeout, self.end_forever_at_once))

    def end_forever_at_once(self) -> None:
        """Cancel the forever jobs that are left at each of their waits, because their time is up."""
        self.phase = "telling"
        for job in list(self.running):
            if not job.is_service:
                job.end_with_run()
        self.phase = "unwinding forever"
        self.wind_down()

    def end_services(self) -> None:
        """Begin to end the services."""
        self.drop_timers()
        self.phase = "unwinding services"
        if any(self.users(job) for job in self.running) and any(job.plan.linger for job in self.running):
            self.world.exact = False  # the order among services that do not use each other is not defined
        if self.running:
            self.timers.append(self.world.after(self.plan.shutdown_timeout, self.end_all_services))

    def end_next_services(self) -> None:
        """End the services whose users have all ended."""
        self.phase = "telling"
        while unused := [job for job in self.running if job not in self.ended_services and not self.users(job)]:
            self.ended_services += unused  # also those that a `cancel()` has asked to end: this is a further cause
            for job in unused:
                job.end_with_run()
        self.phase = "unwinding services"

    def end_all_services(self) -> None:
        """End all services that are left, because their time is up."""
        self.phase = "telling"
        for job in list(self.running):
            job.end_with_run()
        self.phase = "unwinding services"
        self.wind_down()

    def users(self, service: ModelJob) -> list[ModelJob]:
        """Return the running jobs that require a service, directly or through others."""
        users = {service.plan.name}
        for _ in self.jobs:
            for job in self.jobs:
                added = {one for who, one in {*self.world.bound, *self.world.implied} if who == job.plan.name}
                if not users.isdisjoint({*job.plan.requires, *job.inputs, *added}):
                    users.add(job.plan.name)
        return [job for job in self.running if job is not service and job.plan.name in users]

    def shut_down_jobs(self) -> float:
        """Shut down all jobs at once; return the seconds that it takes."""
        return min(self.plan.shutdown_timeout, max((job.shut_down() for job in self.jobs), default=0.0))

    def shut_down(self) -> float:
        """Shut down the jobs of a scheduler that was never run; otherwise its runs have done it."""
        return 0.0 if self.reason is not None else self.shut_down_jobs()

    def failures(self) -> list[ModelJob]:
        """Return the jobs whose failures count, those in nested schedulers in place of these, in order."""
        found: list[ModelJob] = []
        for job in self.jobs:
            stopped = isinstance(job, ModelScheduler) and job.state == "CANCELLED" and job.criticality is not False
            if isinstance(job, ModelScheduler) and (stopped or (job.counts and job.culprit is not None)):
                found += job.failures()
            elif job.counts:
                found.append(job)
        members = [job for job in self.jobs if job.counts]
        found = [job for job in found if job.root is None or job.root not in (*members, *found)]
        return sorted(found, key=lambda job: job.settled_as)

    def end(self) -> None:
        """Settle as a job of the outer scheduler."""
        self.under_way = False
        counting = [job for job in self.jobs if job.counts]
        if self.reason == "COMPLETED" and counting:
            self.reason = "FAILED"
            self.culprit = min(counting, key=lambda job: job.settled_as).plan.name
        if self.parent is not None and self.world.now == self.began:
            self.world.exact = False
        if self.asked:
            self.settle("CANCELLED")
        elif self.reason == "TIMEOUT":
            self.has_timed_out()
        elif self.reason in ("FAILED", "CRITICAL"):
            ends = [job.finished for job in self.failures()]
            if len({*ends}) < len(ends):
                self.world.exact = False  # trio resumes cancelled tasks in any order, which is that of their failures
            self.has_raised(f"ExceptionGroup {', '.join(job.cause or '' for job in self.failures())}")
        else:
            self.settle("SUCCEEDED" if self.reason == "COMPLETED" else "FAILED")


def make_model_job(world: World, plan: Plan, parent: ModelScheduler | None) -> ModelJob:
    """Make the model of a job, or of a scheduler, for a plan."""
    if isinstance(plan, Group):
        return ModelScheduler(world, plan, parent)
    assert isinstance(plan, Leaf)
    return ModelLeaf(world, plan, parent)
