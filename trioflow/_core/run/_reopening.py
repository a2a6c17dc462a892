"""Another try: jobs that have settled are IDLE again in the run in progress, and their requirements are counted up.

| word | what it means | when |
|---|---|---|
| REOPEN | a failure is tried again, and what it has blocked | in chunks, from the step of the word on |
| TAKE_BACK | a success runs again, and all that used it, at any depth | in the step of the word |
| REPEAT | what runs with a result that was taken back is cancelled for it | in the turn after its end |

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
that has used it runs, or is decided, anew, whatever became of it. `what_follows` finds these jobs, wherever they are,
and the groups around them. One step puts all of them back, takes their records out of the journal, and counts anew what
waits for them, so nobody has, stores or starts with an old result. What is SCHEDULED leaves the line in this step. The
members of a group that has no run are simply IDLE: its next run begins with its members as they are
(`Run.keeps_succeeded`). A job that is RUNNING goes on with the old result, and so does a group with such jobs in it. So
the word is refused, or has it cancelled.

A function that is told of an end may ask for this: the successors of the job are then not counted down, its record is
removed, and the rest is done when all have been told.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..admission._resource import budgets_used
from ..base._states import BLOCKED, CANCELLED, FAILED, IDLE, RUNNING, SCHEDULED, STOPPING, SUCCEEDED, RunPhase
from ..base._text_forms import MAX_NAMED_JOBS, clause, join_names, plural
from ..job._ancestors import enclosing_schedulers
from ..job._errors import DROPPED, BudgetSpent, Failure, no_result_error, one_line_error, remedy_of
from ..job._following import what_follows
from ..job._job import AbstractJob, RunExtras, is_scheduler, with_members
from ._instruments import Part
from ._requirement_counts import count_consumer, count_open, successors_of
from ._worker import TURN_SECONDS

if TYPE_CHECKING:
    from ..scheduler._base_scheduler import BaseScheduler
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
    again: Collection[AbstractJob[Any]] | None = None
    """If a success is taken back, all that runs again, at any depth, and the groups around these."""
    others: Collection[AbstractJob[Any]] = ()
    """The jobs, at any depth, that run anew because of those wanted."""
    running: Collection[AbstractJob[Any]] = ()
    """The jobs and groups that run now with what is taken back."""


class Word(enum.Enum):
    REOPEN = "reopen"
    TAKE_BACK = "take back"
    REPEAT = "repeat"


class Step(NamedTuple):
    """What is to be done with a job that has settled."""

    word: Word
    asked: NextTry | None = None
    """What was asked for, or None if the job follows another."""
    is_uncounted: bool = False
    """Whether its successors have not been counted down, because its success is about to be taken back."""


def examine(
    run: Run, job: AbstractJob[Any], wanted: Collection[AbstractJob[Any]] = (), cancels: bool = False
) -> NextTry:
    """Return what another try of a member means now. Any thread may ask. O(V + E) if a success is taken back."""
    asked = NextTry(job, wanted, cancels, _why_not(run, job, wanted))
    if asked.problem:
        return asked
    if is_anew(job, wanted):
        return _with_followers(run, asked)
    if not job._state.is_settled:
        # A group that waits. Nothing follows, because all in it that has not succeeded runs again with it.
        return asked._replace(again=[each for each in wanted if each._state.is_settled])
    if _lacks_input(job):
        return asked._replace(problem="a result that it needs was dropped, because of keep_result=False")
    return asked


def _why_not(run: Run, job: AbstractJob[Any], wanted: Collection[AbstractJob[Any]] = ()) -> str:
    """Return why a member cannot be tried again now, whatever follows it, or ""."""
    if run.phase is not RunPhase.RUNNING:
        return f"{run.scheduler.label!r} {run.phase.value}"
    # Its own `on_settled` may ask.
    state = job.state
    if inside := [each for each in wanted if each is not job and not state.is_settled]:
        if state is RUNNING or not all(each._state.is_settled for each in inside):
            return f"{job.label!r} has not begun in the run of {run.scheduler.label!r}, or waits for another attempt"
    elif not (state in (FAILED, SUCCEEDED) or (state is CANCELLED and job._outcome.is_alone)):
        cause = clause("; try again what has blocked it", state is BLOCKED)
        if isinstance(error := job.raised_exception(), BudgetSpent):
            cause = f"; for another run, {remedy_of(error)}"
        return f"it is {state.value}, and only what has succeeded or failed, or was cancelled alone, can be{cause}"
    elif state is not SUCCEEDED and not job._state.is_settled and job._criticality():
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
    around = {level: None for each in wanted for level in enclosing_schedulers(each)}
    taken = [each for each in wanted if each.state is SUCCEEDED]
    failed = [each for each in wanted if each not in taken]
    groups = [group for each in failed for group in islice(levels_anew(asked.job, each), 1)]
    again = what_follows(run.outermost().scheduler, taken, groups, failed)
    meant = {*around, *(each for job in wanted for each in with_members(job))}
    running = [each for each in again if each._state is RUNNING and each not in meant and each._scheduler in around]
    problem = ""
    ending = [level for level in around if level._run is not None and level._run.phase is not RunPhase.RUNNING]
    if running and not asked.cancels:
        names = join_names([repr(each.label) for each in running], MAX_NAMED_JOBS)
        problem = f"what follows it is running: {names}; cancel() that first, or wait"
    elif (spent := next((each for each in again if each._is_spent()), None)) is not None:
        problem = f"the coroutine object of {spent.label!r} can run only once; give Job the async function"
    elif ending and (run_of_level := ending[0]._run) is not None:
        problem = f"{ending[0].label!r} {run_of_level.phase.value}"
    others = [each for each in again if each not in meant]
    return asked._replace(problem=problem, again=again, others=others, running=running)


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
        extras.keeps_succeeded = is_scheduler(job) and job.attempts > 0
        extras.begin_anew(now)
        extras.is_untold = False
        extras.ready_at = extras.fraction = extras.grant = extras.time_limit = None
        extras.repeats = extras.restoration = None
    job._reset()
    job._extras = extras or job._extras


def reopen_all(run: Run) -> None:
    """Try again the failed jobs here and in nested runs, if possible, and the failure was not awaited."""
    for each in run.with_nested():
        failed = [job for job in each.members.jobs if job.state is FAILED and not job._outcome.is_taken]
        reopen(each, [examine(each, job) for job in failed])


def reopen(run: Run, tries: Iterable[NextTry]) -> None:
    """Put back what has settled, and what follows, so that the run tries it again. O(V + E) of these.

    What cannot be tried again stays as it is. After a chunk of failures, the work goes on in the next turns of the
    loop.
    """
    if possible := [each for each in tries if not each.problem]:
        _reopening_of(run).add(possible)


def _reopening_of(run: Run) -> Reopening:
    run.reopening = run.reopening or run.join(Reopening(run))
    return run.reopening


def is_about_to_reopen(run: Run, job: AbstractJob[Any]) -> bool:
    """Return whether another try of a job was asked for, which is still to come."""
    return (run.reopening is not None and job in run.reopening.steps) or (job._extras or RunExtras).repeats is not None


class Reopening(Part):
    """The jobs of a run that are about to be IDLE again. A run gets this part with the first of them."""

    def __init__(self, run: Run) -> None:
        self._run = run
        # The next comes first.
        self.steps: Final[OrderedDict[AbstractJob[Any], Step]] = OrderedDict()
        self._is_working = False
        self._clear_report()

    def _clear_report(self) -> None:
        # The errors of the jobs that are tried again.
        self._errors: dict[AbstractJob[Any], str] = {}
        self._blocked_count = self._following_count = 0
        # The jobs that require a reopened job, and stay as they are.
        self._ran: dict[AbstractJob[Any], None] = {}

    def is_busy(self) -> bool:
        return bool(self.steps) and self._run.phase is RunPhase.RUNNING

    def enter(self, phase: RunPhase) -> None:
        """Put back at once what is left, so that the run ends with no result that was taken back."""
        if phase is not STOPPING:
            return
        steps = [*self.steps.items()]
        self.steps.clear()
        for job, step in steps:
            if step.word is Word.REPEAT:
                self._end_repeat(job)
            elif step.word is Word.TAKE_BACK and step.asked is not None:
                found = _with_followers(self._run, step.asked)
                self._put_back([each for each in found.again or () if each._state is not RUNNING])
        self._report()

    def add(self, tries: Iterable[NextTry]) -> None:
        run, tries = self._run, [*tries]
        # A function that is told of an end, or its own `on_settled`, asks: it takes effect when this is done.
        asked_for = (job for each in tries for job in (each.job, *each.wanted))
        is_told = bool(run.ends.depth) or any(job.state is not job._state for job in asked_for)
        for each in tries:
            step = self.steps.get(each.job)
            if each.again is None and (step is None or step.word is Word.REOPEN):
                self.steps[each.job] = Step(Word.REOPEN, each)
            elif is_told or self._is_working or step is not None:
                self._defer(each, step or Step(Word.TAKE_BACK))
            else:
                self._is_working = True
                self._take_back(each)
                self._is_working = False
        if is_told:
            run.call_in_loop(self._work)
        else:
            self._work()

    def _defer(self, asked: NextTry, step: Step) -> None:
        """Let a success be taken back, and examined again, before all that is left to do. Its record goes at once."""
        wanted = {*asked.wanted, *(step.asked.wanted if step.asked is not None else ())}
        word = Word.REPEAT if step.word is Word.REPEAT else Word.TAKE_BACK
        self.steps[asked.job] = Step(word, NextTry(asked.job, wanted, asked.cancels), step.is_uncounted)
        self.steps.move_to_end(asked.job, last=False)
        taken = [job for each in wanted if each._state is SUCCEEDED for job in with_members(each)]
        self._discard_records(taken)

    def keeps_waiting(self, job: AbstractJob[Any]) -> bool:
        """Return whether those that require a job that settles wait on, because it is about to be tried again."""
        if (job._extras or RunExtras).repeats is not None:
            if self._run.phase is RunPhase.RUNNING:
                self.steps[job] = Step(Word.REPEAT)
                self.steps.move_to_end(job, last=False)
                self._run.call_in_loop(self._work)
            else:
                self._end_repeat(job)
            return True
        step = self.steps.get(job)
        if step is None or step.word is not Word.TAKE_BACK or job._state is not SUCCEEDED:
            return False
        self.steps[job] = step._replace(is_uncounted=True)
        return True

    def _work(self) -> None:
        """Reopen jobs for the time of a turn, and let the loop call this again for the others."""
        if self._is_working:
            # A hook has called `add`.
            return
        run, reopened = self._run, list[AbstractJob[Any]]()
        self._is_working = True
        until = run.clock() + TURN_SECONDS
        is_line_clean = False
        while self.is_busy() and (len(reopened) % JOBS_PER_CLOCK_READING or run.clock() <= until):
            job, step = self.steps.popitem(last=False)
            if step.word is not Word.REOPEN:
                self._take_back_late(job, step)
                continue
            if not job._state.is_settled:
                continue
            if step.asked is not None:
                self._errors[job] = _described(job)
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
        if reopened:
            self._tell_readers(reopened)
        if not self.is_busy():
            self.steps.clear()
            self._report()
        if reopened:
            self._make_ready(reopened)
        self._is_working = False
        if self.is_busy():
            run.call_in_loop(self._work)

    def _tell_readers(self, reopened: list[AbstractJob[Any]]) -> None:
        self._run.scheduler._extend_settled_iterators(reopened)
        for part in self._run.parts:
            part.on_added()

    def _make_ready(self, reopened: Iterable[AbstractJob[Any]]) -> None:
        for job in reopened:
            if not job._pending:
                self._run.undecided.make_ready(job)
        # Its own task lets a worker search.
        self._run.wake()

    def _discard_records(self, jobs: list[AbstractJob[Any]]) -> None:
        if jobs and self._run.journal_writer is not None:
            self._run.journal_writer.discard(jobs)

    # ---- a success

    def _take_back_late(self, job: AbstractJob[Any], step: Step) -> None:
        """Put back what a function has asked for that was told of an end, or what was cancelled, and has ended."""
        run = self._run
        if step.word is Word.REPEAT:
            self._end_repeat(job)
        if step.asked is None:
            return
        asked = examine(run, job, step.asked.wanted, step.asked.cancels)
        if asked.problem:
            run.report(job, f"try_again() of {job.label!r} has no effect: {asked.problem}", is_steering=True)
            if step.is_uncounted:
                users = [user for user in run.members.jobs if job in run.members.all_requirements(user)]
                run.requirement_counts.count_down(users)
        elif asked.again is None:
            # After the word, its callback has raised, so it has failed.
            self.steps[job] = Step(Word.REOPEN, asked)
        else:
            self._take_back(asked)

    def _take_back(self, asked: NextTry) -> None:
        """Put back a job that has succeeded, or is around one, and all that follows it."""
        assert asked.again is not None
        for each in (asked.job,) if asked.job._state.is_settled else asked.wanted:
            self._errors[each] = _described(each)
        followed = [each for each in asked.others if each._state is not IDLE and not is_scheduler(each)]
        self._following_count += len(followed)
        self._put_back(asked.again, asked.running)

    def _put_back(self, again: Iterable[AbstractJob[Any]], running: Collection[AbstractJob[Any]] = ()) -> None:
        """Put back what has settled of some jobs, in one step, each in its run, or for the next run of its group.

        What is `running`, a job or a group, is cancelled, and put back as it ends.
        """
        inside: dict[AbstractJob[Any], list[AbstractJob[Any]]] = {each: [] for each in running}
        levels: dict[BaseScheduler, list[AbstractJob[Any]]] = {}
        for each in again:
            around = [*enclosing_schedulers(each)]
            if holder := next((level for level in around if level in inside), None):
                inside[holder].append(each)
            elif each._state.is_settled:
                levels.setdefault(around[0], []).append(each)
        for each in running:
            each._ensure_extras().repeats = tuple(inside[each])
            levels.setdefault(each._scheduler, [])  # type: ignore[arg-type]
        # Of a restored `First`, the jobs are IDLE, and their records are those of the run before.
        self._discard_records([each for each in again if each._state.is_settled or _has_ended(each._scheduler)])
        # A view knows the group before its members.
        ordered = sorted(levels, key=lambda level: sum(1 for _ in enclosing_schedulers(level)))
        changes = [_reopening_of(level._run or self._run)._change(level, levels[level], running) for level in ordered]
        for change in changes:
            change.tell()
        for each in running:
            each._scheduler._run.cancel_job(each)  # type: ignore[union-attr]
        for change in changes:
            change.go_on()

    def _end_repeat(self, job: AbstractJob[Any]) -> None:
        """Put back a job that was cancelled because it ran with a result that was taken back, and has ended."""
        inside = (job._extras or RunExtras).repeats or ()
        is_kept = self._run.phase is not RunPhase.RUNNING and job._state is not SUCCEEDED
        if is_kept:
            # The run has ended it.
            job._ensure_extras().repeats = None
        self._put_back([*inside] if is_kept else [job, *inside])

    def _change(
        self, level: BaseScheduler, jobs: list[AbstractJob[Any]], running: Collection[AbstractJob[Any]]
    ) -> _Change:
        """Put back members, and let what waits for them, or for those that are running, leave the line."""
        run, now = self._run, self._run.clock()
        if level._run is None:
            # Its next run counts.
            for job in jobs:
                put_back(job, now)
            level._members.reopened_count += len(jobs)
            return _Change(self, level, jobs, ())
        held = {*jobs, *(each for each in running if each._scheduler is level)}
        users: dict[AbstractJob[Any], list[AbstractJob[Any]]] = {}
        for user in run.members.jobs:
            for requirement in run.members.all_requirements(user):
                if requirement in held:
                    users.setdefault(requirement, []).append(user)
        leaving: list[AbstractJob[Any]] = []
        waiting = dict.fromkeys(jobs)
        for user in {user for each in users.values() for user in each}:
            if user._state is SCHEDULED:
                run.line.refund(user)
                run.wait_again(user)
                leaving.append(user)
            if user._state is IDLE:
                waiting[user] = None
        for job in jobs:
            self.steps.pop(job, None)
            self._uncount(job)
        run.line.drop_settled()
        for job in held:
            job._successors = users.get(job)
        for job in waiting:
            job._pending = count_open(run, job)
        return _Change(self, level, jobs, leaving)

    # ---- one job

    def _uncount(self, job: AbstractJob[Any]) -> None:
        """Put back a settled member, which the run has counted."""
        run, outcome = self._run, job._outcome
        run.counts.begin_again(job)
        if type(outcome) is Failure:
            run.failures.uncount(job, outcome)
        put_back(job, run.clock())
        run.members.reopened_count += 1
        count_consumer(job)

    def _reopen(self, job: AbstractJob[Any]) -> None:
        """Put a failed job back to IDLE, and each BLOCKED job that requires it in the line for the same."""
        run, members, extras = self._run, self._run.members, job._extras
        successors: Any = job._successors
        if not run.scheduler.keep_jobs or (extras is not None and extras.ready_at is not None):
            successors = [user for user in members.jobs if job in members.all_requirements(user)] or None
        self._uncount(job)
        job._successors = successors
        job._pending = count_open(run, job)
        for user in successors_of(job):
            if user._state is IDLE:
                user._pending += 1
            elif user._state is BLOCKED:
                self.steps.setdefault(user, Step(Word.REOPEN))
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


class _Change(NamedTuple):
    """The members of a scheduler that were put back in one step, of which nobody has been told yet."""

    reopening: Reopening
    level: BaseScheduler
    jobs: Collection[AbstractJob[Any]]
    leaving: Collection[AbstractJob[Any]]
    """Those that waited in the line, and wait for a requirement again."""

    def tell(self) -> None:
        run = self.reopening._run
        for job in self.leaving:
            run.line.give_back(job)
        watchers = run.instrument_set if self.level._run is run else run.watchers_of(self.level)
        if watchers is not None:
            for job in (*self.leaving, *self.jobs):
                watchers.notify("job_reopened", self.level, job)

    def go_on(self) -> None:
        if self.level._run is self.reopening._run:
            self.reopening._tell_readers([*self.jobs])
            self.reopening._make_ready(self.jobs)


def _has_ended(scheduler: BaseScheduler | None) -> bool:
    return scheduler is not None and scheduler._state.is_settled


def _described(job: AbstractJob[Any]) -> str:
    how = "it had succeeded" if job._state is SUCCEEDED else one_line_error(no_result_error(job))
    return f"{job.label!r} ({how})"
