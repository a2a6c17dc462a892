"""The plants: faults that a tired developer may make, and that tests must notice.

Each is a mistake about a rule, in the words of its author: a line forgotten, two lines
in the other order, `>` for `>=`. Plants that made no difference to any user are not
here: what a fault cannot break may go.

To write one, name the file, the qualified name of the function, the mistake, and how
the code changes:

    plant("window-ratio", ADAPTIVE, "AdaptiveLine._shrink",
        "the ratio is not reset when the window shrinks", '''
    -self._latency_ratio = 1.0
    '''),

Lines with "-" go, those with "+" come, and those with a space stay around them, to make
the place the only one. What goes without anything in its place becomes `pass`. The code
may be

- statements that follow each other,
- the head alone of an `if`, `while`, `for` or `with`, up to its colon,
- an expression: take the smallest one that is the mistake, such as `self.count > 1`;
  a dict of one item is an item of a larger one.

It has to stand once in the function. Indentation, line breaks, brackets and comments do
not matter, nor what else is in the function: only a change of this very code makes a
plant lose its place. Then the rule that it breaks may have another place, or have gone:
`pytest tests/plants` names the rule, and says where the code stands now."""

import ast
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from ..mutation.mutants import Mutant
from .anchors import find, find_in_text, functions_with, scopes


class NotFound(Exception):
    """The code that a plant replaces does not stand once in its function."""


@dataclass(frozen=True, slots=True)
class Plant:
    """One fault: the code `old`, once in a function of the file, becomes `new`."""

    name: str
    path: str
    function: str
    """Its qualified name; "" if the code is in none, or is not Python."""
    mistake: str
    old: str
    new: str

    def mutant(self, root: Path) -> Mutant:
        """Return the fault at its place in a tree.

        Raises:
            NotFound: the code has changed; the plant must follow its rule.

        """
        file = root / self.path
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        if self.path.endswith(".py"):
            found = find(text, self.function, self.old, self.new)
        else:
            found = find_in_text(text, self.old, self.new)
        if len(found) != 1:
            raise NotFound(self._describe_loss(root, text, len(found)))
        start, end, new = found[0]
        line = text.count("\n", 0, start) + 1
        return Mutant(self.path, line, start, text[start:end], new)

    def _describe_loss(self, root: Path, text: str, count: int) -> str:
        place = self.function or "the module"
        lines = [
            f"plant {self.name!r}: the rule that it breaks has no place any more in {place} of {self.path}.",
            f"The mistake was: {self.mistake}.",
            f"This code stands there {count} times:",
            textwrap.indent(self.old, "    "),
        ]
        if not text:
            lines.append("There is no such file.")
        elif self.path.endswith(".py") and not scopes(ast.parse(text), self.function):
            lines.append("There is no such function.")
        elsewhere = ", ".join(self._places_elsewhere(root))
        if elsewhere:
            lines.append(f"It stands in {elsewhere}.")
        return "\n".join(lines)

    def _places_elsewhere(self, root: Path) -> Iterator[str]:
        """Yield where the code of a lost plant stands in its room: it has been moved."""
        for file in sorted((root / self.path).parent.glob("*.py")):
            for function in functions_with(file.read_text(encoding="utf-8"), self.old):
                if (file.name, function) != (Path(self.path).name, self.function):
                    yield f"{function} of {file.name}"


def plant(name: str, path: str, function: str, mistake: str, hunk: str) -> Plant:
    """Return a fault; its hunk has lines that go, that come, and that stay around."""
    lines = hunk.strip("\n").splitlines()
    old = "\n".join(line[1:] for line in lines if line[0] != "+")
    new = "\n".join(line[1:] for line in lines if line[0] != "-")
    return Plant(name, path, function, mistake, old, new)


RUN: Final = "trioflow/_core/run"
ADAPTIVE: Final = "trioflow/_adaptive.py"
ADMISSION: Final = "trioflow/_core/admission"
PARTS: Final = "trioflow/_core/parts"
JOB: Final = "trioflow/_core/job"
SCHEDULER: Final = "trioflow/_core/scheduler"
BACKEND: Final = "trioflow/_core/backend"
WORDS: Final = "trioflow/_core/words"
JOURNAL: Final = "trioflow/journal"
JOBS: Final = "trioflow/jobs"
LOOK: Final = "trioflow/view/look"

