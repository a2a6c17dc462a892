"""The model's jobs: their states, the rules that decide whether they run, what their bodies do, and their attempts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from .clock import SAME, Timer, World
from .scenario import Group, Leaf, Plan, Reaction, endless, inputs_of
from .steps import (
    Add,
    Await,
    Bind,
    Cancel,
    Drain,
    Fail,
    Give,
    Nap,
    Progress,
    Started,
    Steer,
    Step,
    Throttle,
    Use,
)

if TYPE_CHECKING:
    from .schedulers import ModelScheduler

UNSETTLED = ("IDLE", "SCHEDULED", "RUNNING")
SETTLED = ("SUCCEEDED", "FAILED", "CANCELLED", "BLOCKED", "SKIPPED")
GOOD = ("SUCCEEDED", "SKIPPED")
BAD = ("FAILED", "CANCELLED")
RAISED_FOR = {"CANCELLED": "JobCancelled", "SKIPPED": "JobSkipped"}
"""The exceptions that tell what has become of a job that has raised none."""


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """An exception: how it is written down, the types of its leaves, and the root failure of a `RequirementFailed`."""

    text: str
    leaves: tuple[str, ...]
    root: Problem | None = None


def problem(kind: str, who: str = "") -> Problem:
    return Problem(f"{kind} {who}".rstrip(), (kind,))


class ModelJob:
    """A job, as its scheduler sees it."""

    def __init__(self, world: World, plan: Plan, parent: ModelScheduler | None) -> None:
        self.world = world
        self.plan = plan
        self.parent = parent
        self.name = plan.name
        self.state = "IDLE"
        self.started: float | None = None
        self.finished: float | None = None
        self.settled_as = math.inf  # its place in the order of settling
        self.problem: Problem | None = None
        self.value: Any = None  # the result
        self.fell_short: frozenset[tuple[str, str]] = frozenset()  # as it became ready
        self.only_cancelled = (
            False  # it is BLOCKED or CANCELLED, not because of a failure
        )
        self.is_admitted = False  # it has what it needs, and has not started
        self.is_taken = False  # an `await` has raised its failure, which would count
        self.is_raised = False  # an `await` has raised its failure
        # Those that wait for it wait on, as it was asked to try again.
        self.is_uncounted = False
        self.has_awaited_failure = False  # an `await` in it has raised one
        self.timed_out = self.restored = self.moved_on = False
        self.waits_for: set[str] = set()
        self.asked = False  # to end, from outside
        self.alone = False  # `cancel()` of the job itself came first
        self.told = False  # to end, by its run, perhaps after it was cancelled already
        self.is_last = (
            False  # a scheduler that was drained in this attempt is not tried again
        )
        self.ended_with_run = (
            False  # it ran, and has settled as its run was stopped or drained
        )
        self.by_run = False  # to end, as the run has come to its end
        self.at_each_wait = (
            False  # it is cancelled at each wait from now on, as its time is up
        )
        self.ready = False  # a service
        self.calls = self.attempts = self.retries = 0
        self.used_by: set[str] = set()  # those that have begun with this service
        self.backoff: Timer | None = None  # before the next attempt
        self.called_at = self.resumed_at = -1.0  # by a call, and by what it has awaited
        self.timers: list[Timer] = []
        self.idle_timer: Timer | None = None
        self.idled_at = -1.0  # when the idle timeout has ended it
        self.number = 0  # its place among the ready jobs
        self.keeps_key = False  # whether it stands first among those of its rank only, as it was taken back
        self.ready_at = self.began_attempt = -1.0
        self.attempt_problem: Problem | None = (
            None  # with which the last attempt has ended
        )
        self.reported: set[str] = set()  # the names of which it has said what it used
        self.overtaken = 0
        self.rank = 0.0  # for the policy
        self.held: dict[str, float] = {}  # what it has of each resource
        self.spent: dict[str, float] = {}  # what it has used of each budget
        # When the throttle ends because of which it waits.
        self.throttled_until = math.inf
        # When the first of the last attempts began, which were all throttled.
        self.throttled_since = math.inf
        self.gives_up = math.inf  # after how many seconds of that
        self.awaiters: list[Callable[[], None]] = []
        world.jobs[plan.name] = self

    # ---- questions

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the jobs whose results this job gets."""
        return inputs_of(self.plan)

    @property
    def counted(self) -> Sequence[ModelJob]:
        return ()

    @property
    def is_service(self) -> bool:
        """Return whether the job counts as succeeded once it is ready."""
        return isinstance(self.plan, Leaf) and self.plan.service

    @property
    def has_shutdown(self) -> bool:
        """Return whether `co_shutdown` of the job, or of one in a scheduler that has not run, has something to do."""
        plan = self.plan
        return isinstance(plan, Leaf) and bool(
            plan.answer or plan.shutdown or plan.shutdown_fails
        )

    @property
    def takes_slot(self) -> bool:
        """Forever jobs and services take no slot; an `Answer` takes none; a `First` takes none."""
        plan = self.plan
        return not (plan.forever or (isinstance(plan, Leaf) and plan.answer))

    @property
    def is_waited_for(self) -> bool:
        """Return whether jobs that require this one have to wait."""
        return self.state in UNSETTLED and not self.ready

    @property
    def has_failed(self) -> bool:
        """FAILED, BLOCKED and CANCELLED are failed; SKIPPED is not."""
        return self.state not in GOOD and not self.ready

    @property
    def criticality(self) -> bool | None:
        """A job without a value has that of the nearest `critical_jobs`, going outwards to the nearest `First`."""
        if self.plan.critical is not None:
            return self.plan.critical
        around = self.parent
        while (
            around is not None
            and around.plan.critical_jobs is None
            and around.plan.enough is None
        ):
            around = around.parent
        if around is None:
            return None
        return around.plan.critical_jobs

    @property
    def counts(self) -> bool:
        """FAILED and BLOCKED jobs count that are not tolerated; not what is BLOCKED because of `cancel()` alone."""
        if self.state not in ("FAILED", "BLOCKED") or self.only_cancelled:
            return False
        in_first = self.parent is not None and self.parent.plan.enough is not None
        return bool(self.criticality) or (
            self.criticality is None and not self.is_taken and not in_first
        )

    def requires(self) -> list[ModelJob]:
        """Return the jobs that this one requires, those of `Bind` steps included."""
        added = [earlier for later, earlier in self.world.bound if later == self.name]
        return [
            self.world.jobs[name]
            for name in {*self.plan.requires, *self.inputs, *added}
        ]

    def essential(self) -> list[ModelJob]:
        """Return what is required for (2) and (3): with run_if="settled" or "failed", only inputs count."""
        if self.plan.run_if != "succeeded":
            return [self.world.jobs[name] for name in self.inputs]
        return [
            each
            for each in self.requires()
            if each.name in self.inputs or each.name not in self.plan.settled
        ]

    def shortfalls(self) -> frozenset[tuple[str, str]]:
        """Return the requirements that have not succeeded, and their states, which a journal compares with its own."""
        found: set[tuple[str, str]] = set()
        seen: set[ModelJob] = set()
        level: ModelJob | None = self
        todo: list[ModelJob] = []
        while level is not None:
            todo += level.requires()
            level = level.parent
        while todo:
            one = todo.pop()
            if one in seen:
                continue
            seen.add(one)
            is_made_anew = one.plan.forever or one.is_service
            if one.state != "SUCCEEDED" and not is_made_anew:
                found.add((one.name, one.state))
            if is_made_anew or one.state in ("SKIPPED", "BLOCKED", "CANCELLED"):
                todo += one.requires()
            todo += one.counted
        return frozenset(found)

    def judge(self) -> tuple[str, Problem | None]:
        """Apply the four rules, in this order, when everything that the job requires has settled."""
        required = self.requires()
        # (1) If the job has run_if="failed" and nothing that it requires failed, it is SKIPPED.
        if self.plan.run_if == "failed" and not any(
            each.has_failed for each in required
        ):
            return "SKIPPED", None
        inputs = [self.world.jobs[name] for name in self.inputs]
        essential = self.essential()
        # (2) If an input failed, or anything else required that is neither tolerated nor required by
        # requires(b, settled=True), it is BLOCKED; the cause is the first of these to settle.
        failed = [
            each
            for each in essential
            if each.has_failed and (each in inputs or each.criticality is not False)
        ]
        if failed:
            first = min(failed, key=lambda each: each.settled_as)
            self.only_cancelled = all(each.was_cancelled for each in failed)
            why = first.problem or problem("JobCancelled")
            root = why.root or why if why.leaves == ("RequirementFailed",) else why
            return "BLOCKED", Problem(root.text, ("RequirementFailed",), root)
        # (3) If an input, or everything that it requires, was SKIPPED, it is SKIPPED.
        if any(each.state == "SKIPPED" for each in inputs):
            return "SKIPPED", None
        if (
            required
            and self.plan.run_if == "succeeded"
            and all(each.state == "SKIPPED" for each in required)
        ):
            return "SKIPPED", None
        # (4) Otherwise it runs.
        return "SCHEDULED", None

    @property
    def was_cancelled(self) -> bool:
        """Return whether the job, which counts as failed, was only cancelled, or blocked by what was."""
        if self.state in ("FAILED", "BLOCKED", "CANCELLED"):
            return self.only_cancelled
        return not self.is_cut_off

    @property
    def is_cut_off(self) -> bool:
        """Return whether a critical failure or a timeout has stopped its run, or the one around that has ended it."""
        group = self.parent
        if group is None or self.alone:
            return False
        # After a drain, a stop may have another reason than the run; what was not reached is due to the drain.
        if self.state == "IDLE":
            reason = group.reason
        else:
            reason = group.why_stopped if group.stopping else None
        if reason == "CANCELLED":
            return group.is_cut_off
        return reason in ("CRITICAL", "TIMEOUT")

    @property
    def is_tied(self) -> bool:
        """Return whether the job has started, or goes on, in this instant, which has several causes."""
        now = self.world.now
        goes_on = any(timer.live and timer.when < now + SAME for timer in self.timers)
        return (
            self.state == "RUNNING"
            and self.world.is_tied()
            and (goes_on or self.began_attempt == now)
        )

    # ---- the life of a job

    def start(self) -> None:
        """Begin an attempt."""
        self.state = "RUNNING"
        self.began_attempt = self.world.now
        if self.started is None:
            self.started = self.world.now
        if self.name not in self.world.started:
            self.world.started.append(self.name)
        if self.parent is not None:
            self.world.hook("started", self.name)
            self.world.hook("attempt", self.name)
        self.attempts += 1
        self.mark_start()
        self.call()

    def mark_start(self) -> None:
        """Record the mechanisms that take effect with the start."""
        plan = self.plan
        mark = self.world.mark
        for each in self.requires():
            if each.is_service:
                each.used_by.add(self.name)
                if len(each.used_by) > 1:
                    mark("service of two")
        if self.world.tries[self.name] > 1:
            mark("third try")
        if plan.forever:
            mark("service" if self.is_service else "forever")
        if plan.own_task:
            mark("own_task")
        if self.inputs:
            mark("input")
        if plan.run_if != "succeeded" and any(
            each.has_failed for each in self.requires()
        ):
            stopping = self.parent is not None and self.parent.stopping
            if stopping:
                mark("clean-up")
            else:
                mark("alarm" if plan.run_if == "failed" else "run_if=settled")
        if any(
            each.has_failed and each.name in plan.settled for each in self.requires()
        ):
            mark("settled=True")

    def cancel(self) -> None:
        """`job.cancel()` cancels a running job, or keeps an unstarted one from starting."""
        self.doubt_idle()
        if self.backoff is not None:
            self.settle("CANCELLED")
        elif self.state == "RUNNING":
            self.asked = True
            self.unwind()
        elif self.state in ("IDLE", "SCHEDULED"):
            self.settle("CANCELLED")

    def cancel_alone(self) -> None:
        """Be cancelled by a call of this job's own `cancel()`."""
        self.alone = True
        self.cancel()

    def end_with_run(self) -> None:
        self.by_run = self.by_run or not self.asked
        self.told = True
        self.cancel()

    def settle(self, state: str, why: Problem | None = None) -> None:
        """Take the final state, and tell all that wait for it."""
        if self.backoff is not None:
            self.backoff.live = False
            self.backoff = None
        self.stop_idle_timer()
        self.state = state
        self.finished = self.world.now
        self.problem = why
        self.ready = False
        self.settled_as = next(self.world.numbers)
        if state != "BLOCKED":  # of which `judge` has said it
            self.only_cancelled = state == "CANCELLED" and not self.is_cut_off
        if state == "SUCCEEDED" and not self.restored:
            if self.moved_on:
                self.value = None
            else:
                self.value = self.result()
            # What ends in a `First` that is decided comes too late, in a later run, too.
            if self.parent is None or not self.parent.decided:
                self.world.stored[self.name] = self.value, self.spent, self.fell_short
        if self.parent is not None:
            self.world.hook("finished", self.name)
        awaiters = self.awaiters
        self.awaiters = []
        if len(awaiters) > 1 and state != "SUCCEEDED":
            self.world.doubt("several await one job")
        self.world.soon.extend(awaiters)
        if self.parent is not None:
            self.parent.has_settled(self)

    def result(self) -> Any:
        """Return the result: that of the last call; for a scheduler, True; for a First, that of its winners."""
        raise NotImplementedError

    def has_timed_out(self) -> None:
        """With "fail" it is a `JobTimeout`, which `retry` may see. With "move_on" the job is SUCCEEDED with None."""
        self.timed_out = True
        if (
            self.parent is not None
            and self.plan.on_timeout == "move_on"
            and not self.ready
        ):
            self.world.mark("move_on")
            self.world.never_stored.add(self.name)
            self.moved_on = True
            self.settle("SUCCEEDED")
        else:
            self.world.mark(
                "scheduler timeout" if isinstance(self.plan, Group) else "timeout"
            )
            self.has_raised(problem("JobTimeout", self.name))

    def has_raised(self, why: Problem) -> None:
        """Fail, be throttled, or try again after an exception."""
        parent = self.parent
        if parent is None:
            self.settle("FAILED", why)
            return
        ends = parent.draining or parent.stopping
        is_unreached = why.text in ("JobCancelled", "JobNotDone") and not why.root
        if ends and is_unreached:
            # The job that it awaited has ended with the run.
            self.settle("CANCELLED")
        elif self.is_throttled_by(why):
            self.was_throttled(why)
        elif self.ready or self.asked or not self.is_retried(why):
            self.settle("FAILED", why)
        elif self.is_last or (ends and not parent.is_cleaning_up(self)):
            self.settle("CANCELLED")
        else:
            self.retries += 1
            self.throttled_since = math.inf
            assert self.plan.retry is not None
            backoff = self.plan.retry.backoff(self.retries)
            self.world.mark("backoff" if backoff else "retry")
            self.requeue(why)
            parent.release_held(self)
            if backoff:
                self.backoff = self.world.after(backoff, self.be_ready_again)
                if not parent.stopping:
                    parent.move()
            else:
                self.be_ready_again()

    def is_throttled_by(self, why: Problem) -> bool:
        """Return whether an exception throttles the job, which has not given up."""
        if not isinstance(self.plan, Leaf) or set(why.leaves) != {"Throttled"}:
            return False
        seconds = self.began_attempt - self.throttled_since
        return not self.ready and seconds < self.gives_up

    def is_retried(self, why: Problem) -> bool:
        """`Retry` is at most `times` further attempts after an exception that `on` accepts, each leaf of a group."""
        retry = self.plan.retry
        if retry is None or self.retries >= retry.times:
            return False
        if isinstance(self.plan, Leaf) and set(why.leaves) == {"Throttled"}:
            return False  # it has given up
        return not retry.booms_only or all(
            leaf in ("Boom", "Slow") for leaf in why.leaves
        )

    def was_throttled(self, why: Problem) -> None:
        """The slot and the needs are released; the job is SCHEDULED again, at the head of the ready queue."""
        assert self.parent is not None
        self.throttled_since = min(self.throttled_since, self.began_attempt)
        ends = self.parent.stopping or self.parent.draining
        cleans_up = self.parent.stopping and self.parent.is_cleaning_up(self)
        if self.asked or (ends and not cleans_up):
            self.settle("CANCELLED")
        else:
            self.world.mark("throttle")
            self.attempts -= 1  # the attempt does not count
            if not self.attempts:
                self.started = None
            self.requeue(why)
            if cleans_up:
                self.world.mark("throttled clean-up")
                self.parent.release_held(self)
                self.backoff = self.world.after(
                    self.throttled_until - self.world.now, self.be_ready_again
                )
                return
            self.number = next(self.world.first_numbers)
            self.keeps_key = False
            self.parent.queue.insert(0, self)
            self.parent.release_held(self)
            self.parent.move()

    def requeue(self, why: Problem) -> None:
        """Between two attempts a job holds nothing: slot, token and needs are released, it is SCHEDULED."""
        assert self.parent is not None
        self.state = "SCHEDULED"
        self.parent.running.remove(self)
        self.world.hook("scheduled", self.name)
        self.parent.call_back("scheduled", self)
        self.attempt_problem = why
        self.parent.tell_adaptive(self, self.began_attempt, was_full=False)
        self.parent.show_signs()

    def be_ready_again(self) -> None:
        """It starts again no earlier than its backoff ends, as any job does, after those that were ready before."""
        assert self.parent is not None
        self.backoff = None
        if self.parent.stopping:  # a clean-up job waits for nothing else
            self.parent.begin_clean_up_job(self)
            self.start()
            return
        self.number = next(self.world.numbers)
        self.parent.note_depth(self)
        self.parent.queue.append(self)
        self.parent.move()

    def reopen(self) -> None:
        """Be IDLE again, as if the job had not settled; only the attempts count on, and what it has used."""
        self.world.hook("reopened", self.name)
        self.world.tries[self.name] += 1
        self.is_uncounted = False
        self.state = "IDLE"
        self.finished = None
        self.problem = None
        self.value = None
        self.settled_as = math.inf
        self.only_cancelled = self.is_admitted = False
        self.is_taken = self.is_raised = self.has_awaited_failure = False
        self.moved_on = self.asked = self.alone = self.told = False
        self.ended_with_run = self.by_run = self.at_each_wait = False
        self.retries = self.overtaken = 0
        self.throttled_until = self.throttled_since = math.inf
        self.restored = False

    def carry_on(self, earlier: ModelJob) -> None:
        """Take over what the job has done before its group began again."""
        self.attempts = earlier.attempts
        self.started = earlier.started
        self.timed_out = earlier.timed_out
        self.spent = earlier.spent

    def wait_again(self) -> None:
        """Leave the line, because something that it requires is tried again though it had succeeded."""
        assert self.parent is not None
        if self.backoff is not None:
            self.backoff.live = False
            self.backoff = None
        if self in self.world.admitted:
            self.world.admitted.remove(self)
        if self in self.parent.queue:
            self.parent.queue.remove(self)
        self.parent.release_held(self)
        self.state = "IDLE"
        self.retries = 0
        self.throttled_until = self.throttled_since = math.inf
        self.world.hook("reopened", self.name)

    def drop_timers(self) -> None:
        for timer in self.timers:
            timer.live = False
        self.timers = []

    # ---- idle timeouts: a number of seconds without progress

    def show_life(self) -> None:
        """Begin the seconds of `idle_timeout` anew."""
        self.stop_idle_timer()
        if self.plan.idle_timeout is not None:
            self.idle_timer = self.world.after(self.plan.idle_timeout, self.was_idle)

    def stop_idle_timer(self) -> None:
        """Let the idle timeout count no more."""
        if self.idle_timer is not None:
            self.idle_timer.live = False
            self.idle_timer = None

    def was_idle(self) -> None:
        """End the attempt like a timeout."""
        self.world.mark("idle_timeout")
        self.idle_timer = None
        self.idled_at = self.world.now
        if self.world.is_tied():
            self.world.doubt("an idle timeout ends in the instant of something else")
        self.unwind()

    def doubt_idle(self) -> None:
        """Give up exactness if the job is cancelled in the instant in which its idle timeout ends, some turns later."""
        is_due = (
            self.idle_timer is not None and self.idle_timer.when < self.world.now + SAME
        )
        if is_due or self.idled_at == self.world.now == self.world.tied_at:
            self.world.doubt("an idle timeout ends in the instant of something else")

    def note_call(self) -> None:
        """Count a call. Two calls at one instant leave open whether other jobs run between them."""
        if self.world.now == self.called_at:
            self.world.doubt("two calls in one instant")
        self.called_at = self.world.now
        self.calls += 1

    def call(self) -> None:
        """Begin the body, or the run, for the first time or again."""
        raise NotImplementedError

    def unwind(self) -> None:
        """React to a cancellation, from outside or by the timeout."""
        raise NotImplementedError

    def shut_down(self) -> float:
        """Call `co_shutdown`; return the seconds that it takes."""
        raise NotImplementedError


