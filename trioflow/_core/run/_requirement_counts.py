"""Counts of open requirements: counted down as jobs settle, and up again when jobs are tried again.

A requirement of a job is open until it has settled or is a ready service. `job._pending` is the number of a job's open
requirements, and `job._successors` has the jobs that wait for it. When the count of a successor reaches 0, its rule may
settle it at once, then the rule of the next successor may, and so on: a single failure may block a chain of a million
jobs. Therefore, successors are queued and counted down one by one, without recursion.

**Trying again.** The run goes on as if the failed job had not settled yet. The job is IDLE again, and so is each
BLOCKED job that requires it, at any distance. These invariants make this a local step, job by job, in any order:

- `_pending` of an IDLE job is the number of its requirements that hold it back.
- A job that has failed keeps its `_successors`, which have every job that requires it once. So a job that is reopened
  counts its own requirements, and each IDLE job among its successors counts it again. The BLOCKED successors are
  reopened next. When it settles, its successors are counted down, and their rules decide anew.

Two jobs have no such list: a service that was ready, because its users are counted down before it ends, and any job of
a scheduler that keeps no jobs. Their successors are searched among the members.

**A success that is taken back.** If a job that has succeeded is tried again, its result may have been wrong, so all
that has taken its end into account runs, or is decided, anew, whatever became of it: each job that requires it, at any
distance (`Members.followers`). A job that has succeeded keeps no successors, so the members are searched once. All are
put back in one step: nothing starts in between with the old result. A job that is SCHEDULED leaves the line. A job that
is RUNNING would go on with the old result, so the word is refused. A group among them runs anew whole. If the job is in
a group that has ended, `RunExtras.wanted` marks it, and the groups around it, for the next run of these.

After a failure, this is not undone:

- A job that ran because of the failure or in spite of it (`run_if="failed"` or "settled", `requires(settled=True)`,
  `critical=False`) stays as it is and does not run again, whatever comes of the second try.
- A SKIPPED job stays so, because no skip depends on a failure. So does a BLOCKED job that needs a result which
  `keep_result=False` has dropped.

A nested scheduler that has ended is a job as any other. At the beginning of its next run, the members that succeeded in
its last run are settled: `Run.keeps_succeeded`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ..admission._resource import budgets_used
from ..base._states import (
    BLOCKED,
    CANCELLED,
    FAILED,
    IDLE,
    REOPENABLE,
    RUNNING,
    SCHEDULED,
    SUCCEEDED,
    RunPhase,
)
from ..base._text_forms import clause, join_names, plural
from ..job._ancestors import enclosing_schedulers
from ..job._errors import DROPPED, BudgetSpent, Failure, no_result_error, one_line_error, remedy_of
from ..job._job import AbstractJob, is_scheduler, with_members
from ..job._requirements import certainly_runs, decide
from ._instruments import Part
from ._worker import TURN_SECONDS

if TYPE_CHECKING:
    from ._run import Run


def link(job: AbstractJob[Any], requirements: Iterable[AbstractJob[Any]]) -> None:
    """Make a job wait for those `requirements` that have not settled and are not ready services.

    Of those that have failed, it becomes a successor, too, because they may be tried again.
    """
    keep_jobs = job._scheduler is not None and job._scheduler.keep_jobs
    for requirement in requirements:
        holds_back = requirement._holds_back()
        if holds_back or (requirement._state in REOPENABLE and keep_jobs):
            job._pending += holds_back
            if (successors := requirement._successors) is None:
                requirement._successors = job
            elif isinstance(successors, list):
                successors.append(job)
            else:
                requirement._successors = [successors, job]


def count_consumer(job: AbstractJob[Any]) -> None:
    """Count a job as a consumer of each of its inputs that has `keep_result=False`."""
    for requirement in job._inputs:
        if not requirement._options.keep_result:
            requirement._ensure_extras().consumer_count += 1
            job._ensure_extras().drops_results = True
            # `_call_once` drops the results.
            job._is_plain = False


def successors_of(job: AbstractJob[Any]) -> Iterable[AbstractJob[Any]]:
    if (successors := job._successors) is None:
        return ()
    return successors if isinstance(successors, list) else (successors,)


def users_of(job: AbstractJob[Any]) -> list[AbstractJob[Any]]:
    """Return the jobs in the same scheduler that wait for an unsettled job, and take its result as an input."""
    return [user for user in successors_of(job) if job in user._inputs]


class RequirementCounts:
    """Links the jobs of a run to their requirements, and counts down each job's unsettled requirements."""

    def __init__(self, run: Run) -> None:
        self._run: Final = run
        # Jobs without open requirements that may settle at once, by their rule or from a journal.
        self.queued: Final[deque[AbstractJob[Any]]] = deque()
        # Whether the queue is being processed, or will be later. If so, `count_down` only adds to it.
        self.counting_down = False
        # Whether all members that have settled so far SUCCEEDED. While this holds, only inputs have to be looked at.
        self.all_succeeded = True
        # Whether a journal may restore each job, or a part hold it back.
        self.is_undecided = False

    def link(self, jobs: Collection[AbstractJob[Any]], undecided: list[AbstractJob[Any]]) -> None:
        """Count each job's requirements, add the job to their successors, and schedule the jobs that have none.

        A job that its rule or the journal may settle instead, or a `First` hold back, is appended to `undecided`.
        """
        run, members = self._run, self._run.members
        if run.closes_scheduler:
            for job in jobs:
                job._ensure_extras().runs_once = True
        elif run.keeps_succeeded:
            settled, jobs = [job for job in jobs if job._state is not IDLE], [job for job in jobs if job._state is IDLE]
            # Their ends were told when they settled.
            run.had_ordinary_jobs |= bool(settled)
        requires_members_only = not members.implied_requirements and not members.has_outside_requirements
        self.is_undecided |= run.journal_writer is not None
        is_undecided = self.is_undecided
        successors: Any
        entries: list[AbstractJob[Any]] = []
        forever = 0
        for job in jobs:
            if job._inputs:
                count_consumer(job)
            if not job._is_plain and job._options.forever:
                forever += 1
            required = job._required if requires_members_only else members.all_requirements(job)
            if run.keeps_succeeded:
                required = [requirement for requirement in required if requirement._holds_back()]
            if not required:
                job._pending = 0
                # Some have settled, outside of the run.
                may_settle = job._required or job._options.run_if == "failed"
                if is_undecided or (may_settle and decide(job)[0] is not SCHEDULED):
                    undecided.append(job)
                else:
                    entries.append(job)
                continue
            job._pending = len(required)
            # As in the function `link`: a call would cost a tenth of an empty job.
            for requirement in required:
                successors = requirement._successors
                if successors is None:
                    requirement._successors = job
                elif successors.__class__ is list:
                    successors.append(job)
                else:
                    requirement._successors = [successors, job]
        run.add_unsettled(len(jobs) - forever, forever)
        run.schedule(entries)

    def count_down(self, successors: Any) -> None:
        """Count down the successors of a settled job, or of a service that has become ready, and schedule ready ones.

        A job that may settle at once, by its rule or from a journal, or be held back by a `First`, is queued first, and
        so are all jobs behind it.
        """
        run, queued = self._run, self.queued
        if successors.__class__ is not list:
            successors = (successors,)
        if run.phase._is_ending:
            run.open_lane.start(successors)
            return
        for successor in successors:
            pending = successor._pending - 1
            successor._pending = pending
            if pending:
                continue
            if (
                queued
                or self.is_undecided
                or successor._state is not IDLE
                or successor._options.run_if == "failed"
                or ((successor._inputs or not self.all_succeeded) and not certainly_runs(successor))
            ):
                queued.append(successor)
                continue
            run.ready(successor, run.line)
            if run.phase._is_ending:
                # An instrument has drained or cancelled the run.
                return
        if queued and not self.counting_down:
            self.count_down_queued()

    def count_down_queued(self) -> None:
        """Make the queued jobs ready one by one. The journal writer may defer the rest to a later turn."""
        run = self._run
        self.counting_down = True
        number = 0
        while self.queued and not run.phase._is_ending:
            number += 1
            if run.journal_writer is not None and run.journal_writer.defer_lookups_if_late(number):
                return
            job = self.queued.popleft()
            # A job that has got a new requirement waits for it.
            if not job._pending:
                run.make_ready(job)
        self.queued.clear()
        self.counting_down = False
        for part in run.parts:
            part.act()