PLANTS: Final = (
    plant("run-release-before-pause", f"{RUN}/_steps.py", "requeue",
        "a release on one path forgotten: a job keeps slot and needs in its backoff", """
-run.line.give_back(job)
+if until <= now:
+    run.line.give_back(job)
"""),
    plant("run-fraction", f"{RUN}/_steps.py", "requeue",
        "the fraction of the failed attempt is not reset", """
-extras.fraction = job._worker = job._started_at = None
+job._worker = job._started_at = None
"""),
    plant("run-deadline-gt", f"{RUN}/_run.py", "Run._stop_alone",
        "> for >= at the run's deadline", """
-if self.clock() >= self.deadline:
+if self.clock() > self.deadline:
"""),
    plant("run-lift", f"{RUN}/_steps.py", "on_service_ready",
        "a ready service keeps its timeout", """
-if extras.time_limit is not None:
-    extras.time_limit._lift()
"""),
    plant("run-refund", f"{RUN}/_steps.py", "_settle_each",
        "rates and budgets of jobs that never start are not put back", """
-run.line.refund(job)
"""),
    plant("run-apart-passes-on", f"{RUN}/_steps.py", "_settle_each",
        "what a job has that never starts is not passed on", """
-run.open_crew.ensure_searcher()
"""),
    plant("run-earlier-use", f"{ADMISSION}/_admission.py", "OrderedPlaces.give_back",
        "what a failed attempt has used of a budget is forgotten", """
-extras.earlier_use = used
"""),
    plant("run-block-total", f"{RUN}/_steps.py", "block",
        "a BudgetSpent is not counted in the total", """
-run.failures.total += 1
"""),
    plant("run-cut-off-around", f"{RUN}/_attempts.py", "cancelled_outcome",
        "the jobs of a nested run that ends with the one around it count as ended "
        "by cancel()", """
-cause = outer.cause
+break
"""),
    plant("run-services-of-services",
        f"{SCHEDULER}/_members.py", "Members.drop_settled",
        "the services that a dropped job has used are forgotten with it", """
-job._required = services
+job._required = ()
"""),
    plant("cleanup-notices", f"{RUN}/_worker.py", "Worker._settle_other",
        "a clean-up job that the deadline has cancelled settles before the others "
        "know", """
-if self.must_leave and (not self.crew.is_closed):
+if self.must_leave and run.phase is not STOPPING:
"""),
    plant("run-settle-order", f"{RUN}/_steps.py", "settle",
        "two lines in the other order: who awaits a job is told before its slot is "
        "back", """
-if run.line.places is not NO_PLACES:
-    run.line.give_back(job)
 if extras is not None:
     if state not in REOPENABLE:
         extras.context = None
     extras.notify_listeners(job)
+if run.line.places is not NO_PLACES:
+    run.line.give_back(job)
     if extras.drops_results:
         job._release_inputs(last_call=True)
"""),
    plant("standstill-active", f"{RUN}/_run.py", "Run._wait_while_running",
        "a counter not restored after a wait of a nested run", """
-if was_active:
+if False:
     self.standstill.add_active()
"""),
    plant("journal-order", f"{RUN}/_steps.py", "settle",
        "the record comes after the hooks (a First's winners before their results)", """
-if run.journal_writer is not None:
-    run.journal_writer.end_attempt(job)
-    if state is SUCCEEDED:
-        run.journal_writer.record(job, outcome)
-if run.notify_end is not None:
-    run.notify_end(run.scheduler, job)
+if run.notify_end is not None:
+    run.notify_end(run.scheduler, job)
+if run.journal_writer is not None:
+    run.journal_writer.end_attempt(job)
+    if state is SUCCEEDED:
+        run.journal_writer.record(job, outcome)
"""),
    plant("steps-service", f"{RUN}/_steps.py", "on_service_ready",
        "what a hook ends as a user of a service becomes ready is told before the "
        "next user is", """
-with run.ends:
+if True:
"""),
    plant("chains-save", f"{RUN}/_steps.py", "settle",
        "what a function of save= ends is told before the end of its job", """
-run.journal_writer.record(job, outcome)
+ends.depth -= 1
+run.journal_writer.record(job, outcome)
+ends.depth += 1
"""),
    plant("chains-load", f"{RUN}/_steps.py", "make_ready",
        "a job that is restored settles twice if its own save= cancels it", """
-with run.ends:
-    run.journal_writer.restore(job)
+with type(run.ends)():
+    run.journal_writer.restore(job)
"""),
    plant("chains-retry", f"{RUN}/_worker.py", "Worker._settle_other",
        "on= of a retry that cancels its job cancels the next one of the task", """
-self.must_leave |= self.cause is not None
"""),
    plant("chains-retried", f"{RUN}/_attempts.py", "_backoff",
        "a job that on= of its retry cancels is tried again", """
-return backoff if worker.cause is was_cause else None
+return backoff
"""),
    plant("chains-time", f"{RUN}/_steps.py", "settle_error",
        "a job ends before what on= of its retry has ended", """
-now = run.clock()
"""),
    plant("ending-ended-by-run", f"{RUN}/_ending.py", "_end_workers",
        "a service that cancel() has ended before is taken for one that the run "
        "ends", """
-worker.mark_cancelled(CancelCause.END_OF_RUN)
+worker.cause = CancelCause.END_OF_RUN
"""),
    plant("ending-wave-deadline", f"{RUN}/_ending.py", "_end_services",
        "the waves of services have no common deadline", """
-await _wait_until_left(run, wave, deadline)
+await _wait_until_left(run, wave)
"""),
    plant("cleanup-wake-others", f"{ADMISSION}/_line.py", "Line.look",
        "a wake-up forgotten: what a clean-up job had is not passed on", """
-self._behind.look()
"""),
    plant("cleanup-joins", f"{ADMISSION}/_admission.py", "OrderedPlaces._grant_at_once",
        "a clean-up job takes from an admission that its run does not belong to", """
-share_admission(self.run.line.places, entries)
"""),
    plant("verdict-throttled", f"{RUN}/_attempts.py", "judge",
        "a throttled job is queued again although its run drains", """
-CANCELLED if ends or was_cancelled else SCHEDULED
+SCHEDULED
"""),
    plant("verdict-clean-up", f"{RUN}/_attempts.py", "judge",
        "a clean-up job that fails, or is throttled, is not tried again", """
-run.phase._is_ending and (not worker.crew.is_clean_up)
+run.phase._is_ending
"""),
    plant("verdict-service", f"{RUN}/_attempts.py", "judge",
        "a ready service that cancel() ends counts as SUCCEEDED", """
-is_end and job._is_ready()
+job._is_ready()
"""),
    plant("tokens-shrunk", f"{ADMISSION}/_line.py", "Tokens._do_others_wait",
        "a limiter that has shrunk keeps its tokens going round", """
-return available < 0
+return False
"""),
    plant("tokens-in-turn", f"{ADMISSION}/_line.py", "Tokens.is_free",
        "a run takes a token before another that has asked before", """
-if not self.waiting_count:
-    return True
+return True
"""),
    plant("pauses-wake", f"{RUN}/_attempts.py", "BackoffTimer.add",
        "the first pause does not wake the run", """
-if self._heap[0][2] is job:
-    self._run.wake()
"""),
    plant("idle-grace", f"{RUN}/_handle.py", "TimeLimit._restart",
        "grace turns are not counted anew after a late sign of life", """
-self._turns_after_deadline = 0
"""),
    plant("counts-taken", f"{RUN}/_failure_counts.py", "FailureCounts.uncount",
        "a counter not restored when a failure is taken by an await", """
-if job._state is not JobState.BLOCKED:
-    self.unblocked_number -= 1
"""),
    plant("worker-deadline", f"{RUN}/_worker.py", "Worker._get_time",
        "a worker of a nested run looks only at its own deadline", """
-if now >= crew.bounded_by.deadline:
+if now >= run.deadline:
"""),
    plant("run-drain-forever", f"{RUN}/_run.py", "Run._must_wait",
        "a drain waits for forever jobs, too", """
-waits = not all(worker.is_shielded for worker in self.crew.alive)
+waits = bool(self.crew.alive)
"""),
    plant("job-run-error",
        f"{SCHEDULER}/_base_scheduler.py", "BaseScheduler._reset_outcome",
        "a flag not reset for a second run: the error of the journal or of a First", """
-self._run_error = self._run_times = None
+self._run_times = None
"""),
    plant("job-reset-pending", f"{JOB}/_job.py", "AbstractJob._reset",
        "the count of open requirements is not reset for a second run", """
-self._pending = 0
"""),
    plant("job-release-inputs", f"{JOB}/_job.py", "AbstractJob._release_inputs",
        "a throttled job has lost the results of its inputs", """
-self._options.retry is not None or self._options.needs
+self._options.retry is not None
"""),
    plant("rules-cancelled", f"{JOB}/_requirements.py", "decide",
        "any for all: blocked by a failure and a cancel()", """
-all(map(_was_cancelled, failed))
+any(map(_was_cancelled, failed))
"""),
    plant("adm-backfill", f"{ADMISSION}/_admission.py", "Admission.scan",
        "> for >= in backfill", """
-places.overtaken[first] >= places.max_overtakes
+places.overtaken[first] > places.max_overtakes
"""),
    plant("adm-crowd-slots", f"{ADMISSION}/_admission.py", "Admission.scan",
        "a job with needs takes the slot of a job before it that is not admitted yet", """
-self.crowded[places] += len(group.heap)
"""),
    plant("adm-overtaken-order", f"{ADMISSION}/_admission.py", "Admission._take_round",
        "two lines in the other order: counted after the group has changed", """
+group.places.admit_first(group)
 for other in self._passed:
     if not other.resources.isdisjoint(group.resources):
         other.places.overtaken[other.heap[0][2]] += 1
-group.places.admit_first(group)
"""),
    plant("queue-throttled-back", f"{ADMISSION}/_line.py", "Line.take",
        "admitted jobs start on a throttled key", """
-not (self.passes_on and self._return_early(job))
+True
"""),
    plant("rate-started", f"{ADMISSION}/_rates.py", "RateResource.let_accrue",
        "a wake-up forgotten: amounts that accrue again after a start", """
-self.on_change()
"""),
    plant("rate-unstarted", f"{ADMISSION}/_rates.py", "TokenBucket.available_at",
        ">= for > in a bucket", """
-self.unstarted_amount + amount > self.burst
+self.unstarted_amount + amount >= self.burst
"""),
    plant("budget-share", f"{ADMISSION}/_pools.py", "BudgetResource.refund",
        "a refunded amount is given back twice", """
-share.amount = 0
"""),
    plant("budget-scheduler", f"{ADMISSION}/_pools.py", "BudgetResource.give_back",
        "a scheduler does not return the rest of its budget", """
-self.correct(share, share.used)
"""),
    plant("key-unstarted", f"{ADMISSION}/_keys.py", "CountedKey.refund",
        "a pause after a job that has not started", """
-self.unstarted.add(job)
"""),
    plant("key-keep", f"{ADMISSION}/_keys.py", "Key.throttle",
        "a throttled key that nothing refers to is forgotten", """
-self.family.keep(self)
"""),
    plant("window-shrunk", ADAPTIVE, "WindowController.record_success",
        "<= for <: jobs that start in the instant of the shrink do not count", """
-if started_at < self._shrunk_at:
+if started_at <= self._shrunk_at:
"""),
    plant("window-ratio", ADAPTIVE, "WindowController._shrink",
        "the ratio is not reset when the window shrinks", """
-self._latency_ratio = 1.0
"""),
    plant("first-turn-reset", f"{PARTS}/_first_rule.py", "FirstRule._open_next_turn",
        "the start of the last turn is not reset: the next opens too early", """
-self._turn_started_at = None
"""),
    plant("first-restored", f"{PARTS}/_first_rule.py", "FirstRule._add_winners",
        "winners are counted as if there were none yet", """
-self.winners.extend(jobs[: self._enough - len(self.winners)])
+self.winners.extend(jobs[: self._enough])
"""),
    plant("first-held", f"{PARTS}/_first_rule.py", "FirstRule.on_added",
        "each add doubles what is held", """
-self._held.clear()
"""),
    plant("look-ends", f"{LOOK}/_answers.py", "AnswerThread.finish",
        "a program that ends waits for one page", """
-watches.values()
+[*watches.values()][:1]
"""),
    plant("first-records", f"{PARTS}/_first_rule.py", "FirstRule._decide",
        "a First's late loser is recorded", """
-writer.records_results = False
"""),
    plant("adaptive-cleanup", ADAPTIVE, "AdaptiveWindow.settled",
        "an Adaptive counts clean-up jobs", """
-began is not None and ended is not None and (job in self._run.line.holders)
+began is not None and ended is not None
"""),
    plant("idle-enter", f"{PARTS}/__init__.py", "IdleTimeout.enter",
        "an idle limit is renewed while the run ends", """
-self._limit = None
"""),
    plant("await-give-back", f"{SCHEDULER}/_awaiting.py", "wait_settled",
        "a failure stays taken although its await was cancelled", """
-if scheduler._run is not None and type(job._outcome) is _errors.Failure:
-    scheduler._run.failures.give_back(job, job._outcome)
"""),
    plant("open-block-wake", f"{SCHEDULER}/_async_with.py", "OpenBlock.exit",
        "the end of the block does not wake the run", """
-run.wake()
"""),
    plant("trio-parent", f"{BACKEND}/_fast_trio.py", "FastTrioGroup._insert_scope",
        "a wrong parent for a cancel scope", """
-scope = _make_nested_scope(parent_status)
+scope = _make_nested_scope(worker.task._cancel_status)
"""),
    plant("trio-timer", f"{BACKEND}/_fast_trio.py", "Timer.cancel",
        "a timer that is cancelled late still calls", """
-self._action = self._call_soon = bool
"""),
    plant("asyncio-uncancel", f"{BACKEND}/_asyncio.py", "EdgeGroup.take_back",
        "a timeout's request to cancel is not taken back", """
-worker.task.uncancel()
"""),
    plant("asyncio-outer-deadline", f"{BACKEND}/_asyncio.py", "CallScope.__exit__",
        "<= for < between two scopes of a call", """
-if not self._is_cancelled and self._outer_deadline < self._deadline:
+if not self._is_cancelled and self._outer_deadline <= self._deadline:
"""),
    plant("asyncio-interrupt",
        f"{BACKEND}/_asyncio.py", "AsyncioHost.run_uninterrupted",
        "a second cancellation of the caller does not reach jobs that unwind", """
-on_interrupt()
"""),
    plant("journal-restored", f"{JOURNAL}/_recorder.py", "Recorder.accept",
        "that a job was restored is not recorded: a retried scheduler restores it "
        "again", """
-self._pending_restored[path] = None
"""),
    plant("journal-prepared", f"{JOURNAL}/_recorder.py", "Recorder._with_result",
        "a result prepared by an earlier attempt is stored in place of the last", """
-if result is None or prepared_value is not value:
+if result is None:
"""),
    plant("journal-budget", f"{JOURNAL}/_recorder.py", "Recorder._with_result",
        "what a job has used of budgets is not recorded", """
-used = _job_queries.budget_use(job)
+used = {}
"""),
    plant("journal-added", f"{RUN}/_journaling.py", "JournalWriter.on_jobs_added",
        "a job that has added others is recorded", """
-worker.job._ensure_extras().has_added_jobs = True
"""),
    plant("pause-places", f"{ADMISSION}/_line.py", "Line._take_back_admitted",
        "what a pause takes back stands behind all that waited", """
-(self.key_of(job, 0), next(returned_numbers), job)
+self.entry_of(job)
"""),
    plant("tokens-last-ticket", f"{ADMISSION}/_line.py", "RunTokens.give_back",
        "a job that is cancelled takes the oldest ticket of its run with it", """
-self._tickets.pop()[0] = None
+self._tickets.popleft()[0] = None
"""),
    plant("again-retries", f"{JOB}/_job.py", "RunExtras.begin_anew",
        "a job that is tried again has no retries left", """
-self.earlier_retries = self.retry_count
"""),
    plant("again-cancelled", f"{RUN}/_run_counts.py", "RunCounts.begin_again",
        "a cancelled job that was tried again still counts as one that a drain has "
        "cancelled", """
-if job._state is CANCELLED and not forever:
-    self.cancelled -= 1
"""),
    plant("retry-longest", f"{JOB}/_retry.py", "Retry._next_backoff",
        "of the times that a group of exceptions asks for, the first counts", """
-return max(backoffs)
+return backoffs[0]
"""),
    plant("first-infinite", f"{PARTS}/_first_rule.py", "FirstRule._open_due_turns",
        "a success that is not enough opens no turn, although no time will", """
-has_run and self._stagger < math.inf
+has_run
"""),
    plant("words-holders", f"{WORDS}/_explain.py", "_holders",
        "a job that has its needs, and waits for a token, is no holder", """
-return lacking.holders.keys()
+return [holder for holder in lacking.holders if holder._state is RUNNING]
"""),
    plant("words-token-slot", f"{WORDS}/_explain.py", "_find_wait",
        "a job that has a slot and waits for needs is said to wait for a slot", """
-line.is_full() and (not job._options.forever) and (job not in line.holders)
+line.is_full() and (not job._options.forever)
"""),
    plant("words-priority", f"{WORDS}/_explain.py", "_earlier_jobs_text",
        ">= for > in explain", """
-other.priority > job.priority
+other.priority >= job.priority
"""),
    plant("words-cancelled", f"{WORDS}/_explain.py", "_explain_cancelled",
        "explain reads the outcome of the last run while one is in progress", """
-reason = run.fate.reason
+reason = scheduler._fate.reason
"""),
    plant("bound-forever", "trioflow/simulation/_simulate.py", "PathAnalysis._analyze",
        "a forever job for which nothing waits counts in the bound of a simulation", """
-if job.forever and job not in awaited:
+if False:
"""),
    plant("pause-own", f"{RUN}/_steering.py", "Steering._take_pause",
        "resume() of a run resumes the groups in it that are paused themselves", """
-run.line.set_paused(is_paused_around or run.scheduler in self.pauses)
+run.line.set_paused(is_paused_around)
"""),
    plant("pause-request", f"{ADMISSION}/_line.py", "RunTokens.drain",
        "a run whose waiting jobs were taken back stays in the line for a token", """
-self.limit.update_request()
"""),
    plant("pause-slotless", f"{ADMISSION}/_admission.py", "OrderedPlaces.insert",
        "the jobs that wait for no slot wait for one at the end of a pause", """
-if not takes_slot(job):
-    heap = self._slotless_heap
"""),
    plant("window-taken-back", f"{ADMISSION}/_line.py", "Line.resize",
        "a smaller window does not take back what has not begun", """
-self._take_back_admitted()
"""),
    plant("verdict-ready-service", f"{RUN}/_attempts.py", "_backoff",
        "a service that was ready and raises is tried again", """
-was_cancelled or job._is_ready() or worker.run.backend.needed_backend(failure)
+was_cancelled or worker.run.backend.needed_backend(failure)
"""),
    plant("cut-off-tolerated",
        f"{RUN}/_failure_counts.py", "FailureCounts.count_cut_off",
        "a tolerated group that was cut off with its run counts", """
-is_scheduler(job) and job._counted_failures.number and (
-    job._criticality() is not False
-)
+is_scheduler(job) and job._counted_failures.number
"""),
    plant("budget-reserved", f"{ADMISSION}/_pools.py", "BudgetResource.can_ever_meet",
        "a job does not wait for what running jobs have reserved of a budget and "
        "may not use", """
-return need <= self.free + self.reserved
+return need <= self.free
"""),
    plant("merge-timed-keys", f"{ADMISSION}/_admission.py", "Admission.merge",
        "runs that come to share an admission forget the keys that only time frees", """
-self.timed_keys = sorted(self.timed_keys + other.timed_keys)
+self.timed_keys = sorted(self.timed_keys)
"""),
    plant("tokens-not-first", f"{ADMISSION}/_line.py", "Tokens._serve",
        "a token that was given back serves the last ticket", """
-while (served := self.tickets.popleft()[0]) is None:
+while (served := self.tickets.pop()[0]) is None:
"""),
    plant("merge-budgets", f"{ADMISSION}/_admission.py", "Admission.merge",
        "runs that come to share an admission forget that it has budgets", """
-self.has_budgets |= other.has_budgets
"""),
    plant("first-loser-cancelled",
        f"{PARTS}/_first_rule.py", "FirstRule._stop_if_too_few",
        "a First that has too few jobs left when it drains fails", """
-if run.phase is RunPhase.DRAINING and any(
-    (job._state is JobState.CANCELLED for job in self._losers)
-):
-    return
"""),
    plant("progress-outer", f"{RUN}/_worker.py", "Worker.time_limits",
        "progress of a job is no sign of life of the schedulers around that of its "
        "own", """
-(self.job, scheduler, *enclosing_schedulers(scheduler))
+(self.job, scheduler)
"""),
    plant("skipped-all-succeeded", f"{RUN}/_run_counts.py", "RunCounts.end",
        "what was SKIPPED leaves the jobs that require it on the fast path for "
        "successes", """
-self.all_succeeded = False
+self.all_succeeded = state is JobState.SKIPPED
"""),
    plant("service-outcome", f"{RUN}/_attempts.py", "outcome_of",
        "a service that is ready and ends with the run loses its value", """
-job._outcome
+None
"""),
    plant("moves-on-ready", f"{RUN}/_attempts.py", "_moves_on",
        "a job with `move_on` moves on, also a service that has become ready as its "
        "timeout cancelled it", """
-return options.on_timeout == "move_on" and (not job._is_ready())
+return options.on_timeout == "move_on"
"""),
    plant("backoff-text", f"{RUN}/_attempts.py", "BackoffTimer.act",
        "the end of a backoff is not forgotten: the job is said to wait for its "
        "retry as it waits for a slot", """
-job._ensure_extras().backoff_until = None
"""),
    plant("clean-up-forever", f"{RUN}/_ending.py", "may_clean_up",
        "a forever job with `run_if='failed'` is a clean-up job, too", """
-job._options.run_if == "failed" and (not job._options.forever) and (
-    job._state is JobState.IDLE
-)
+job._options.run_if == "failed" and job._state is JobState.IDLE
"""),
    plant("gives-up-early", f"{JOB}/_job.py", "RunExtras.add_retry",
        "the throttles before a failure count for the time in which a job has only "
        "been throttled", """
-self.throttled_since = None
"""),
    plant("gives-up-again", f"{JOB}/_job.py", "RunExtras.begin_anew",
        "the throttles before `try_again()` count for the time in which a job has "
        "only been throttled", """
-self.backoff_until = self.throttled_since = None
+self.backoff_until = None
"""),
    plant("order-added", f"{RUN}/_start_order.py", "StartOrder.add_jobs",
        "the first duration comes with jobs that are added, and the policy stays "
        "fifo", """
-order is not None and (not (known and order.policy is not self._policies[True]))
+order is not None
"""),
    plant("added-consumer", f"{RUN}/_run.py", "Run.add_jobs",
        "a job that is added does not count as a consumer of its inputs", """
-_requirement_counts.count_consumer(job)
"""),
    plant("standstill-stale", f"{RUN}/_standstill.py", "Standstill.add_active",
        "a job starts, and the report of a wait for something outside comes all the "
        "same", """
-if self._stop_timer is not None:
-    self.close()
"""),
    plant("stuck-lifted", f"{RUN}/_standstill.py", "StuckJobs.forget",
        "a service that is ready is watched on, for the timeout that does not count "
        "any more", """
-worker.cancelled_at = math.inf
"""),
    plant("service-added", f"{SCHEDULER}/_checks.py", "check_new_needs",
        "a service that waits for its start is not counted among what services need", """
-job._state in (IDLE, SCHEDULED)
+job._state is IDLE
"""),
    plant("await-of-two-tasks", f"{SCHEDULER}/_awaiting.py", "_recorded_wait",
        "the end of one wait of a body ends what is known of its other waits for "
        "the same job", """
-remaining = list(extras.awaited_jobs)
-remaining.remove(job)
-extras.awaited_jobs = tuple(remaining)
+extras.awaited_jobs = tuple(
+    (other for other in extras.awaited_jobs if other is not job)
+)
"""),
    plant("await-given-up", f"{SCHEDULER}/_awaiting.py", "_wait_for_change",
        "a wait that is given up leaves its listener at the groups around the job", """
-for watched in watched_jobs:
+for watched in [job]:
     listeners = (watched._extras or RunExtras).listeners
     if listeners and listener in listeners:
         listeners.remove(listener)
"""),
    plant("service-of-the-last-run",
        f"{SCHEDULER}/_checks.py", "AvailableResources.__init__",
        "a service that settled in the run before counts as if it needed nothing in "
        "the next", """
-if not (has_begun and service._state.is_settled):
+if not service._state.is_settled:
"""),
    plant("implied-order-stays", f"{SCHEDULER}/_checks.py", "check_members",
        "a group goes on waiting for another whose result none of its jobs uses any "
        "more", """
-level.implied_requirements = {}
"""),
    plant("files-of-the-last-kind", f"{SCHEDULER}/_checks.py", "_check_jobs",
        "the files of a scenario are checked only if its last job may have some", """
-members.has_kinds |= hasattr(type(job), "for_journal") or job._options.has_files
+members.has_kinds = hasattr(type(job), "for_journal") or job._options.has_files
"""),
    plant("open-extras", f"{JOB}/_job.py", "RunExtras.is_empty",
        "a settled job of an open scheduler forgets the fraction that it has "
        "reported", """
-self.fraction is self.ready_at is None
+self.ready_at is None
"""),
    plant("thread-fraction", f"{RUN}/_worker.py", "ThreadReports.add",
        "a sign of life from a thread replaces the fraction that it has reported "
        "before", """
-fraction is not None or job not in self._latest_fractions
+True
"""),
    plant("block-refusal", f"{SCHEDULER}/_async_with.py", "OpenBlock.exit",
        "whether the run was ending is asked when the block has ended it", """
-was_ending = run is None or run.phase._is_ending
 if run is not None:
     if error is not None:
         run.stop(StopReason.CANCELLED)
+was_ending = run is None or run.phase._is_ending
+if run is not None:
     self._is_open = False
     run.wake()
"""),
    plant("unpark-cancelled", f"{ADMISSION}/_admission.py", "WaitingGroup.forget",
        "a job that is cancelled while it waits for a key does not wake those "
        "behind it", """
-key.wake()
"""),
    plant("taken-not-dropped", f"{RUN}/_failure_counts.py", "FailureCounts.take",
        "a failure that was kept to be reported is awaited, and its job stays", """
-self._release(job)
"""),
    plant("adm-stale-entry", f"{ADMISSION}/_admission.py", "WaitingGroup.update",
        "a group of equal needs is taken to stand where its first job stood, by the "
        "key instead of the number", """
-first[1] == self.entry[1]
+first[0] == self.entry[0]
"""),
    plant("retry-cap-first", f"{JOB}/_retry.py", "Retry._own_backoff",
        "the cap is applied before the factor", """
-backoff = min(self.first * self.factor ** (number - 1), self.cap)
+backoff = min(self.first, self.cap) * self.factor ** (number - 1)
"""),
    plant("first-turn-competitor", f"{PARTS}/_first_rule.py", "FirstRule.job_started",
        "a turn counts as begun only when its competitor starts, not with a job "
        "that this one needs", """
-self._turns[job]
+job
"""),
    plant("first-drained", f"{PARTS}/_first_rule.py", "FirstRule._decide",
        "a First that has its result in a drain keeps the reason of the drain", """
-self._run.fate.forget_drain()
"""),
    plant("again-keeps-on", f"{RUN}/_steps.py", "requeue",
        "a retry after try_again() keeps what had succeeded, as the run that "
        "try_again() begins", """
-extras.keeps_succeeded = False
"""),
    plant("clean-up-backoff", f"{RUN}/_ending.py", "CleanUp._wait_until_settled",
        "the clean-up ends while one of its jobs waits for its next attempt", """
-while self.alive or self._backoff_until() < math.inf:
+while self.alive:
"""),
    plant("counts-below-zero", f"{RUN}/_run_counts.py", "RunCounts.end",
        "an end too many is not told", """
-if self.unsettled < 0 or self.forever_unsettled < 0:
-    raise self.fault(job)
"""),
    plant("forever-only-now", f"{RUN}/_run_counts.py", "RunCounts.begin",
        "whether there have been ordinary jobs is forgotten as forever ones are "
        "added", """
-self.had_ordinary_jobs = self.had_ordinary_jobs or bool(ordinary)
+self.had_ordinary_jobs = bool(ordinary)
"""),
    plant("budget-reported", f"{ADMISSION}/_pools.py", "BudgetResource.refund",
        "what a job has reported as used comes back as it is throttled", """
-if not share.is_reported:
+if share.amount:
"""),
    plant("rate-window-negative", f"{ADMISSION}/_rates.py", "SlidingWindow.correct",
        "used() puts back more than is in the window of a rate", """
-amount = max(amount, -before)
"""),
    plant("rate-bucket-early", f"{ADMISSION}/_rates.py", "TokenBucket._full_at",
        "what jobs have of a bucket that have not started accrues meanwhile", """
-now + float(self.unstarted_amount) * self.seconds_each
+now
"""),
    plant("drain-retries", f"{RUN}/_attempts.py", "judge",
        "a job that fails in a drain is retried", """
-run.phase._is_ending
+run.crew.is_closed
"""),
    plant("pause-around", f"{RUN}/_steering.py", "Steering._take_pause",
        "resume() of a group ends the pause around it", """
-run.line.set_paused(is_paused_around or run.scheduler in self.pauses)
+run.line.set_paused(
+    run.scheduler in self.pauses or (is_paused_around and (not run.line.is_paused))
+)
"""),
    plant("failures-uncounted-kept",
        f"{RUN}/_failure_counts.py", "FailureCounts.uncount",
        "a failure that counts no more is kept for the report, with its job", """
-if job in self._kept:
-    self._kept.remove(job)
"""),
    plant("adm-overtaken-apart", f"{ADMISSION}/_admission.py", "Admission._take_round",
        "jobs of other runs count as overtaking, whatever they need", """
-if not other.resources.isdisjoint(group.resources):
+if other.places is not group.places or not other.resources.isdisjoint(
+    group.resources
+):
"""),
    plant("hold-released-for-good", f"{PARTS}/__init__.py", "Hold.act",
        "a run that was let go on is not held again", """
-self._is_released &= not run.waits_for_jobs()
"""),
    plant("drain-cut-off", f"{RUN}/_steps.py", "settle_error",
        "failures in a group that a drain cuts off do not count", """
-run.phase._is_ending
+run.phase is STOPPING
"""),
    plant("first-inherits-critical", f"{JOB}/_job.py", "AbstractJob._criticality",
        "the critical_jobs around a First reach into it", """
-level is not None and level._critical_jobs is None and (level._enough is None)
+level is not None and level._critical_jobs is None
"""),
    plant("forever-once", f"{RUN}/_ending.py", "_end_forever_jobs",
        "a forever job that goes on after its cancellation is not cancelled again", """
-_wait_until_left(
-    run,
-    _forever_workers(run),
-    repeat_at=run.deadline_in(run.scheduler.shutdown_timeout),
-)
+_wait_until_left(run, _forever_workers(run))
"""),
    plant("retry-first-start", f"{RUN}/_steps.py", "requeue",
        "the first start is that of the attempt before the last", """
-if extras.first_started_at is None:
-    extras.first_started_at = began
+extras.first_started_at = began
"""),
    plant("drain-backoffs-order", f"{RUN}/_attempts.py", "BackoffTimer.drain",
        "what waits in backoffs as a run ends settles in the order of a heap", """
-sorted(self._heap)
+self._heap
"""),
    plant("adm-member-throttle",
        f"{ADMISSION}/_resource.py", "CountedResource.make_member_resource",
        "a throttle inside a scheduler with needs does not hold outside", """
-resource.cooldown = self.cooldown
"""),
    plant("throttled-last-budget", f"{RUN}/_steps.py", "settle_error",
        "a throttled attempt, after which there is none, uses up what it had "
        "reserved of a budget", """
-if state is not JobState.FAILED:
+if state is SCHEDULED:
"""),
    plant("first-turn-again", f"{PARTS}/_first_rule.py", "FirstRule.job_started",
        "each attempt of a call puts off the next turn", """
-self._turn_started_at is None and job in self._turns and (
-    self._turns[job] is self._last_open
-)
+job in self._turns and self._turns[job] is self._last_open
"""),
    plant("clean-up-group-paused", f"{RUN}/_steering.py", "Steering._take_pause",
        "a group that cleans up is paused with the run whose clean-up it is", """
-run.outer_worker.crew
+run.outer_worker.run
"""),
    plant("again-ready-service", f"{RUN}/_reopening.py", "Reopening._reopen",
        "a service that was ready has no users when it is tried again", """
-not run.scheduler.keep_jobs or (extras is not None and extras.ready_at is not None)
+not run.scheduler.keep_jobs
"""),
    plant("anew-line", f"{RUN}/_reopening.py", "PutBack._put_back_in",
        "a job that waits in the line starts with the result that is taken back", """
-if user._state is SCHEDULED:
+if user._state is None:
"""),
    plant("anew-open-count", f"{RUN}/_reopening.py", "PutBack._put_back_in",
        "a job that leaves the line does not wait for a failure that was tried "
        "again meanwhile", """
-job._pending = count_open(run, job)
+job._pending = sum(map(held.__contains__, run.members.all_requirements(job)))
"""),
    plant("anew-uncounted-user", f"{RUN}/_reopening.py", "PutBack._put_back_in",
        "what waits, and requires what is taken back, is not counted anew", """
-touched[user] = None
 users.setdefault(requirement, []).append(user)
"""),
    plant("anew-group-user", f"{JOB}/_following.py", "what_follows",
        "a group around a job that is taken back is a user of it: all in the group "
        "runs again", """
 touched[level] = None
+if level._is_scheduler:
+    reached += level._members.jobs
"""),
    plant("anew-group-users", f"{JOB}/_following.py", "what_follows",
        "what uses a group does not run again with a job in it", """
 if level in users:
     reached += users[level]
-level = level._scheduler
+break
"""),
    plant("anew-order", f"{JOB}/_following.py", "_users_in",
        "what has run behind a job for order alone runs again with it", """
-for requirement in counted_requirements(user):
+for requirement in user._required:
"""),
    plant("anew-group-record", f"{RUN}/_reopening.py", "Reopening._put_back",
        "the record of a job stays that is taken back in a group without a run", """
-if job._state.is_settled or level._state.is_settled:
+if level._run is not None:
"""),
    plant("again-money", f"{RUN}/_reopening.py", "put_back",
        "a job that is tried again forgets what it has spent", """
-extras = extras or RunExtras()
+extras = extras or RunExtras()
+extras.earlier_use = None
"""),
    plant("anew-mark", f"{JOB}/_job.py", "AbstractJob._holds_back",
        "what is about to run anew holds nothing back until it is put back", """
-if self._extras is not None and self._extras.repeats is not None:
-    return True
"""),
    plant("anew-journal", f"{RUN}/_reopening.py", "Reopening._discard_records",
        "the next run restores a success that was taken back", """
-self._run.journal_writer.discard(jobs)
"""),
    plant("anew-kept-links", f"{RUN}/_requirement_counts.py", "RequirementCounts.link",
        "a member that its group has kept is linked to nothing as it runs again", """
-link(job, members.all_requirements(job))
"""),
    plant("journal-adds-elsewhere",
        f"{RUN}/_journaling.py", "JournalWriter.on_jobs_added",
        "a job that adds jobs to a run of its own with a journal is not recorded", """
-worker is not None and worker.job is not None and (
-    worker.run.outermost() is self._outermost._run
-)
+worker is not None and worker.job is not None
"""),
    plant("tokens-throttled-order", f"{ADMISSION}/_line.py", "RunTokens.use_order",
        "a throttled job that waits for a token is behind others in a new order", """
-self.waiting[job] = (self.line.key_of(job, number), number, job)
+self.waiting[job] = (self.line.order.key(job), number, job)
"""),
    plant("tokens-resumed-priority", f"{ADMISSION}/_line.py", "ask_in_order",
        "after a pause, runs ask for tokens in the order in which their jobs became "
        "ready, whatever their priorities", """
--one[2]._options.priority
+0
"""),
    plant("key-member-throttle", f"{ADMISSION}/_keys.py", "Key.__init__",
        "a throttle of a key inside a scheduler with needs does not hold outside", """
-self.cooldown = family.outer_key.cooldown
"""),
    plant("end-unreached-shutdown", f"{RUN}/_ending.py", "shut_down_nested",
        "a group that is never reached shuts down within the time of the run around "
        "it", """
-nested.shutdown_timeout
+run.scheduler.shutdown_timeout
"""),
    plant("await-between-attempts", f"{RUN}/_ending.py", "will_not_start",
        "a job that the next attempt of its group may reach is not waited for while "
        "the last one ends", """
-may_clean_up(run, member) or (
-    run.fate.reason is not StopReason.DRAINED and any(retries)
-)
+may_clean_up(run, member)
"""),
    plant("failures-kept-critical", f"{RUN}/_failure_counts.py", "FailureCounts._add",
        "a critical failure after many others is dropped with keep_jobs=False", """
-job._criticality() or self._count_kept(is_blocked) < MAX_COUNTED_KEPT
+self._count_kept(is_blocked) < MAX_COUNTED_KEPT
"""),
    plant("key-clock", f"{ADMISSION}/_keys.py", "CountedKey.change_clock",
        "the pauses of keys keep the times of the loop before", """
-for _ in range(len(self.rest_ends)):
-    self.rest_ends.append(self.rest_ends.popleft() + shift)
"""),
    plant("rate-window-clock", f"{ADMISSION}/_rates.py", "SlidingWindow.shift",
        "what has started in the window of a rate keeps the times of the loop "
        "before", """
-self._started = OrderedDict(
-    ((when + seconds, amount) for when, amount in self._started.items())
-)
"""),
    plant("again-forever-alone",
        f"{RUN}/_requirement_counts.py", "RequirementCounts.link",
        "a group of which only a forever job is tried again does not know that it "
        "had other jobs, and goes on for ever", """
-run.counts.expect_ordinary_jobs()
"""),
    plant("window-one-more", f"{ADMISSION}/_line.py", "Line._take_back_admitted",
        "a window that shrinks by one takes nothing back", """
-len(self.holders) > size
+len(self.holders) > size + 1
"""),
    plant("failures-critical-awaited",
        f"{RUN}/_failure_counts.py", "FailureCounts.take",
        "a critical failure that a clean-up job awaits does not count any more", """
-if not (self._is_of_last_run() or job._criticality()):
+if not self._is_of_last_run():
"""),
    plant("services-direct", f"{RUN}/_ending.py", "_shutdown_waves",
        "a service that uses another one through plain jobs is not ended before it", """
-(levels[requirement] for requirement in requirements(job))
+(
+    levels[requirement]
+    for requirement in requirements(job)
+    if requirement in by_service
+)
"""),
    plant("again-service-kept", f"{SCHEDULER}/_members.py", "Members.jobs_to_repeat",
        "a group that is tried again keeps a service that was ready, and runs "
        "without it", """
-job._state is not SUCCEEDED or job._options.forever
+job._state is not SUCCEEDED
"""),
    plant("explain-first-throttle", f"{WORDS}/_explain.py", "_find_wait",
        "explain of a job in its second throttle looks at the first one", """
-last = _job_queries.throttled_attempts(job)[-1:]
+last = _job_queries.throttled_attempts(job)[:1]
"""),
    plant("settle-inner-end", f"{RUN}/_steps.py", "settle",
        "the end of another job within a hook lets the hook try again, at once, "
        "what is still settling", """
-ends.depth -= 1
-if ends.waiting:
-    ends.settle_waiting()
+ends.depth = 0
+if ends.waiting:
+    ends.settle_waiting()
"""),
    plant("files-partial-changed", f"{JOBS}/_user_files.py", "_rename_aside",
        "what others have done to what a job has set aside is removed by its next "
        "failure", """
-if free in made and take_snapshot(free) == made[free]:
+if free in made:
"""),
    plant("reload-new-names", f"{LOOK}/_reload.py", "_run_additions",
        "of new statements of which one raises, the names before it stay, and the "
        "next reload binds them again", """
-undoing.callback(namespace.pop, name, None)
"""),
    plant("page-told-anew", f"{LOOK}/_console.py", "WatchedRun.update",
        "a page that is told all anew keeps the questions that it knew by the old "
        "keys of the jobs", """
-(self.runs, self.jobs, self.replaced, self.incidents, self.questions)
+(self.runs, self.jobs, self.replaced, self.incidents)
"""),
    plant("answer-given-kept", f"{JOBS}/_answer.py", "Answer._skip_run",
        "an answer of the program that a journal had restored answers the next run, "
        "too, which asks nothing", """
-self._given = NOTHING
"""),
    plant("retry-group-twice", f"{WORDS}/_run_view.py", "try_again",
        "of two jobs in a group that has ended, the second tries the group again, "
        "which runs already", """
-wanted.setdefault(member_of_run(job), []).append(job)
+wanted.setdefault(job, []).append(job)
"""),
    plant("page-late-answer", "trioflow/view/trace/report/live.js", "",
        "an answer about the job that was chosen before comes late, and is shown in "
        "the panel of another job", """
-if (chosen !== key || job.key !== key) return;
+if (job.key !== key) return;
"""),
    plant("stop-timeout-culprit", f"{RUN}/_run.py", "Run._stop_alone",
        "a critical failure after the deadline, while the loop was blocked, is the "
        "culprit of the timeout", """
-culprit = None
"""),
    plant("cancelled-before-linking", f"{RUN}/_run.py", "Run._make_entries_ready",
        "a job that was cancelled alone before its run knew it passes for one that "
        "a stop has cancelled", """
-_steps.settle_apart(self, early, cause=CancelCause.JOB)
+_steps.settle_apart(self, early)
"""),
    plant("early-words-kept", f"{SCHEDULER}/_life.py", "record_end",
        "what was said of a run that is refused as it begins is said of the next "
        "one", """
-scheduler._early_calls.clear()
"""),
    plant("drop-settled-parked",
        f"{ADMISSION}/_admission.py", "OrderedPlaces.drop_settled",
        "a job that was cancelled amid those that wait for its key, and is tried "
        "again, has two places", """
-heaps += [group.heap, *group.parked.values()]
+heaps.append(group.heap)
"""),
    plant("appended-same-size",
        f"{JOURNAL}/_file_stamps.py", "FileStamper._was_only_appended_to",
        "a log that was changed in place, and has not grown, passes for one to "
        "which others have added", """
-os.path.getsize(path) > int(size)
+os.path.getsize(path) >= int(size)
"""),
    plant("aside-link", f"{JOBS}/_user_files.py", "set_aside",
        "a link of others that led nowhere is set aside with the new file to which "
        "it leads since", """
-link != place and place not in before and (not os.path.islink(link))
+link != place and place not in before
"""),
    plant("pyexpool-workers-taken",
        "trioflow/compat/pyexpool/_batch.py", "Batch._record_outcome",
        "the workers of a pool pass for taken for good, so that execute() does not "
        "wait for the start of a job", """
-self._concurrent_count -= run.is_concurrent
"""),
    plant("only-rewrites-record", f"{JOURNAL}/_recorder.py", "Recorder.accept",
        "a run of some jobs takes from the records of those that it restores what "
        "they require and it leaves out", """
-is_changed and (not _job_queries.has_cut_requirements(job))
+is_changed
"""),
    plant("dropped-failures-of-groups", f"{WORDS}/_failures.py", "counted_failures",
        "failures that a group has dropped are missing in the number of the rest", """
-rest += job._counted_failures.rest
"""),
    plant("look-answer-secret", f"{LOOK}/_steering.py", "_answer",
        "the log has the answer to a redacted question", """
-not asking.redact
+True
"""),
    plant("junit-flaky-kind", "trioflow/view/_junit.py", "_add_case",
        "the errors of attempts of a job that failed in the end are called flaky", """
-"rerunFailure" if _element(record, span) else "flakyFailure"
+"flakyFailure"
"""),
    plant("junit-errors-twice", "trioflow/view/_junit.py", "xml_text",
        "the error of the run is a case of each suite", """
-errors = 0
"""),
    plant("traceback-of-members",
        "trioflow/view/text/_failure_text.py", "_format_with_related",
        "the members of an exception group have no frames", """
-related += zip(
-    exception.exceptions or (), getattr(found, "exceptions", ()), strict=False
-)
"""),
    plant("events-backoff", "trioflow/view/events/_events.py", "Events.job_scheduled",
        "a job in its backoff counts as one that runs, too", """
-self._running_jobs.pop(job, None)
"""),
    plant("journal-in-pattern",
        f"{JOURNAL}/_file_stamps.py", "FileStamper._stamp_pattern",
        "a pattern that matches the journal's files counts them", """
-is_left_out(real)
+real in map(os.path.realpath, own or ())
"""),
    plant("answer-refusal-left", f"{JOURNAL}/_questions.py", "RunQuestions.close",
        "the refusal of a question that has been answered stays", """
-self._files.remove(path, "taken", "answer", "refused")
+self._files.remove(path, "taken", "answer")
"""),
    plant("answer-label", "trioflow/cli/_answer.py", "find_question",
        "a label stands for the path of the only question that is left", """
-len(matches) == 1 and matches[0].is_sole
+len(matches) == 1
"""),
    plant("answer-after-parse", f"{JOBS}/_answer.py", "Answer._give",
        "an answer is not compared with the open question after parse", """
-self._check_is_open(question)
 self._given = given
"""),
    plant("exit-code-of-signal", "trioflow/cli/_run.py", "command",
        "a file that cannot be written hides that a signal ended the run", """
-succeeded or code == on_signal.exit_code
+succeeded
"""),
    plant("ssh-pull-hides", "trioflow/cli/_node_runner.py", "NodeRun._run_on_node",
        "a pull that fails hides how the command has failed", """
-if error is not None and (not outcome.is_failure):
+if error is not None:
"""),
    plant("files-input", "trioflow/_check.py", "_described_files",
        "a file that a command reads as its input is no file that it reads", """
-[options.stdin]
+[]
"""),
    plant("files-read-spelling", f"{JOBS}/_user_files.py", "set_aside",
        "a file that the job also reads is known by its spelling only", """
-if place in {os.path.realpath(read) for read in job.reads}:
+if path in job.reads:
"""),
    plant("failures-first-cause", f"{WORDS}/_failures.py", "raise_failures",
        "check='first' hides the cause of the exception that it raises", """
-raise errors[0]
+raise errors[0] from None
"""),
    plant("incidents-kept",
        f"{SCHEDULER}/_base_scheduler.py", "BaseScheduler._reset_outcome",
        "the incidents of a run are among those of the next", """
-self._incidents = []
+self._incidents = getattr(self, "_incidents", [])
"""),
    plant("idle-ready", f"{PARTS}/__init__.py", "IdleTimeout",
        "a service that becomes ready is no sign of life of the schedulers around "
        "it", """
-job_added = job_scheduled = job_attempt = service_ready = job_settled = _renew
+job_added = job_scheduled = job_attempt = job_settled = _renew
"""),
    plant("service-told-late", f"{RUN}/_steps.py", "on_service_ready",
        "instruments hear that a service is ready after they have heard of the jobs "
        "that waited for it", """
-run.notify("service_ready", job)
 if successors is not None:
     run.requirement_counts.count_down(successors)
+run.notify("service_ready", job)
"""),
    plant("window-thread", f"{SCHEDULER}/_life.py", "",
        "another thread changes the number of slots in the midst of a step of the "
        "run", """
 {
     "jobs_window=": Word(
-        (ACTS, REFUSES, HERE, HERE, REFUSES, ACTS, ACTS, SAME),
+        (ACTS, REFUSES, ACTS, ACTS, REFUSES, ACTS, ACTS, SAME),
         NOT_IN_RUN,
         NOT_AS_IT_BEGINS,
     )
 }
"""),
    plant("added-nested-needs", f"{SCHEDULER}/_checks.py", "check_new_needs",
        "the needs of the jobs in a group that is added to one that has not begun "
        "are not checked", """
-to_check += with_members(job)
+to_check.append(job)
"""),
    plant("added-one-shot", f"{SCHEDULER}/_checks.py", "check_new_jobs",
        "a job of a coroutine object that would be retried is accepted during a run", """
-check_one_shot(job, may_repeat=False)
"""),
    plant("drain-unreached", f"{RUN}/_steering.py", "Steering.drain",
        "a job that awaits what a drain does not reach keeps the drain from its end", """
-each.scheduler._notify_unreached()
"""),
    plant("simulation-cap",
        "trioflow/simulation/_scenario_copy.py", "ScenarioCopy._copy_retry",
        "the backoffs of a simulation grow beyond their cap", """
 _retry.Retry(
-    retry.times,
-    first=retry.first,
-    factor=retry.factor,
-    cap=retry.cap,
-    jitter=False,
-    on=on,
+    retry.times, first=retry.first, factor=retry.factor, jitter=False, on=on
 )
"""),
    plant("simulation-limiter",
        "trioflow/simulation/_scenario_copy.py", "ScenarioCopy._copy_window",
        "two groups that share a limiter have one each in a simulation", """
-return self._limiter_copies_by_id.setdefault(id(window), copy)
+return copy
"""),
    plant("rate-repr", f"{ADMISSION}/_rates.py", "Rate.__repr__",
        "the repr of a Rate leaves out that it never gives up", """
-self._give_up != DEFAULT_GIVE_UP
+self._give_up not in (None, DEFAULT_GIVE_UP)
"""),
    plant("passed-by-what-is-certain",
        f"{RUN}/_requirement_counts.py", "RequirementCounts.count_down",
        "a job that certainly runs passes one that the same end has made ready "
        "before, and whose rule must be asked", """
-queued or self.is_undecided or successor._state is not IDLE
+self.is_undecided or successor._state is not IDLE
"""),
    plant("context-tried-again", f"{RUN}/_steps.py", "settle",
        "a job that has failed is tried again without the variables of the code "
        "that added it", """
-if state not in REOPENABLE:
-    extras.context = None
+extras.context = None
"""),
    plant("first-need-comes-late", f"{RUN}/_start_order.py", "StartOrder.add_jobs",
        "the first job with needs is added to a run that has an order already, and "
        "takes nothing", """
-if has_needs:
-    self._run.line.use_order(order, has_needs)
"""),
    plant("cancel-twice-after-a-timeout", f"{RUN}/_run.py", "Run.cancel",
        "a call of cancel() is forgotten in a run that another cause has stopped", """
-self.fate.was_cancelled = True
"""),
    plant("read-in-vain", f"{RUN}/_undecided.py", "Reading.do_errand",
        "a worker that begins after the word that ends its reading reads on", """
-if run.phase._is_ending or self.job._state is not IDLE:
-    return
"""),
    plant("read-in-a-drain", f"{RUN}/_steering.py", "Steering.drain",
        "a drained run waits for the files of a job that will not start", """
-each.undecided.stop_reading()
"""),
    plant("room-grows", f"{SCHEDULER}/_awaiting.py", "Room._on_settled",
        "a job that has waited for room is remembered after its end", """
-self._iterating_jobs.discard(job)
"""),
    plant("awaited-by-two", f"{RUN}/_failure_counts.py", "FailureCounts.give_back",
        "what one await has raised is counted because another was cancelled", """
-if failure.is_taken and not failure.is_raised:
+if failure.is_taken:
"""),
    plant("awaited-and-dropped", f"{RUN}/_failure_counts.py", "FailureCounts.keeps",
        "a job whose failure is awaited is dropped before an await has raised it", """
-return is_awaited or job in self._kept
+return job in self._kept
"""),
    plant("interruption-in-shutdown", f"{RUN}/_ending.py", "_call_apart",
        "an error of one co_shutdown replaces the interruption that another has "
        "raised before", """
-run.interruption = run.interruption or find_interruption(failure)
+run.interruption = find_interruption(failure)
"""),
    plant("two-throttles-in-clean-up", f"{RUN}/_steps.py", "requeue",
        "a clean-up job that two resources throttle waits for the last one named, "
        "not for the later one", """
-until = max((ends_at for _, ends_at in closed))
+until = closed[-1][1]
"""),
    plant("key-wakes-one-group", f"{ADMISSION}/_keys.py", "Key.wake",
        "a free key wakes the jobs of one kind, which may lack something else", """
-for group in list(self.parked):
-    group.unpark(self)
+next(iter(self.parked)).unpark(self)
"""),
    plant("key-time-awaited-again",
        f"{ADMISSION}/_admission.py", "Admission._set_timer",
        "a key whose only waiting job was cancelled is not awaited again", """
-heapq.heappop(self.timed_keys)[2].timed_at = math.inf
+heapq.heappop(self.timed_keys)
"""),
    plant("merge-kinds", f"{ADMISSION}/_admission.py", "Admission.merge",
        "where two pools come together, the kinds of waiting jobs of one are "
        "forgotten", """
-self.group_counts.update(other.group_counts)
"""),
    plant("adaptive-overload-once", ADAPTIVE, "WindowController.record_overload",
        "each of many jobs that fail together shrinks an adaptive window", """
-if started_at >= self._shrunk_at:
-    self._shrink(BACKOFF_FACTOR, now)
+self._shrink(BACKOFF_FACTOR, now)
"""),
    plant("places-slotless-first", f"{ADMISSION}/_admission.py", "OrderedPlaces.look",
        "a forever job starts before the jobs of a higher priority", """
-not heap or self._heap[0] < heap[0]
+not heap
"""),
    plant("early-cancel-kept", f"{RUN}/_run.py", "Run._make_entries_ready",
        "jobs that were cancelled before the first run of a group are cancelled in "
        "its second one, too", """
-self.steering.cancelled_early.pop(self.scheduler, ())
+self.steering.cancelled_early.get(self.scheduler, ())
"""),
    plant("early-cancel-second", f"{RUN}/_steps.py", "cancel_job",
        "the second job that is cancelled before a run replaces the first", """
-run.steering.cancelled_early.setdefault(scheduler, []).append(job)
+run.steering.cancelled_early[scheduler] = [job]
"""),
    plant("key-beyond-limit", f"{ADMISSION}/_keys.py", "CountedKey.free_at",
        "the first gap that is over frees a key of which a clean-up job has taken "
        "more than there is", """
-list(self.rest_ends)[int(need - self.free) - 1 :]
+list(self.rest_ends)
"""),
    plant("rate-full-early", f"{ADMISSION}/_rates.py", "SlidingWindow.correct",
        "a key of which one job puts back its amount is forgotten while that of "
        "another counts", """
-self.full_at = max(self.full_at, when + self._period)
+self.full_at = when + self._period
"""),
    plant("pool-clock-first", f"{ADMISSION}/_pools.py", "Pool._leave",
        "the first user of a pool that leaves takes the clock with it", """
-if not self._users:
+if True:
"""),
    plant("backoff-of-before", f"{RUN}/_attempts.py", "_waits_until",
        "the end of a backoff that was cancelled ends the next one", """
-job._extras.backoff_until == until
+job._extras.backoff_until is not None
"""),
    plant("tokens-drained", f"{ADMISSION}/_line.py", "RunTokens.drain",
        "the tickets of a group that waits no longer are served", """
-for ticket in self._tickets:
-    ticket[0] = None
"""),
    plant("first-turns-together",
        f"{PARTS}/_first_rule.py", "FirstRule._open_due_turns",
        "of several turns that are due, one opens", """
-while self._stagger is not None and self._closed_turns:
+for _ in range(self._stagger is not None and bool(self._closed_turns)):
     last = self._last_open
     if last is not None and last._state.is_settled:
         has_run = last._state is JobState.SUCCEEDED and (not last.restored)
         if has_run and self._stagger < math.inf:
             return
     elif last in self._competitors:
         return
     self._open_next_turn()
"""),
    plant("await-anew", f"{SCHEDULER}/_awaiting.py", "wait_settled",
        "who awaits a job that is tried again as its cancellation is told is given "
        "its state of that moment", """
-await wait_settled(scheduler, job, takes_failure)
+return
"""),
    plant("stuck-second-call", f"{RUN}/_standstill.py", "StuckJobs.watch_deadline",
        "the second call of a worker, with an earlier deadline than the first, is "
        "not watched in time", """
-if end + STUCK_REPORT_DELAY < self.due:
+if worker not in self.watched and end + STUCK_REPORT_DELAY < self.due:
"""),
    plant("gives-up-all", f"{RUN}/_run_pools.py", "_gives_up",
        "a job goes on until each of the rates that throttle it gives up", """
-min(limits, default=math.inf)
+max(limits, default=math.inf)
"""),
    plant("page-incidents-anew", f"{LOOK}/_console.py", "WatchedRun.update",
        "a page that is told all anew has the incidents twice", """
-(self.runs, self.jobs, self.replaced, self.incidents, self.questions)
+(self.runs, self.jobs, self.replaced, self.questions)
"""),
    plant("page-first-in-first", f"{LOOK}/_console.py", "WatchedRun._enclosing_firsts",
        "a First in a group of a First counts for the outer one", """
-firsts[index] = firsts.get(outer, parent)
+firsts[index] = parent
"""),
    plant("page-failed-rows", f"{LOOK}/_console.py", "console",
        "the rows of failures are counted for the failures", """
-{"failed_count": sum(map(len, groups))}
+{"failed_count": len(groups)}
"""),
    plant("page-expected-first", f"{LOOK}/_answers.py", "_watch_for_pages",
        "of two pages that wait for a run, the first gets it", """
-for key, (label, asked_at) in list(expected.items()):
+for key, (label, asked_at) in list(expected.items())[:1]:
"""),
    plant("reload-first-run", f"{LOOK}/_reload.py", "reload",
        "a reload is in the log of the first run alone", """
-for run in runs_in_progress():
+for run in runs_in_progress()[:1]:
"""),
    plant("tally-groups-of-part", "trioflow/view/text/_verdict.py", "Tally.subtract",
        "a group that has failed, and is dropped with the first try of the group "
        "around it, counts", """
-self.failed_groups -= part.failed_groups
"""),
    plant("waits-released", "trioflow/view/trace/_spans.py", "wait_texts",
        "one job is said to have ended all waits for a cause", """
-is_known = not others and wait.released_by is not None
+is_known = wait.released_by is not None
"""),
    plant("events-first-wait", "trioflow/view/events/_events.py", "Events._poll_jobs",
        "of the waits of a job, the first is told", """
-wait != polled.last_written_values
+polled.last_written_values is None
"""),
    plant("otel-backoff-running", "trioflow/otel.py", "Tracing.job_settled",
        "a job that ends in its backoff is counted down twice", """
-self._running.add(0 if is_waiting else -1)
+self._running.add(-1)
"""),
    plant("batch-own-files", "trioflow/batch/_record_files.py", "OutputDirectory.save",
        "the second try of a command sets its own files aside", """
-sequence not in self._saved
+True
"""),
    plant("batch-third-equal", "trioflow/batch/_batch.py", "Batch.unique_label",
        "the third of equal commands has the name of the second", """
-return line if number == 1 else f"{line}#{number}"
+return line if number == 1 else f"{line}#2"
"""),
    plant("answer-number", f"{JOURNAL}/_questions.py", "PublishedQuestion.poll",
        "the number of a question that was answered is not compared", """
-is_to_other or answer.number not in (None, self.number)
+is_to_other
"""),
    plant("question-third", f"{JOURNAL}/_questions.py", "PublishedQuestion.__init__",
        "the third question of a job has the number of the second", """
-number += 1
+number = 2
"""),
    plant("restored-has-begun",
        f"{JOURNAL}/_recorder.py", "Recorder.accept",
        "what is restored after a kill passes for killed later", """
-if work is not None and work.writes:
+if False:
"""),
    plant("nodes-told", f"{JOBS}/ssh/_connections.py", "Connection._try_to_open",
        "each job that is retried connects to its node by itself", """
-self._told.clear()
"""),
    plant("nodes-gateway-first", f"{JOBS}/ssh/_connections.py", "Connections.close",
        "a gateway is closed before what is behind it", """
-for is_gateway in (False, True):
+for is_gateway in (True, False):
"""),
    plant("workers-named-each",
        f"{JOBS}/process/_worker_pool.py", "WorkerProcess._compare_files",
        "each worker with another text is named", """
-reported.add(file)
"""),
    plant("run-shared-successors", f"{RUN}/_steps.py", "settle",
        "a job that a hook adds as another fails is counted down twice", """
-[*successors] if isinstance(successors, list) else successors
+successors
"""),
    plant("page-report-so-far", f"{LOOK}/_page.py", "PageHandler._answer",
        "a report that is saved in mid-run passes for the end", """
-if page.has_ended:
+if True:
"""),
)  # fmt: skip