class ModelLeaf(ModelJob):
    """The model of a job that is not a scheduler."""

    plan: Leaf
    has_grown = False  # it has added what it adds
    unwinding = again = False
    in_scope = False  # its timeout still counts

    @property
    def is_awaiting(self) -> bool:
        """Return whether the body waits for another job."""
        is_in_body = self.state == "RUNNING" and not self.unwinding
        return is_in_body and self.awaited is not None

    # ---- the body

    def call(self) -> None:
        """Begin the body of this attempt."""
        inputs = [self.world.jobs[name] for name in self.inputs]
        if any(each.is_service and each.state in BAD for each in inputs):
            self.world.doubt("a service has ended whose value is an input")
        body = self.plan.bodies[min(self.calls, len(self.plan.bodies) - 1)]
        self.note_call()
        for each in inputs:
            # A service has ended while this job waited for its start.
            if each.state in BAD:
                self.has_raised(each.problem or problem("JobCancelled"))
                return
        if not self.plan.answer:
            self.world.calls[self.name] += 1
        self.unwinding = False
        self.awaited = None
        self.steps = list(body)
        self.is_endless = endless(body)
        # A job's timeout covers each call of `co_run`, innermost.
        self.timers = []
        self.scope_timer = None
        if self.plan.timeout is not None:
            self.scope_timer = self.world.after(self.plan.timeout, self.unwind)
        self.show_life()
        if self.given:
            self.world.doubt("an answer takes no time")
        elif self.plan.answer:
            # What asks again has no answer before.
            self.world.stored.pop(self.name, None)
        self.go_on()

    given = False  # an answer

    def go_on(self) -> None:
        """Take the next steps, until one of them takes time."""
        while self.state == "RUNNING" and not self.unwinding:
            if self.plan.answer and not self.given:
                return
            if not self.steps:
                self.end_scope()
                self.settle("SUCCEEDED")
                return
            step = self.steps.pop(0)
            if not self.act(step):
                return

    def act(self, step: Step) -> bool:
        """Take one step; return whether the next may follow at once."""
        world = self.world
        parent = self.parent
        assert parent is not None
        match step:
            case Nap(seconds):
                if seconds < math.inf:
                    self.timers.append(world.after(seconds, self.wake))
                return False
            case Started():
                self.become_ready()
            case Fail(slow):
                self.end_scope()
                self.has_raised(problem("Slow" if slow else "Boom", self.name))
                return False
            case Throttle(name, after):
                self.end_scope()
                parent.throttle(self, name, after)
                self.has_raised(problem("Throttled"))
                return False
            case Progress():
                if not self.ready:
                    self.show_life()
                parent.show_signs()
            case Use(name, amount):
                parent.use(self, name, amount)
            case Give(who):
                answer = world.jobs[who]
                assert isinstance(answer, ModelLeaf)
                if answer.state in UNSETTLED:
                    answer.given = True
                    world.mark("answer")
                    if answer.parent is not None and answer.parent.retries:
                        world.mark("answer in a retry")
                    if answer.state == "RUNNING":
                        world.soon.append(answer.go_on)
            case Cancel(who):
                cancel(world, who, "cancel from a body")
            case Drain(who):
                drain(world, who)
            case Steer():
                steer(world, step)
            case Add(jobs):
                if not self.has_grown:
                    self.has_grown = True
                    if not (parent.draining or parent.stopping):
                        # What it has added is not there without it.
                        self.world.never_stored.add(self.name)
                    parent.grow(jobs)
            case Bind(later, earlier):
                parent.bind(later, earlier)
            case Await():
                return self.wait_for(step)
            case _:
                raise AssertionError(step)
        return True

    def wake(self) -> None:
        self.timers = [
            timer for timer in self.timers if timer.when > self.world.now and timer.live
        ]
        self.go_on()

    def end_scope(self) -> None:
        """Let the timeouts of the attempt count no more."""
        self.drop_timers()
        if self.scope_timer is not None:
            self.scope_timer.live = False
        self.stop_idle_timer()

    def become_ready(self) -> None:
        """Once a service has called `started`, it counts as succeeded; `timeout` and `retry` apply until then."""
        assert self.parent is not None
        if self.scope_timer is not None:
            self.scope_timer.live = False
        self.stop_idle_timer()
        self.ready = True
        self.world.hook("ready", self.name)
        self.parent.has_become_ready(self)

    # ---- await job

    def wait_for(self, step: Await) -> bool:
        """`await job` waits until the job has settled, and gives `job.result()`; a settled job gives it at once."""
        other = self.world.jobs[step.who]
        self.world.mark("await")

        def resume() -> None:
            """Go on with the result of the job that was awaited, unless something else came first."""
            if self.awaited is not resume:
                return
            if self.unwinding:
                self.world.doubt("what a job awaits ends as the job is cancelled")
            if self.is_awaiting:
                self.awaited = None
                self.resumed_at = self.world.now
                if self.receive(other, step):
                    self.go_on()

        group = other.parent
        assert group is not None
        if other.state not in UNSETTLED or not group.under_way:
            return self.receive(other, step)
        if other.state == "IDLE" and group.will_not_start(other):
            return self.receive(other, step)
        self.awaited = resume
        other.awaiters.append(resume)
        return False

    awaited: Callable[[], None] | None = None

    def receive(self, other: ModelJob, step: Await) -> bool:
        """Get the result of a job, or raise what it raised; return whether the body goes on."""
        if other.state in UNSETTLED:
            self.world.mark("await of what is not reached")
            why = problem("JobNotDone")
        elif step.only_settled or other.state == "SUCCEEDED":
            return True
        elif other.state == "FAILED" or other.state == "BLOCKED":
            assert other.problem is not None
            why = other.problem
            other.is_raised = True
        else:
            why = problem(RAISED_FOR[other.state])
        # Not a failure that `await job` has raised in a job: it belongs to whoever awaited it.
        if (
            other.state in ("FAILED", "BLOCKED")
            and other.counts
            and not other.criticality
        ):
            other.is_taken = True
            self.world.mark("failure taken")
            siblings = () if other.parent is None else other.parent.jobs
            if self.world.drops and any(
                each.problem and each.problem.root is other.problem for each in siblings
            ):
                # It stands for what it has blocked.
                self.world.doubt("the last failure that is kept is awaited")
        if "Throttled" in why.leaves:
            self.world.doubt("a job raises the Throttled of another")
        self.end_scope()
        self.has_awaited_failure = True
        self.has_raised(why)
        return False

    # ---- after a cancellation

    def unwind(self) -> None:
        """Linger, then react; a further cancellation changes nothing but ends a wait without a shield."""
        if self.unwinding:
            self.again = True
            if self.plan.linger and self.world.is_direct_asyncio:
                self.world.doubt("a shield of anyio does not hold")
            if self.timers:
                self.drop_timers()
                self.end()
            return
        self.unwinding, self.again = True, False
        is_due = (
            self.scope_timer is not None
            and self.scope_timer.live
            and self.scope_timer.when < self.world.now + SAME
        )
        lingers = self.plan.linger > 0 and self.world.is_direct_asyncio
        if is_due and self.asked and lingers:
            # It is cancelled twice at this instant.
            self.world.doubt("a shield of anyio does not hold")
        self.end_scope()
        if self.plan.reaction is Reaction.START and not self.ready:
            self.become_ready()
        if self.plan.linger:
            self.world.mark("lingering")
            if self.at_each_wait and self.world.is_direct_asyncio:
                self.world.doubt("a shield of anyio does not hold")
            self.world.after(self.plan.linger, self.react)
        else:
            self.react()

    def react(self) -> None:
        """Wait, or end, after a cancellation."""
        again = self.again or self.at_each_wait
        if self.plan.linger and self.world.is_direct_asyncio and self.world.is_tied():
            # If a further cause comes in this instant.
            self.world.doubt("a shield of anyio does not hold")
        if (
            self.plan.reaction is Reaction.GO_ON
            and self.world.cancels_once
            and not again
        ):
            self.timers.append(self.world.after(self.plan.unwinding, self.end))
        else:
            self.end()

    def end(self) -> None:
        """The outcome follows what leaves the body: a job that catches the cancellation and returns has succeeded."""
        if self.plan.reaction is Reaction.RETURN:
            if self.plan.service and not self.ready:
                self.note_late_failure()
                self.has_raised(problem("RuntimeError"))
            else:
                self.settle("SUCCEEDED")
        elif self.plan.reaction is Reaction.FAIL:
            self.note_late_failure()
            self.has_raised(problem("Boom", self.name))
        elif self.asked:
            self.settle("SUCCEEDED" if self.ready and self.by_run else "CANCELLED")
        else:
            self.has_timed_out()

    def result(self) -> str:
        if self.plan.answer:
            return "yes"
        return f"{self.name}, call {self.calls - 1}"

    def note_late_failure(self) -> None:
        """Two failures of cancelled jobs at one instant may come in any order."""
        if self.world.failed_late == self.world.now:
            self.world.doubt("several fail as they are cancelled")
        self.world.failed_late = self.world.now

    def shut_down(self) -> float:
        """Count the shutdown, and return its seconds."""
        self.world.shutdowns[self.name] += 1
        if self.plan.shutdown:
            self.world.mark("slow shutdown")
        return self.plan.shutdown