MAX_NAMED_JOBS: Final = 5
JOBS_PER_CLOCK_READING: Final = 16
"""The number of jobs to reopen between two readings of the clock."""


def why_not(run: Run, job: AbstractJob[Any] | None, wanted: Collection[AbstractJob[Any]] = ()) -> str:
    """Return why a job, or for None any job, cannot be tried again now, or "" if it can. Any thread may ask.

    The job is tried again for the sake of those `wanted` in it, or for its own.
    """
    if run.phase is not RunPhase.RUNNING:
        return f"{run.scheduler.label!r} {run.phase.value}"
    if job is None:
        return ""
    # Its own `on_settled` may ask.
    state = job.state
    if not (state in (FAILED, SUCCEEDED) or (state is CANCELLED and job._outcome.is_alone)):
        cause = clause("; try again what has blocked it", state is BLOCKED)
        if isinstance(error := job.raised_exception(), BudgetSpent):
            cause = f"; for another run, {remedy_of(error)}"
        return f"it is {state.value}, and only what has succeeded or failed, or was cancelled alone, can be{cause}"
    if state is not SUCCEEDED and not job._state.is_settled and job._criticality():
        return "it is critical, so its failure is about to stop the run"
    if run.scheduler._enough is not None:
        return f"{run.scheduler.label!r} is a First, which has counted its end; it can be tried again as a whole"
    if job not in run.members.jobs:
        return f"{run.scheduler.label!r} has keep_jobs=False, and has dropped it; add another job"
    if any(each._is_spent() and each._state is not SUCCEEDED for each in with_members(job)):
        return "its coroutine object can run only once; give Job the async function"
    if is_anew(job, wanted):
        return _why_not_anew(run, job, wanted)
    return "a result that it needs was dropped, because of keep_result=False" if _lacks_input(job) else ""


