"""Another try: jobs that have settled are IDLE again in the run in progress, and their requirements are counted up.

| word | the job | when it is IDLE again |
|---|---|---|
| REOPEN | has failed, or was blocked by such a job | in chunks, from the step of the call on |
| TAKE_BACK | has succeeded, or has used such a result, at any depth | in the step of the call |
| REPEAT | ran with such a result, and was cancelled for it | in the turn after its end |

`_next_try` finds out what is possible and what runs again. This module does it. `Reopening.steps` has all that is left
to do: for each job, a word.

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

Decided in docs/decisions: 45-what-runs-again.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Collection, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..base._states import (
    BLOCKED,
    FAILED,
    IDLE,
    RUNNING,
    SCHEDULED,
    STOPPING,
    SUCCEEDED,
    RunPhase,
)
from ..base._text_forms import MAX_NAMED_JOBS, join_names, plural
from ..job._ancestors import enclosing_schedulers
from ..job._errors import Failure, no_result_error, one_line_error
from ..job._job import AnyJob, RunExtras, with_members
from ._instruments import Part
from ._next_try import NextTry, examine, lacks_input, with_followers
from ._requirement_counts import count_consumer, count_open, successors_of

if TYPE_CHECKING:
    from ..scheduler._base_scheduler import BaseScheduler
    from ._run import Run

CHUNK_SECONDS: Final = 0.001
"""The time, in seconds, that a chunk of failures may take to be put back in one turn of the loop."""
JOBS_PER_CLOCK_READING: Final = 16
"""The number of jobs to reopen between two readings of the clock."""


class Word(enum.Enum):
    """What is to be done with a job that has settled. The table above explains the words."""

    REOPEN = "reopen"
    TAKE_BACK = "take back"
    REPEAT = "repeat"


class Step(NamedTuple):
    """A word for a job that has settled, and how it came about."""

    word: Word
    asked: NextTry | None = None
    """What was asked for, or None if the job follows another."""
    is_uncounted: bool = False
    """Whether its successors have not been counted down, because its success is about to be taken back."""


# ---- words


def reopen(run: Run, tries: Iterable[NextTry]) -> None:
    """Put back what has settled, and what follows, so that the run tries it again. O(V + E) of these.

    What cannot be tried again stays as it is. After a chunk of failures, the work goes on in the next turns of the
    loop.
    """
    possible = [each for each in tries if not each.problem]
    if possible:
        _reopening_of(run).add(possible)


def reopen_all(run: Run) -> None:
    """Try again the failed jobs here and in nested runs, if possible, and the failure was not awaited."""
    for each in run.with_nested():
        failed = [
            job
            for job in each.members.jobs
            if job.state is FAILED and not job._outcome.is_taken
        ]
        reopen(each, [examine(each, job) for job in failed])


def is_about_to_reopen(run: Run, job: AnyJob) -> bool:
    """Return whether another try of a job was asked for, which is still to come."""
    if run.reopening is not None and job in run.reopening.steps:
        return True
    return _is_cancelled_to_repeat(job)


def _reopening_of(run: Run) -> Reopening:
    if run.reopening is None:
        run.reopening = run.add_part(Reopening(run))
    return run.reopening


def _is_cancelled_to_repeat(job: AnyJob) -> bool:
    return (job._extras or RunExtras).repeats is not None


# ---- one job


def wait_again(run: Run, job: AnyJob) -> None:
    """Put a SCHEDULED job back to IDLE, because it waits for a requirement again. Its `retry` begins anew."""
    job._state = IDLE
    if job._extras is not None:
        job._extras.begin_anew(run.clock())


def put_back(job: AnyJob, now: float) -> None:
    """Put a settled job back to IDLE. Its work so far counts as an attempt, and `retry` begins anew."""
    extras = job._extras
    if job._started_at is not None and job._finished_at is not None:
        extras = extras or RunExtras()
        error = None
        if job._state is not SUCCEEDED:
            error = no_result_error(job)
        if extras.first_started_at is None:
            extras.first_started_at = job._started_at
        extras.add_retry(
            job._started_at,
            job._finished_at,
            error,
            now - job._finished_at,
            had_settled=True,
        )
    if extras is not None:
        # Between two attempts, too, a scheduler has run.
        extras.keeps_succeeded = job._is_scheduler and extras.retry_count > 0
        extras.begin_anew(now)
        extras.is_untold = False
        extras.ready_at = extras.fraction = extras.grant = extras.time_limit = None
        extras.repeats = extras.restoration = None
    job._reset()
    if extras is not None:
        job._extras = extras


def _may_reopen(job: AnyJob, step: Step) -> bool:
    """Return whether a job is to be tried again, which may have changed since the step was added."""
    if not job._state.is_settled:
        return False
    if step.asked is not None:
        return True
    return job._state is BLOCKED and not lacks_input(job)


def _is_left(step: Step) -> bool:
    """Return whether anything is left to do of what was asked for: what was cancelled to run again does so anyway."""
    if step.word is not Word.REPEAT or step.asked is None:
        return True
    return any(job._state.is_settled for job in step.asked.asked_for)


def _uncount(run: Run, job: AnyJob, now: float) -> None:
    """Put back a settled member, which the run has counted."""
    outcome = job._outcome
    run.counts.begin_again(job)
    if type(outcome) is Failure:
        run.failures.uncount(job, outcome)
    put_back(job, now)
    run.members.reopened_count += 1
    if job._inputs:
        count_consumer(job)


def _members_that_require(run: Run, job: AnyJob) -> list[AnyJob]:
    members = run.members
    return [user for user in members.jobs if job in members.all_requirements(user)]


# ---- all jobs of a run


class Reopening(Part):
    """The jobs of a run that are about to be IDLE again. A run gets this part with the first of them."""

    def __init__(self, run: Run) -> None:
        self._run = run
        # The next comes first.
        self.steps: Final[OrderedDict[AnyJob, Step]] = OrderedDict()
        self._is_working = False
        # Whether no job has settled since those that had settled were dropped from the line.
        self._is_line_clean = False
        self._report = Report()

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
                again = with_followers(self._run, step.asked).again or ()
                self._put_back([each for each in again if each._state is not RUNNING])
        self._tell_log()

    def add(self, tries: Collection[NextTry]) -> None:
        """Do what was asked for, or begin with it. If a function that is told of an end asks, this comes after that."""
        run = self._run
        is_told = run.ends.depth or any(map(_is_being_told, tries))
        for asked in tries:
            step = self.steps.get(asked.job)
            if asked.again is None and (step is None or step.word is Word.REOPEN):
                self.steps[asked.job] = Step(Word.REOPEN, asked)
            elif is_told or self._is_working or step is not None:
                self._defer(asked, step)
            else:
                self._is_working = True
                self._take_back(asked)
                self._is_working = False
        if run.ends.depth and any(asked.again is not None for asked in tries):
            # Before the loop, because what uses a success may be scheduled now.
            run.ends.follow(self._work)
        elif is_told:
            run.call_in_loop(self._work)
        else:
            self._work()

    def _defer(self, asked: NextTry, step: Step | None) -> None:
        """Let a success be taken back, and examined again, before all that is left to do. Its record goes at once."""
        step = step or Step(Word.TAKE_BACK)
        wanted = dict.fromkeys(asked.wanted)
        if step.asked is not None:
            wanted |= dict.fromkeys(step.asked.wanted)
        word = Word.REPEAT if step.word is Word.REPEAT else Word.TAKE_BACK
        later = NextTry(asked.job, wanted.keys(), asked.cancels)
        self._put_first(asked.job, Step(word, later, step.is_uncounted))
        taken = list[AnyJob]()
        for each in wanted:
            if each._state is SUCCEEDED:
                taken += with_members(each)
        self._discard_records(taken)

    def keeps_waiting(self, job: AnyJob) -> bool:
        """Return whether those that require a job that settles wait on, because it is about to be tried again."""
        self._is_line_clean = False
        if _is_cancelled_to_repeat(job):
            if self._run.phase is RunPhase.RUNNING:
                self._put_first(job, Step(Word.REPEAT))
                self._run.call_in_loop(self._work)
            else:
                self._end_repeat(job)
            return True
        step = self.steps.get(job)
        if (
            step is None
            or step.word is not Word.TAKE_BACK
            or job._state is not SUCCEEDED
        ):
            return False
        self.steps[job] = step._replace(is_uncounted=True)
        return True

    def _put_first(self, job: AnyJob, step: Step) -> None:
        self.steps[job] = step
        self.steps.move_to_end(job, last=False)

    def _work(self) -> None:
        """Do steps for the time of a turn, and let the loop call this again for the others."""
        if self._is_working:
            # A hook has called `add`.
            return
        run = self._run
        self._is_working = True
        reopened = list[AnyJob]()
        until = run.clock() + CHUNK_SECONDS
        while self.is_busy() and (
            len(reopened) % JOBS_PER_CLOCK_READING or run.clock() <= until
        ):
            job, step = self.steps.popitem(last=False)
            if step.word is not Word.REOPEN:
                self._take_back_late(job, step)
            elif _may_reopen(job, step):
                if job._started_at is None and not self._is_line_clean:
                    # It may have settled while it waited.
                    run.line.drop_settled()
                    self._is_line_clean = True
                self._reopen(job, step)
                reopened.append(job)
        # From here on, a function that is told may take a success back, at once.
        self._is_working = False
        if reopened:
            self.tell_readers(reopened)
        if not self.steps:
            # What is left as the run drains or stops, `enter` puts back.
            self._tell_log()
        if reopened:
            self.make_ready(reopened)
        if self.is_busy():
            run.call_in_loop(self._work)

    def tell_readers(self, jobs: list[AnyJob]) -> None:
        """Tell those who wait for the ends of members that some of these are IDLE again."""
        self._run.scheduler._extend_settled_iterators(jobs)
        self._run.tell_parts()

    def make_ready(self, jobs: Iterable[AnyJob]) -> None:
        for job in jobs:
            if not job._pending:
                self._run.undecided.make_ready(job)
        # Its own task lets a worker search.
        self._run.wake()

    def _tell_log(self) -> None:
        report = self._report
        self._report = Report()
        if not report.asked:
            # The run has begun to stop before this could take effect.
            return
        subject = None
        if len(report.asked) == 1:
            (subject,) = report.asked
        self._run.report(subject, report.text(), is_steering=True)

    def _discard_records(self, jobs: list[AnyJob]) -> None:
        if jobs and self._run.journal_writer is not None:
            self._run.journal_writer.discard(jobs)

    # ---- REOPEN

    def _reopen(self, job: AnyJob, step: Step) -> None:
        """Put a failed job back to IDLE, and each BLOCKED job that requires it in the line for the same."""
        run = self._run
        if step.asked is not None:
            self._report.name(step.asked)
        else:
            self._report.blocked_count += 1
        extras = job._extras
        successors: Any = job._successors
        if not run.scheduler.keep_jobs or (
            extras is not None and extras.ready_at is not None
        ):
            successors = _members_that_require(run, job) or None
        _uncount(run, job, run.clock())
        job._successors = successors
        job._pending = count_open(run, job)
        for user in successors_of(job):
            if user._state is IDLE:
                user._pending += 1
            elif user._state is BLOCKED:
                self.steps.setdefault(user, Step(Word.REOPEN))
            elif user._state is SCHEDULED or user.attempts:
                self._report.ran[user] = None
        run.notify("job_reopened", job)

    # ---- TAKE_BACK

    def _take_back_late(self, job: AnyJob, step: Step) -> None:
        """Put back what was cancelled, and has ended, or what a function has asked for that was told of an end."""
        if step.word is Word.REPEAT:
            self._end_repeat(job)
        if step.asked is None or not _is_left(step):
            return
        run = self._run
        found = examine(run, job, step.asked.wanted, step.asked.cancels)
        if found.problem:
            text = f"try_again() of {job.label!r} has no effect: {found.problem}"
            run.report(job, text, is_steering=True)
            if step.is_uncounted:
                with run.ends:
                    waiting = _members_that_require(run, job)
                    run.requirement_counts.count_down(waiting)
        elif found.again is None:
            # After the word, its callback has raised, so it has failed.
            self.steps[job] = Step(Word.REOPEN, found)
        else:
            self._take_back(found)

    def _take_back(self, asked: NextTry) -> None:
        """Put back a job that has succeeded, or is around one, and all that follows it."""
        assert asked.again is not None
        self._report.name(asked)
        self._report.following_count += len(asked.used_it)
        self._put_back(asked.again, asked.running)

    def _put_back(
        self,
        again: Iterable[AnyJob],
        running: Collection[AnyJob] = (),
    ) -> None:
        """Put back what has settled of some jobs, in one step, each in its run, or for the next run of its group.

        What is `running`, a job or a group, is cancelled, and put back as it ends, with those of the jobs that are in
        it.
        """
        changes: dict[BaseScheduler, PutBack] = {}
        held: dict[AnyJob, list[AnyJob]] = {each: [] for each in running}
        stored = list[AnyJob]()
        for job in again:
            level: Any = job._scheduler
            if job._state.is_settled or level._state.is_settled:
                # Of a restored `First`, the jobs are IDLE, and their records are those of the run before.
                stored.append(job)
            holder = None
            if held:
                holder = _holder_of(job, held)
            if holder is not None:
                held[holder].append(job)
            elif job._state.is_settled:
                _put_back_of(changes, level, self._run).jobs.append(job)
        for job, inside in held.items():
            job._ensure_extras().repeats = tuple(inside)
            _put_back_of(changes, job._scheduler, self._run).cancelled.append(job)
        self._discard_records(stored)
        # A view knows the group before its members.
        ordered = sorted(changes.values(), key=PutBack.depth)
        for change in ordered:
            change.put_back()
        # What a hook ends comes after all have been told that it waits again.
        with self._run.ends:
            for change in ordered:
                change.tell_hooks()
        for change in ordered:
            change.cancel()
        for change in ordered:
            change.go_on()

    # ---- REPEAT

    def _end_repeat(self, job: AnyJob) -> None:
        """Put back a job that was cancelled because it ran with a result that was taken back, and has ended."""
        again = [*((job._extras or RunExtras).repeats or ())]
        if self._run.phase is RunPhase.RUNNING or job._state is SUCCEEDED:
            again.append(job)
        else:
            # The run has ended it.
            job._ensure_extras().repeats = None
        self._put_back(again)


class PutBack:
    """The members of one scheduler that a word puts back, in its run, or for its next one.

    `level` is the scheduler, and `outer` a run at or around it.
    """

    def __init__(self, level: BaseScheduler, outer: Run) -> None:
        self._level = level
        self._outer = outer
        self._run = level._run
        self.jobs = list[AnyJob]()
        # Those that run, and are put back as they end.
        self.cancelled = list[AnyJob]()
        # Those that waited in the line, and wait for a requirement again.
        self._leaving = list[AnyJob]()

    def depth(self) -> int:
        return len([*enclosing_schedulers(self._level)])

    def put_back(self) -> None:
        """Make the jobs IDLE, and count what waits for them. Call no function of users."""
        if self._run is not None:
            self._put_back_in(self._run)
            return
        now = self._outer.clock()
        for job in self.jobs:
            put_back(job, now)
        self._level._members.reopened_count += len(self.jobs)

    def _put_back_in(self, run: Run) -> None:
        held = dict.fromkeys([*self.jobs, *self.cancelled])
        # The jobs themselves, and what requires them.
        touched: dict[AnyJob, None] = {}
        users: dict[AnyJob, list[AnyJob]] = {}
        for user in run.members.jobs:
            if user in held:
                touched[user] = None
            for requirement in run.members.all_requirements(user):
                if requirement in held:
                    touched[user] = None
                    users.setdefault(requirement, []).append(user)
        for user in touched:
            if user._state is SCHEDULED:
                run.line.refund(user)
                wait_again(run, user)
                self._leaving.append(user)
        now = run.clock()
        steps = _reopening_of(run).steps
        for job in self.jobs:
            steps.pop(job, None)
            _uncount(run, job, now)
        run.line.drop_settled()
        for job in held:
            job._successors = users.get(job)
        for job in touched:
            if job._state is IDLE:
                job._pending = count_open(run, job)

    def tell_hooks(self) -> None:
        run = self._run or self._outer
        for job in self._leaving:
            run.line.give_back(job)
        watchers = run.watchers_of(self._level)
        if watchers is not None:
            for job in (*self._leaving, *self.jobs):
                watchers.notify("job_reopened", self._level, job)

    def cancel(self) -> None:
        """Cancel what runs with a result that is taken back."""
        if self._run is not None:
            for job in self.cancelled:
                self._run.cancel_job(job)

    def go_on(self) -> None:
        """Tell who waits for the ends of the jobs, and start what is ready."""
        if self._run is not None:
            reopening = _reopening_of(self._run)
            reopening.tell_readers(self.jobs)
            reopening.make_ready(self.jobs)


def _put_back_of(
    changes: dict[BaseScheduler, PutBack], level: BaseScheduler | None, outer: Run
) -> PutBack:
    assert level is not None
    if level not in changes:
        changes[level] = PutBack(level, outer)
    return changes[level]


def _holder_of(job: AnyJob, held: Collection[AnyJob]) -> AnyJob | None:
    """Return the group around a job that is to be cancelled, if any is."""
    for level in enclosing_schedulers(job):
        if level in held:
            return level
    return None


def _is_being_told(asked: NextTry) -> bool:
    """Return whether a job that was asked for is settling: its own `on_settled` asks."""
    return any(job.state is not job._state for job in (asked.job, *asked.wanted))


# ---- the line of the log


class Report:
    """What was put back so far, for the log."""

    def __init__(self) -> None:
        # The jobs that were asked for, and how each of the first had ended.
        self.asked: dict[AnyJob, str] = {}
        self.blocked_count = 0
        self.following_count = 0
        # The jobs that require a reopened job, and stay as they are.
        self.ran: dict[AnyJob, None] = {}

    def name(self, asked: NextTry) -> None:
        """Name the jobs that were asked for, as they are before they are put back."""
        for job in asked.asked_for:
            text = ""
            if len(self.asked) < MAX_NAMED_JOBS:
                how = "it had succeeded"
                if job._state is not SUCCEEDED:
                    how = one_line_error(no_result_error(job))
                text = f"{job.label!r} ({how})"
            self.asked[job] = text

    def text(self) -> str:
        names = [*self.asked.values()]
        text = f"tried again: {join_names(names[:MAX_NAMED_JOBS], MAX_NAMED_JOBS, len(names))}"
        if self.blocked_count:
            text += f", with {plural(self.blocked_count, 'blocked job')}"
        if self.following_count:
            text += f", with {plural(self.following_count, 'job')} that used it"
        if self.ran:
            names = [repr(job.label) for job in islice(self.ran, MAX_NAMED_JOBS)]
            text += f"; what has run meanwhile does not run again: {join_names(names, MAX_NAMED_JOBS, len(self.ran))}"
        return text