def cancel(world: World, name: str, mechanism: str) -> None:
    """Call `cancel()` of a job, or of a scheduler, which cancels everything in it."""
    job = world.jobs.get(name)
    if job is None:
        return
    group = job.parent
    if group is not None and not group.under_way:
        if group.waits_to_begin():
            world.cancelled_early.setdefault(group.name, []).append(name)
        return
    if group is not None and job.state not in UNSETTLED:
        return
    world.mark(mechanism)
    if isinstance(job.plan, Group):
        world.mark("cancel() of a scheduler")
    job.alone = job.alone or not job.asked
    if job.parent is not None:
        job.cancel()
    elif job.why_stopped != "CANCELLED":  # otherwise, its jobs clean up
        job.unwind()


def drain(world: World, name: str) -> None:
    """Call `drain()` of a scheduler: one that has not begun, or waits for another attempt, is as good as cancelled."""
    group = world.jobs.get(name)
    if group in world.schedulers:
        group.drain()  # type: ignore[union-attr]
    elif group is not None and isinstance(group.plan, Group):
        cancel(world, name, "drain")


def try_again(world: World, job: Any) -> None:
    """Try again a job, or all that has failed in a scheduler that is under way, at any depth."""
    if job in world.schedulers:
        try_group_again(world, job)
    elif job is not None and job.state != "SKIPPED":
        try_job_again(world, job)


