"""Another try: jobs that have settled are IDLE again in the run in progress, and their requirements are counted up.

**A failure that is tried again.** The run goes on as if the job had not settled yet. The job is IDLE again, and so is
each BLOCKED job that requires it, at any distance. These invariants make this a local step, job by job, in any order:

- `_pending` of an IDLE job is the number of its requirements that hold it back.
- A job that has failed keeps its `_successors`, which have every job that requires it once. So a job that is reopened
  counts its own requirements, and each IDLE job among its successors counts it again. The BLOCKED successors are
  reopened next. When it settles, its successors are counted down, and their rules decide anew.

Two jobs have no such list: a service that was ready, because its users are counted down before it ends, and any job of
a scheduler that keeps no jobs. Their successors are searched among the members.

This is not undone:

- A job that ran because of the failure or in spite of it (`run_if="failed"` or "settled", `requires(settled=True)`,
  `critical=False`) stays as it is and does not run again, whatever comes of the second try.
- A SKIPPED job stays so, because no skip depends on a failure. So does a BLOCKED job that needs a result which
  `keep_result=False` has dropped.

**A success that is taken back.** If a job that has succeeded is tried again, its result may have been wrong, so all
that has taken its end into account runs, or is decided, anew, whatever became of it: each job that requires it, at any
distance. One search finds these (`Members.followers`). One step marks them (`RunExtras.wanted`): from then on they hold
back what requires them, so nothing starts with the old result, and each IDLE job that requires them has counted them.
What is SCHEDULED leaves the line in this step. Then they are put back, chunk by chunk. A job that is RUNNING goes on
with the old result, so the word is refused, or has the job cancelled, which is put back when it has ended. A group
among them runs anew whole. If the job is in a group that has ended, it and the groups around it are marked for the next
run of these.

A nested scheduler that has ended is a job as any other. At the beginning of its next run, the members that succeeded in
its last run are settled: `Run.keeps_succeeded`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..admission._resource import budgets_used
from ..base._states import BLOCKED, CANCELLED, FAILED, IDLE, RUNNING, SCHEDULED, STOPPING, SUCCEEDED, RunPhase
from ..base._text_forms import MAX_NAMED_JOBS, clause, join_names, plural
from ..job._ancestors import enclosing_schedulers
from ..job._errors import DROPPED, BudgetSpent, Failure, no_result_error, one_line_error, remedy_of
from ..job._job import AbstractJob, is_scheduler, with_members
from ._instruments import Part
from ._requirement_counts import count_consumer, count_open, successors_of
from ._worker import TURN_SECONDS

if TYPE_CHECKING:
    from ._run import Run

JOBS_PER_CLOCK_READING: Final = 16
"""The number of jobs to reopen between two readings of the clock."""


class NextTry(NamedTuple):
    """What another try of a member means at one moment."""

    job: AbstractJob[Any]
    wanted: Collection[AbstractJob[Any]] = ()
    """The jobs in it for whose sake it is tried again, or empty if it is for its own."""
    cancels: bool = False
    """Whether what runs with a result that is taken back is cancelled. Otherwise it keeps this from being done."""
    problem: str = ""
    """Why this cannot be done, or ""."""
    following: Mapping[AbstractJob[Any], list[AbstractJob[Any]] | None] | None = None
    """If a success is taken back, the members that run anew, each with the members that require it."""
    others: Collection[AbstractJob[Any]] = ()
    """The jobs, at any depth, that run anew because of those wanted."""
    running: Collection[AbstractJob[Any]] = ()
    """Those of them that run now."""


def examine(
    run: Run, job: AbstractJob[Any], wanted: Collection[AbstractJob[Any]] = (), cancels: bool = False
) -> NextTry:
    """Return what another try of a member means now. Any thread may ask. O(V + E) if a success is taken back."""
    asked = NextTry(job, wanted, cancels, _why_not(run, job))
    if asked.problem:
        return asked
    if is_anew(job, wanted):
        return _with_followers(run, asked)
    if _lacks_input(job):
        return asked._replace(problem="a result that it needs was dropped, because of keep_result=False")
    return asked


def _why_not(run: Run, job: AbstractJob[Any]) -> str:
    """Return why a member cannot be tried again now, whatever follows it, or ""."""
    if run.phase is not RunPhase.RUNNING:
        return f"{run.scheduler.label!r} {run.phase.value}"
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
    return ""


def _with_followers(run: Run, asked: NextTry) -> NextTry:
    """Find what runs anew if a success is taken back, and what of it stands in the way."""
    if not run.scheduler.keep_jobs or run.outermost().closes_scheduler:
        problem = f"{run.scheduler.label!r} keeps nothing that has succeeded to run it again; add another job"
        return asked._replace(problem=problem)
    wanted = asked.wanted or (asked.job,)
    around = {level for each in wanted for level in enclosing_schedulers(each)}
    following = run.members.followers([asked.job])
    found = dict.fromkeys(following)
    for each in wanted:
        for level in [*levels_anew(asked.job, each)][:-1]:
            found.update(dict.fromkeys(level._scheduler._members.followers([level])))  # type: ignore[union-attr]
    groups: list[Any] = [each for each in found if each._is_scheduler and each not in around]
    for group in groups:
        found.update(dict.fromkeys(group.iterate_jobs()))
    meant = {*wanted, *around}
    others = [each for each in found if each not in meant]
    running = [each for each in following if each._state is RUNNING and each is not asked.job]
    problem = ""
    if running and not asked.cancels:
        names = join_names([repr(each.label) for each in running], MAX_NAMED_JOBS)
        problem = f"what follows it is running: {names}; cancel() that first, or wait"
    elif (spent := next((each for each in found if each._is_spent()), None)) is not None:
        problem = f"the coroutine object of {spent.label!r} can run only once; give Job the async function"
    return asked._replace(problem=problem, following=following, others=others, running=running)


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


def _lacks_input(job: AbstractJob[Any]) -> bool:
    return any(each._outcome is DROPPED for each in job._inputs)


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
        extras.begin_anew(now)
        extras.is_untold = False
        extras.wanted = extras.ready_at = extras.fraction = extras.grant = extras.time_limit = extras.restoration = None
    job._reset()
    job._extras = extras or job._extras


def reopen_all(run: Run) -> None:
    """Try again the failed jobs here and in nested runs, if possible, and the failure was not awaited."""
    for each in run.with_nested():
        failed = [job for job in each.members.jobs if job.state is FAILED and not job._outcome.is_taken]
        reopen(each, [examine(each, job) for job in failed])


def reopen(run: Run, tries: Iterable[NextTry]) -> None:
    """Put back what has settled, and what follows, so that the run tries it again. O(V + E) of these.

    What cannot be tried again stays as it is. After a chunk, the work goes on in the next turns of the loop.
    """
    if possible := [each for each in tries if not each.problem]:
        run.reopening = run.reopening or run.join(Reopening(run))
        run.reopening.add(possible)


def is_about_to_reopen(run: Run, job: AbstractJob[Any]) -> bool:
    """Return whether another try of a job was asked for, which is still to come."""
    return run.reopening is not None and (job in run.reopening.asked or job in run.reopening.anew)


class Reopening(Part):
    """The jobs of a run that are about to be IDLE again. A run gets this part with the first of them."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._todo: Final[deque[AbstractJob[Any]]] = deque()
        # What was asked for, by job.
        self.asked: Final[dict[AbstractJob[Any], NextTry]] = {}
        # The jobs among these whose success is taken back. They come first, whatever the time: until they and what
        # follows them are marked, something may start with an old result.
        self._to_mark: Final[deque[AbstractJob[Any]]] = deque()
        # The jobs that run anew, and have not been put back: they have settled, or are being cancelled.
        self.anew: Final[dict[AbstractJob[Any], None]] = {}
        # The jobs among those asked for whose successors have not been counted down.
        self._uncounted: Final[set[AbstractJob[Any]]] = set()
        self._is_working = False
        self._clear_report()

    def _clear_report(self) -> None:
        # The errors of the jobs that are tried again.
        self._errors: dict[AbstractJob[Any], str] = {}
        self._blocked_count = self._following_count = 0
        # The jobs that require a reopened job, and stay as they are.
        self._ran: dict[AbstractJob[Any], None] = {}

    def is_busy(self) -> bool:
        return bool(self._todo or self._to_mark) and self._run.phase is RunPhase.RUNNING

    def enter(self, phase: RunPhase) -> None:
        """Put back at once what is left, so that the run ends with no result that was taken back."""
        if phase is STOPPING:
            left = [job for job in self.anew if job._state.is_settled]
            self._discard_records(left)
            for job in left:
                self._reopen(job)
            for job in self.anew:
                # It is being cancelled.
                job._ensure_extras().wanted = None
            self._todo.clear()
            self.anew.clear()
            self._report()

    def add(self, tries: Iterable[NextTry]) -> None:
        run, tries = self._run, [*tries]
        # A function that is told of an end, or its own `on_settled`, asks: it takes effect when this is done.
        is_told = bool(run.ends.depth) or any(each.job.state is not each.job._state for each in tries)
        is_now = not (is_told or self._is_working or self._to_mark)
        for each in tries:
            job = each.job
            if job in self.anew:
                _mark_levels(each)
                continue
            if each.following is not None:
                self._to_mark.append(job)
            elif job not in self.asked:
                self._todo.append(job)
            wanted = {*each.wanted, *self.asked.get(job, each).wanted}
            if not is_now or job in self.asked:
                # It will be examined again.
                each = NextTry(job, wanted, each.cancels)
            self.asked[job] = each
        if is_told:
            run.call_in_loop(self._work)
        else:
            self._work()

    def keeps_waiting(self, job: AbstractJob[Any]) -> bool:
        """Return whether those that require a job that settles wait on, because it is about to be tried again."""
        if job in self.anew:
            job._successors = self._run.members.followers([job])[job]
            self._todo.append(job)
            self._run.call_in_loop(self._work)
            return True
        if job in self.asked and job._state is SUCCEEDED:
            self._uncounted.add(job)
            return True
        return False

    def _work(self) -> None:
        """Reopen jobs for the time of a turn, and let the loop call this again for the others."""
        run, todo = self._run, self._todo
        reopened: list[AbstractJob[Any]] = []
        anew: list[AbstractJob[Any]] = []
        if self._is_working or not (todo or self._to_mark):
            # A hook has called `add`, or another call was faster.
            return
        self._is_working = True
        until = run.clock() + TURN_SECONDS
        is_line_clean = False
        while self.is_busy() and (self._to_mark or len(reopened) % JOBS_PER_CLOCK_READING or run.clock() <= until):
            if self._to_mark:
                if (wanted := self.asked.pop(self._to_mark.popleft(), None)) is not None:
                    self._mark_followers(wanted)
                continue
            job = todo.popleft()
            asked = self.asked.pop(job, None)
            if job in self.anew:
                anew.append(job)
            elif asked is not None:
                self._errors[job] = f"{job.label!r} ({one_line_error(no_result_error(job))})"
            elif job._state is BLOCKED and not _lacks_input(job):
                self._blocked_count += 1
            else:
                continue
            if job._started_at is None and not is_line_clean:
                # It may have settled while it waited.
                run.line.drop_settled()
                is_line_clean = True
            self._reopen(job)
            reopened.append(job)
        self._discard_records(anew)
        run.scheduler._extend_settled_iterators(reopened)
        for part in run.parts:
            part.on_added()
        if not self.is_busy():
            todo.clear()
            self._to_mark.clear()
            self._report()
        for job in reopened:
            if not job._pending:
                run.undecided.make_ready(job)
        # Its own task lets a worker search.
        run.wake()
        self._is_working = False
        if self.is_busy():
            run.call_in_loop(self._work)

    def _discard_records(self, jobs: list[AbstractJob[Any]]) -> None:
        if jobs and self._run.journal_writer is not None:
            self._run.journal_writer.discard(jobs)

    def _mark_followers(self, asked: NextTry) -> None:
        """Mark a job that has succeeded, or is around one, and all that follows it, unless this is not possible now."""
        run, job = self._run, asked.job
        if asked.following is None:
            asked = examine(run, job, asked.wanted, asked.cancels)
        if asked.problem:
            run.report(job, f"try_again() of {job.label!r} has no effect: {asked.problem}", is_steering=True)
            if job in self._uncounted:
                self._uncounted.remove(job)
                run.requirement_counts.count_down(run.members.followers([job])[job] or [])
            return
        if asked.following is None:
            # After the word, its callback has raised, so it has failed.
            self.asked[job] = asked
            self._todo.append(job)
            return
        self._uncounted.discard(job)
        self._errors[job] = f"{job.label!r} (it had succeeded)"
        if job._state is not SUCCEEDED:
            self._errors[job] = f"{job.label!r} ({one_line_error(no_result_error(job))})"
        _mark_levels(asked)
        leaving: list[AbstractJob[Any]] = []
        for each, users in asked.following.items():
            if each._state is SCHEDULED:
                leaving.append(each)
            elif each._state is not IDLE and each not in self.anew:
                extras = each._ensure_extras()
                extras.wanted = extras.wanted or each
                each._successors = users
                self.anew[each] = None
                if each._state is RUNNING:
                    # So that its end asks `keeps_waiting`, though nothing requires it.
                    each._successors = users or []
                else:
                    self._todo.append(each)
                self._following_count += each is not job
        for each in leaving:
            run.line.refund(each)
            run.wait_again(each)
        if leaving:
            run.line.drop_settled()
        for each in {user for users in asked.following.values() for user in users or () if user._state is IDLE}:
            each._pending = count_open(run, each)
        for each in leaving:
            run.line.give_back(each)
        for each in leaving:
            run.notify("job_reopened", each)
        for each in asked.running:
            run.cancel_job(each)

    def _reopen(self, job: AbstractJob[Any]) -> None:
        """Put a settled job back to IDLE, and each BLOCKED job that requires it in the line for the same."""
        run, members, extras, outcome = self._run, self._run.members, job._extras, job._outcome
        runs_anew = job in self.anew
        self.anew.pop(job, None)
        successors: Any = job._successors
        has_ended_early = extras is not None and extras.ready_at is not None
        if not runs_anew and (not run.scheduler.keep_jobs or has_ended_early):
            successors = [user for user in members.jobs if job in members.all_requirements(user)] or None
        run.counts.begin_again(job)
        if type(outcome) is Failure:
            run.failures.uncount(job, outcome)
        put_back(job, run.clock())
        members.reopened_count += 1
        job._successors = successors
        job._pending = count_open(run, job)
        count_consumer(job)
        for user in () if runs_anew else successors_of(job):
            if user._state is IDLE:
                user._pending += 1
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


def _mark_levels(asked: NextTry) -> None:
    """Mark the wanted jobs that have succeeded, and the groups around them that have, for the next run of these."""
    for each in asked.wanted:
        for level in levels_anew(asked.job, each):
            level._ensure_extras().wanted = each