def _why_not_anew(run: Run, job: AbstractJob[Any], wanted: Collection[AbstractJob[Any]]) -> str:
    """Return why a success cannot be taken back, with all that follows it. O(V + E)."""
    if not run.scheduler.keep_jobs or run.outermost().closes_scheduler:
        return f"{run.scheduler.label!r} keeps nothing that has succeeded to run it again; add another job"
    for each in taken_back(run, job, wanted):
        if each._state is RUNNING and each is not job:
            return f"{each.label!r} is running: cancel it first, or wait"
        if each._is_spent():
            return f"the coroutine object of {each.label!r} can run only once; give Job the async function"
    return ""


def levels_anew(job: AbstractJob[Any], wanted: AbstractJob[Any]) -> Iterator[AbstractJob[Any]]:
    """Yield the wanted job, or else the innermost group around it whose success is taken back, and those around it.

    The last one is `job`, the outermost that is tried again.
    """
    levels = [wanted, *enclosing_schedulers(wanted)]
    has_succeeded = False
    for level in levels[: levels.index(job) + 1]:
        has_succeeded = has_succeeded or level.state is SUCCEEDED
        if has_succeeded:
            yield level


def is_anew(job: AbstractJob[Any], wanted: Collection[AbstractJob[Any]]) -> bool:
    """Return whether a success is taken back if a job is tried again for the sake of those `wanted` in it."""
    return any(any(levels_anew(job, each)) for each in wanted or (job,))


def taken_back(run: Run, job: AbstractJob[Any], wanted: Collection[AbstractJob[Any]]) -> list[AbstractJob[Any]]:
    """Return what runs anew, at any depth, because a success is taken back: it, and all that follows it. O(V + E)."""
    wanted = wanted or (job,)
    around = {level for each in wanted for level in enclosing_schedulers(each)}
    found = dict.fromkeys(run.members.followers([job]))
    for each in wanted:
        for level in [*levels_anew(job, each)][:-1]:
            found.update(dict.fromkeys(level._scheduler._members.followers([level])))  # type: ignore[union-attr]
    return [inner for each in found for inner in ((each,) if each in around else with_members(each))]


def _lacks_input(job: AbstractJob[Any]) -> bool:
    return any(each._outcome is DROPPED for each in job._inputs)


def _count_open(run: Run, job: AbstractJob[Any]) -> int:
    return sum(requirement._holds_back() for requirement in run.members.all_requirements(job))


def put_back(job: AbstractJob[Any], now: float) -> None:
    """Put a settled job back to IDLE. Its work so far counts as an attempt, and `retry` begins anew."""
    extras = job._extras
    if job._started_at is not None and job._finished_at is not None:
        extras = job._ensure_extras()
        error = None if job._state is SUCCEEDED else no_result_error(job)
        extras.earlier_use = budgets_used(job)
        extras.first_started_at = job.started_at
        extras.add_retry(job._started_at, job._finished_at, error, now - job._finished_at, had_settled=True)
    if extras is not None:
        # Between two attempts, too, a scheduler has run.
        extras.runs_anew |= is_scheduler(job) and extras.wanted is job
        extras.keeps_succeeded = is_scheduler(job) and job.attempts > 0 and not extras.runs_anew
        extras.wanted = None
        extras.earlier_retries = extras.retry_count
        extras.is_untold = False
        extras.ready_at = extras.fraction = extras.grant = extras.time_limit = extras.backoff_until = None
        extras.restoration = extras.throttled_since = None
    job._reset()
    job._extras = extras or job._extras