def try_group_again(world: World, outer: ModelScheduler) -> None:
    """Try again all that has failed in a scheduler, and was not raised by an `await`."""
    if not outer.accepts_calls:
        return
    groups = [each for each in world.schedulers if is_in(each, outer)]
    if any(each.times_out_now for each in groups):
        world.doubt("a scheduler times out as its jobs are tried again")
    count = 0
    for group in groups:
        failed = [
            each for each in group.jobs if each.state == "FAILED" and not each.is_raised
        ]
        if group.goes_on and group.reopen_jobs(failed):
            count += 1
    if count > 1:
        world.doubt("several groups try again at one instant")


def try_job_again(world: World, job: ModelJob) -> None:
    """Try again a job that has ended, or the nested scheduler with which it runs."""
    member = member_of_run(job)
    group = member.parent
    if group not in world.schedulers:
        return
    assert group is not None
    if group.times_out_now:
        world.doubt("a scheduler times out as its jobs are tried again")
    waits = member.state in UNSETTLED
    if waits and (member.state == "RUNNING" or job.state not in SETTLED):
        return
    if not waits and not has_run(member):
        return
    enough = getattr(member.plan, "enough", None)
    keeps_winners = enough is not None and member.state == "SUCCEEDED"
    if keeps_winners and job.state != "SUCCEEDED":
        return
    if not group.goes_on:
        return
    levels = levels_anew(member, job)
    if levels:
        if not world.drops:
            group.take_back_success(job, levels[0])
    elif waits:
        assert job.parent is not None
        job.parent.put_back([job])
    elif member in group.jobs:
        group.reopen_jobs([member])