def reopen_all(run: Run) -> None:
    """Try again the failed jobs here and in nested runs, if possible, and the failure was not awaited."""
    for each in run.with_nested():
        reopen(each, [job for job in each.members.jobs if job.state is FAILED and not job._outcome.is_taken])


def reopen(run: Run, jobs: Iterable[AbstractJob[Any]], wanted: Collection[AbstractJob[Any]] = ()) -> None:
    """Reset these members and the jobs that they blocked, so that the run tries them again. O(V + E) of these.

    If they have succeeded, or are tried again for the sake of those `wanted` in them that have, all that follows is
    reset, too. Members that cannot be tried again stay as they are. After a chunk, the work goes on in the next turns
    of the loop.
    """
    if ended := [job for job in jobs if not why_not(run, job, wanted)]:
        part = run.part(Reopening) or run.join(Reopening(run))
        part.add({job: wanted for job in ended if not is_about_to_reopen(run, job)})


def is_about_to_reopen(run: Run, job: AbstractJob[Any]) -> bool:
    """Return whether a hook has asked for another try of a job that was settling."""
    return (part := run.part(Reopening)) is not None and job in part.asked


def holds_successors(run: Run, job: AbstractJob[Any]) -> bool:
    """Return whether a job that has succeeded keeps its successors waiting, because a hook asked for another try."""
    part = run.part(Reopening)
    if part is None or job not in part.asked or job._state is not SUCCEEDED:
        return False
    part.uncounted.add(job)
    return True


class Reopening(Part):
    """The jobs of a run that are about to be IDLE again. A run gets this part with the first of them."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._todo: Final[deque[AbstractJob[Any]]] = deque()
        # The jobs among them that were asked for, each with the wanted jobs in it, if it is a group that has ended.
        self.asked: Final[dict[AbstractJob[Any], Collection[AbstractJob[Any]]]] = {}
        # The jobs among them that run anew, whatever became of them, each with its successors.
        self._anew: Final[dict[AbstractJob[Any], list[AbstractJob[Any]]]] = {}
        # The jobs among them whose successors have not been counted down.
        self.uncounted: Final[set[AbstractJob[Any]]] = set()
        self._is_working = False
        self._clear_report()

    def _clear_report(self) -> None:
        # The errors of the jobs that are tried again.
        self._errors: dict[AbstractJob[Any], str] = {}
        self._blocked_count = self._following_count = 0
        # The jobs that require a reopened job, and stay as they are.
        self._ran: dict[AbstractJob[Any], None] = {}

    def is_busy(self) -> bool:
        return bool(self._todo) and self._run.phase is RunPhase.RUNNING

    def add(self, asked: dict[AbstractJob[Any], Collection[AbstractJob[Any]]]) -> None:
        self.asked.update(asked)
        self._todo.extend(asked)
        if self._run.is_settling:
            # A function that is told so asks for this: it takes effect when this is done.
            self._run.call_in_loop(self._work)
        else:
            self._work()

    def _work(self) -> None:
        """Reopen jobs for the time of a turn, and let the loop call this again for the others."""
        run, todo = self._run, self._todo
        reopened: list[AbstractJob[Any]] = []
        if self._is_working or not todo:
            # A hook has called `add`, or another call was faster.
            return
        self._is_working = True
        until = run.clock() + TURN_SECONDS
        is_line_clean = False
        while self.is_busy() and (self._anew or len(reopened) % JOBS_PER_CLOCK_READING or run.clock() <= until):
            job = todo.popleft()
            wanted = self.asked.pop(job, None)
            takes_back = wanted is not None and job not in self._anew and is_anew(job, wanted)
            if takes_back and not self._take_back(job, wanted or ()):
                continue
            successors = self._anew.pop(job, None)
            if successors is not None and not job._state.is_settled:
                # It waits for what is put back.
                continue
            if wanted is not None or successors is not None or (job._state is BLOCKED and not _lacks_input(job)):
                if wanted is not None:
                    error = "it had succeeded" if job._state is SUCCEEDED else one_line_error(no_result_error(job))
                    self._errors[job] = f"{job.label!r} ({error})"
                elif successors is not None:
                    self._following_count += 1
                else:
                    self._blocked_count += 1
                if job._started_at is None and not is_line_clean:
                    # It may have settled while it waited.
                    run.line.drop_settled()
                    is_line_clean = True
                self._reopen(job, successors)
                reopened.append(job)
        run.scheduler._extend_settled_iterators(reopened)
        for part in run.parts:
            part.on_added()
        if not self.is_busy():
            todo.clear()
            self._anew.clear()
            self._report()
        for job in reopened:
            if not job._pending:
                run.make_ready(job)
        # Its own task lets a worker search.
        run.wake()
        self._is_working = False
        if todo:
            run.call_in_loop(self._work)

    def _take_back(self, job: AbstractJob[Any], wanted: Collection[AbstractJob[Any]]) -> bool:
        """Let a job that has succeeded, or that is around one, and all that follows it be put back next.

        Return False if this is not possible any more. Those that wait in the line leave it at once.
        """
        run = self._run
        if problem := why_not(run, job, wanted):
            run.report(job, f"try_again() of {job.label!r} has no effect: {problem}", is_steering=True)
            if job in self.uncounted:
                self.uncounted.remove(job)
                run.requirement_counts.count_down(run.members.followers([job])[job])
            return False
        for each in wanted:
            for level in levels_anew(job, each):
                level._ensure_extras().wanted = each
        following = run.members.followers([job])
        if run.journal_writer is not None:
            run.journal_writer.discard([*following])
        for each, users in following.items():
            self._anew[each] = users
            each._want_anew()
            if each._state is SCHEDULED:
                run.line.refund(each)
                each._wait_again()
                # A failure among them may have been tried again, for which it did not wait.
                each._pending = _count_open(run, each) + (job in self.uncounted and each in following[job])
                run.line.give_back(each)
            if each is not job:
                self._todo.append(each)
        run.line.drop_settled()
        return True

    def _reopen(self, job: AbstractJob[Any], anew: list[AbstractJob[Any]] | None) -> None:
        """Put a settled job back to IDLE, and each BLOCKED job that requires it in the line for the same.

        Args:
            job: the job.
            anew: its successors, if it runs anew.

        """
        run, members, extras, outcome = self._run, self._run.members, job._extras, job._outcome
        successors: Any = job._successors if anew is None else anew or None
        has_ended_early = extras is not None and extras.ready_at is not None
        if anew is None and (not run.scheduler.keep_jobs or has_ended_early):
            successors = [user for user in members.jobs if job in members.all_requirements(user)] or None
        is_uncounted = job in self.uncounted
        self.uncounted.discard(job)
        run.cancelled_count -= job._state is CANCELLED and not job._options.forever
        if type(outcome) is Failure:
            run.failures.uncount(job, outcome)
        put_back(job, run.clock())
        job._successors = successors
        job._pending = _count_open(run, job)
        if run.keeps_succeeded:
            # What had succeeded as the run began was linked to nothing.
            unlinked = [each for each in members.all_requirements(job) if job not in successors_of(each)]
            job._pending -= sum(each._holds_back() for each in unlinked)
            link(job, unlinked)
        run.add_unsettled(not job._options.forever, job._options.forever)
        count_consumer(job)
        for user in successors_of(job):
            if user._state is IDLE:
                user._pending += not is_uncounted
            elif user in self._anew:
                continue
            elif user._state is BLOCKED:
                self._todo.append(user)
            elif user._state is SCHEDULED or user.attempts:
                self._ran[user] = None
        run.notify("job_reopened", job)

    def _report(self) -> None:
        if not self._errors:
            # The run has begun to stop before this could take effect.
            return
        text = f"tried again: {join_names([*self._errors.values()], MAX_NAMED_JOBS)}"
        if self._blocked_count:
            text += f", with {plural(self._blocked_count, 'blocked job')}"
        if self._following_count:
            text += f", with {plural(self._following_count, 'job')} that followed"
        if self._ran:
            names = [repr(job.label) for job in islice(self._ran, MAX_NAMED_JOBS)]
            text += f"; what has run meanwhile does not run again: {join_names(names, MAX_NAMED_JOBS, len(self._ran))}"
        job = next(iter(self._errors)) if len(self._errors) == 1 else None
        self._clear_report()
        self._run.report(job, text, is_steering=True)