def has_run(job: ModelJob) -> bool:
    """Return whether a job has an end of its own, which its run has not brought about."""
    if job.state == "CANCELLED":
        return job.alone
    return job.state in ("SUCCEEDED", "FAILED")


def member_of_run(job: ModelJob) -> ModelJob:
    """Return the outermost nested scheduler around a job that is not under way, with which the job runs; or the job."""
    group = job.parent
    while group is not None:
        if group.parent is not None and not group.under_way:
            job = group
        group = group.parent
    return job


def levels_anew(outer: ModelJob, job: ModelJob) -> list[ModelJob]:
    """Return the job, or else the innermost group around it, that has succeeded, and those around it out to `outer`."""
    found: list[ModelJob] = []
    level: ModelJob | None = job
    while level is not None:
        if found or level.state == "SUCCEEDED":
            found.append(level)
        level = None if level is outer else level.parent
    return found


def is_in(job: ModelJob | None, group: ModelJob) -> bool:
    while job is not None and job is not group:
        job = job.parent
    return job is not None


def has_settled(group: ModelJob | None) -> bool:
    """Return whether a group, or one around it, has settled: then the group accepts no other window."""
    while group is not None and group.state in UNSETTLED:
        group = group.parent
    return group is not None


def steer(world: World, step: Steer) -> None:
    """Pause or resume a scheduler that has not ended, or give it another window."""
    group: Any = world.jobs.get(step.who)
    if step.what == "try_again":
        try_again(world, group)
    elif group is None:
        return
    elif isinstance(step.what, int):
        if not has_settled(group):
            group.set_window(step.what)
    elif group.state in UNSETTLED:
        group.set_paused(step.what == "pause")
