"""The plants: faults that a tired developer may put into the engine, and that tests must notice.

Each is a mistake about a rule, in the words of its author: a line forgotten, two lines in the other order, `>` for
`>=`. Plants that made no difference to any user are not here: what a fault cannot break may go."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from ..mutation.mutants import Mutant


class NotFound(Exception):
    """The text that a plant replaces does not stand once in its file."""


@dataclass(frozen=True, slots=True)
class Plant:
    """One fault: the text `old`, which stands once in the file, becomes `new`."""

    name: str
    path: str
    mistake: str
    old: str
    new: str = ""

    def mutant(self, root: Path) -> Mutant:
        """Return the fault at its place in a tree.

        Raises:
            NotFound: the text has changed; the plant must follow it.

        """
        file = root / self.path
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        if (count := text.count(self.old)) != 1:
            raise NotFound(f"plant {self.name!r}: its text stands {count} times in {self.path}:\n{self.old}")
        start = text.index(self.old)
        return Mutant(self.path, text.count("\n", 0, start) + 1, start, self.old, self.new)


def plant(name: str, path: str, mistake: str, hunk: str) -> Plant:
    """Return a fault of several lines: those with "-" go, those with "+" come, and the others stay around them."""
    lines = hunk.removeprefix("\n").splitlines(keepends=True)
    old = "".join(line[1:] or line for line in lines if line[0] != "+")
    return Plant(name, path, mistake, old, "".join(line[1:] or line for line in lines if line[0] != "-"))


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
    plant("run-release-before-pause", f"{RUN}/_steps.py",
        "a release on one path forgotten: a job keeps slot and needs in its backoff", """
-    run.line.give_back(job)
+    if until <= now:
+        run.line.give_back(job)
     for part in run.parts:
"""),
    plant("run-fraction", f"{RUN}/_steps.py", "the fraction of the failed attempt is not reset", """
-    extras.fraction = job._worker = job._started_at = None
+    job._worker = job._started_at = None
"""),
    plant("run-deadline-gt", f"{RUN}/_run.py", "> for >= at the run's deadline", """
-            if self.clock() >= self.deadline:
+            if self.clock() > self.deadline:
                 reason = _states.TIMEOUT
"""),
    Plant("run-lift", f"{RUN}/_steps.py", "a ready service keeps its timeout", """\
    if extras.time_limit is not None:
        extras.time_limit._lift()
"""),
    plant("run-refund", f"{RUN}/_steps.py", "rates and budgets of jobs that never start are not put back", """
-        run.line.refund(job)
         outcome = failure or cancelled_outcome(run, cause)
"""),
    Plant("run-apart-passes-on", f"{RUN}/_steps.py", "what a job has that never starts is not passed on", """\
raised {one_line_error(error)}")
    run.open_crew.ensure_searcher()
""", """\
raised {one_line_error(error)}")
"""),
    Plant("run-earlier-use", f"{ADMISSION}/_admission.py", "what a failed attempt has used of a budget is forgotten",
        "            job._extras.earlier_use = used\n"),
    plant("run-block-total", f"{RUN}/_steps.py", "a BudgetSpent is not counted in the total", """
-            run.failures.total += 1
             _settle_each(run, (job,), failure, CancelCause.STOP)
"""),
    plant("run-cut-off-around", f"{RUN}/_steps.py",
        "the jobs of a nested run that ends with the one around it count as ended by cancel()", """
-        cause, run, outer = outer.cause, outer.run, outer.run.outer_worker
+        break
"""),
    Plant("run-services-of-services", f"{SCHEDULER}/_members.py",
        "the services that a dropped job has used are forgotten with it", "job._required, job._inputs = services, ()",
        "job._required = job._inputs = ()"),
    plant("cleanup-notices", f"{RUN}/_worker.py",
        "a clean-up job that the deadline has cancelled settles before the others know", """
-        if self.must_leave and not self.crew.is_closed:
+        if self.must_leave and run.phase is not STOPPING:
"""),
    plant("run-settle-order", f"{RUN}/_steps.py",
        "two lines in the other order: who awaits a job is told before its slot is back", """
-    if run.line.places is not None:
-        run.line.give_back(job)
     if extras is not None:
         if state not in REOPENABLE:
             extras.context = None
         extras.notify_listeners(job)
+    if run.line.places is not None:
+        run.line.give_back(job)
"""),
    plant("standstill-active", f"{RUN}/_run.py", "a counter not restored after a wait of a nested run", """
         finally:
-            if was_active:
+            if False:
"""),
    plant("journal-order", f"{RUN}/_steps.py",
        "the record comes after the hooks (a First's winners before their results)", """
+    if run.notify_end is not None:
+        run.notify_end(run.scheduler, job)
     if run.journal_writer is not None:
         # A function of the user's `save` may end others, and so does an error of the journal.
         ends = run.ends
         ends.depth += 1
         try:
             run.journal_writer.end_attempt(job)
             if state is SUCCEEDED:
                 run.journal_writer.record(job, outcome)
         finally:
             ends.depth -= 1
-    if run.notify_end is not None:
+    if run.notify_end is not None and False:
"""),
    Plant("chains-save", f"{RUN}/_steps.py", "what a function of save= ends is told before the end of its job", """\
        ends = run.ends
        ends.depth += 1
        try:
            run.journal_writer.end_attempt(job)
""", """\
        ends = type(run.ends)()
        ends.depth += 1
        try:
            run.journal_writer.end_attempt(job)
"""),
    Plant("chains-load", f"{RUN}/_steps.py", "a job that is restored settles twice if its own save= cancels it", """\
        ends = run.ends
        ends.depth += 1
        try:
            run.journal_writer.restore(job)
""", """\
        ends = type(run.ends)()
        ends.depth += 1
        try:
            run.journal_writer.restore(job)
"""),
    Plant("chains-retry", f"{RUN}/_worker.py", "on= of a retry that cancels its job cancels the next one of the task",
        "            self.must_leave |= self.cause is not None\n"),
    Plant("chains-retried", f"{RUN}/_attempts.py", "a job that on= of its retry cancels is tried again",
        "return backoff if worker.cause is was_cause else None", "return backoff"),
    Plant("chains-time", f"{RUN}/_steps.py", "a job ends before what on= of its retry has ended",
        "            now = run.clock()\n    state, failure", "            pass\n    state, failure"),
    Plant("ending-ended-by-run", f"{RUN}/_ending.py",
        "a service that cancel() has ended before is taken for one that the run ends",
        "worker.mark_cancelled(CancelCause.END_OF_RUN)", "worker.cause = CancelCause.END_OF_RUN"),
    plant("ending-wave-deadline", f"{RUN}/_ending.py", "the waves of services have no common deadline", """
-        await _wait_until_left(run, wave, deadline)
+        await _wait_until_left(run, wave)
"""),
    Plant("cleanup-wake-others", f"{ADMISSION}/_line.py",
        "a wake-up forgotten: what a clean-up job had is not passed on", "            self._behind.admit()\n",
        "            pass\n"),
    Plant("cleanup-joins", f"{ADMISSION}/_admission.py",
        "a clean-up job takes from an admission that its run does not belong to", """\
        join_admission(self.run.line.places, [entry for entry, _ in found])  # type: ignore[arg-type]
"""),
    Plant("verdict-throttled", f"{RUN}/_attempts.py", "a throttled job is queued again although its run drains",
        "return Verdict(CANCELLED if ends or was_cancelled else SCHEDULED, error, failure, throttles=throttles)",
        "return Verdict(SCHEDULED, error, failure, throttles=throttles)"),
    Plant("verdict-clean-up", f"{RUN}/_attempts.py", "a clean-up job that fails, or is throttled, is not tried again",
        "ends = (run.phase._is_ending and not worker.crew.is_clean_up)", "ends = run.phase._is_ending"),
    plant("verdict-service", f"{RUN}/_attempts.py", "a ready service that cancel() ends counts as SUCCEEDED", """
-            return Verdict(SUCCEEDED if is_end and job._is_ready() else CANCELLED, error)
+            return Verdict(SUCCEEDED if job._is_ready() else CANCELLED, error)
"""),
    plant("tokens-shrunk", f"{ADMISSION}/_line.py", "a limiter that has shrunk keeps its tokens going round", """
-            return available < 0
+            return False
"""),
    plant("tokens-in-turn", f"{ADMISSION}/_line.py", "a run takes a token before another that has asked before", """
-            if not self.waiting_count:
-                return True
+            return True
"""),
    Plant("pauses-wake", f"{RUN}/_attempts.py", "the first pause does not wake the run", """\
        if self._heap[0][2] is job:
            self._run.wake()
"""),
    plant("idle-grace", f"{RUN}/_handle.py", "grace turns are not counted anew after a late sign of life", """
-            self._last_sign, self._turns_after_deadline = last, 0
+            self._last_sign = last
"""),
    plant("counts-taken", f"{RUN}/_failure_counts.py",
        "a counter not restored when a failure is taken by an await", """
             self.number -= 1
-            self.unblocked_number -= job._state is not JobState.BLOCKED
"""),
    plant("worker-deadline", f"{RUN}/_worker.py", "a worker of a nested run looks only at its own deadline", """
-        if now >= crew.bounded_by.deadline:
+        if now >= run.deadline:
             # The loop has not yet said so.
             crew.bounded_by.stop(StopReason.TIMEOUT)
             self.must_leave = True
"""),
    plant("run-drain-forever", f"{RUN}/_run.py", "a drain waits for forever jobs, too", """
-            return not all(worker.is_shielded for worker in self.crew.alive)
+            return bool(self.crew.alive)
"""),
    plant("job-run-error", f"{SCHEDULER}/_base_scheduler.py",
        "a flag not reset for a second run: the error of the journal or of a First", """
-        self._run_error = self._run_times = None
+        self._run_times = None
"""),
    Plant("job-reset-pending", f"{JOB}/_job.py", "the count of open requirements is not reset for a second run", """\
        self._pending = 0
        if listeners:""", "        if listeners:"),
    Plant("job-release-inputs", f"{JOB}/_job.py", "a throttled job has lost the results of its inputs",
        "        if not last_call and (self._options.retry is not None or self._options.needs):",
        "        if not last_call and self._options.retry is not None:"),
    Plant("rules-cancelled", f"{JOB}/_requirements.py", "any for all: blocked by a failure and a cancel()",
        "is_from_cancel=all(map(_was_cancelled, failed))", "is_from_cancel=any(map(_was_cancelled, failed))"),
    plant("adm-backfill", f"{ADMISSION}/_admission.py", "> for >= in backfill", """
-            if places.overtaken[first := group.heap[0][2]] >= places.max_overtakes:
+            if places.overtaken[first := group.heap[0][2]] > places.max_overtakes:
"""),
    plant("adm-overtaken-order", f"{ADMISSION}/_admission.py",
        "two lines in the other order: counted after the group has changed", """
+                group.places.admit_first(group)
                 for other in self._passed:
                     if not other.resources.isdisjoint(group.resources):
                         other.places.overtaken[other.heap[0][2]] += 1
-                group.places.admit_first(group)
"""),
    plant("queue-throttled-back", f"{ADMISSION}/_line.py", "admitted jobs start on a throttled key", """
-            if job._state is SCHEDULED and not (self.passes_on and self._return_early(job)):
+            if job._state is SCHEDULED:
"""),
    plant("rate-started", f"{ADMISSION}/_rates.py", "a wake-up forgotten: amounts that accrue again after a start", """
             self.buckets[key].let_accrue(amount, now)
-        self.on_change()
"""),
    plant("rate-unstarted", f"{ADMISSION}/_rates.py", ">= for > in a bucket", """
-        if self.unstarted_amount and self.unstarted_amount + amount > self.burst:
+        if self.unstarted_amount and self.unstarted_amount + amount >= self.burst:
             return math.inf
         return self.accrued_at(amount, -math.inf)
"""),
    Plant("budget-share", f"{ADMISSION}/_pools.py", "a refunded amount is given back twice", """\
            share.amount = 0
"""),
    Plant("budget-scheduler", f"{ADMISSION}/_pools.py", "a scheduler does not return the rest of its budget",
        "        self.correct(share, share.used)\n"),
    plant("key-unstarted", f"{ADMISSION}/_keys.py", "a pause after a job that has not started", """
     def refund(self, job: AbstractJob[Any], share: Any) -> None:
-        self.unused_by = job
+        pass
"""),
    plant("key-keep", f"{ADMISSION}/_keys.py", "a throttled key that nothing refers to is forgotten", """
         super().throttle(seconds)
-        self.family.keep(self)
"""),
    plant("window-shrunk", ADAPTIVE, "<= for <: jobs that start in the instant of the shrink do not count", """
-        if started_at < self._shrunk_at:
+        if started_at <= self._shrunk_at:
             return
         self._successes += 1
"""),
    plant("window-ratio", ADAPTIVE, "the ratio is not reset when the window shrinks", """
         self._latencies.clear()
-        self._latency_ratio = 1.0
"""),
    Plant("first-turn-reset", f"{PARTS}/_first_rule.py",
        "the start of the last turn is not reset: the next opens too early", """\
        self._turn_started_at = None
        self._hold(self""", """\
        self._hold(self"""),
    Plant("first-restored", f"{PARTS}/_first_rule.py", "winners are counted as if there were none yet",
        "jobs[: self._enough - len(self.winners)]", "jobs[: self._enough]"),
    Plant("first-held", f"{PARTS}/_first_rule.py", "each add doubles what is held", "        self._held.clear()\n"),
    Plant("look-ends", f"{LOOK}/_answers.py", "a program that ends waits for one page",
        "(_awaits_end, watches.values())", "(_awaits_end, [*watches.values()][:1])"),
    Plant("first-records", f"{PARTS}/_first_rule.py", "a First's late loser is recorded", """\
            writer.records_results = False
"""),
    plant("adaptive-cleanup", ADAPTIVE, "an Adaptive counts clean-up jobs", """
-        if began is not None and ended is not None and job in self._run.line.holders:
+        if began is not None and ended is not None:
"""),
    plant("idle-enter", f"{PARTS}/__init__.py", "an idle limit is renewed while the run ends", """
         elif phase is STOPPING and limit is not None:
             limit._stop()
-            self._limit = None
"""),
    plant("await-give-back", f"{SCHEDULER}/_awaiting.py", "a failure stays taken although its await was cancelled", """
-        if scheduler._run is not None and type(job._outcome) is _errors.Failure:
-            scheduler._run.failures.give_back(job, job._outcome)
         raise
"""),
    plant("open-block-wake", f"{SCHEDULER}/_async_with.py", "the end of the block does not wake the run", """
             self._is_open = False
-            run.wake()
"""),
    Plant("trio-parent", f"{BACKEND}/_fast_trio.py", "a wrong parent for a cancel scope", """\
        scope = _make_nested_scope(parent_status)
        worker.task_snapshot.cancel_status = status""", """\
        scope = _make_nested_scope(worker.task._cancel_status)
        worker.task_snapshot.cancel_status = status"""),
    Plant("trio-timer", f"{BACKEND}/_fast_trio.py", "a timer that is cancelled late still calls", """\
        self._action = self._call_soon = bool
"""),
    Plant("asyncio-uncancel", f"{BACKEND}/_asyncio.py", "a timeout's request to cancel is not taken back", """\
        worker.task.uncancel()
"""),
    plant("asyncio-outer-deadline", f"{BACKEND}/_asyncio.py", "<= for < between two scopes of a call", """
-        if not self._is_cancelled and self._outer_deadline < self._deadline:
+        if not self._is_cancelled and self._outer_deadline <= self._deadline:
"""),
    plant("asyncio-interrupt", f"{BACKEND}/_asyncio.py",
        "a second cancellation of the caller does not reach jobs that unwind", """
-                        on_interrupt()
+                        pass
"""),
    Plant("journal-restored", f"{JOURNAL}/_journal.py",
        "that a job was restored is not recorded: a retried scheduler restores it again",
        "        self._pending_restored[asked.running.path] = None\n"),
    plant("journal-prepared", f"{JOURNAL}/_journal.py",
        "a result prepared by an earlier attempt is stored in place of the last", """
-                if prepared is None or prepared_value is not value:
+                if prepared is None:
"""),
    Plant("journal-budget", f"{JOURNAL}/_journal.py", "what a job has used of budgets is not recorded",
        "                if (used := _job_queries.budget_use(job)) or stamps or job.redact or answered:\n",
        "                if (used := {}) or stamps or job.redact:\n"),
    plant("journal-added", f"{RUN}/_journaling.py", "a job that has added others is recorded", """
-            worker.job._ensure_extras().has_added_jobs = True
+            pass
"""),
    plant("pause-places", f"{ADMISSION}/_line.py", "what a pause takes back stands behind all that waited", """
-            entry = waiting.pop() if waiting else (self.key_of(job, 0), next(returned_numbers), job)
+            entry = waiting.pop() if waiting else self.entry_of(job)
"""),
    Plant("tokens-last-ticket", f"{ADMISSION}/_line.py",
        "a job that is cancelled takes the oldest ticket of its run with it", "self._tickets.pop()[0] = None",
        "self._tickets.popleft()[0] = None"),
    Plant("again-retries", f"{JOB}/_job.py", "a job that is tried again has no retries left",
        "        self.earlier_retries = self.retry_count\n"),
    Plant("again-cancelled", f"{RUN}/_run_counts.py",
        "a cancelled job that was tried again still counts as one that a drain has cancelled", """\
        self.cancelled -= job._state is CANCELLED and not forever
"""),
    Plant("retry-longest", f"{JOB}/_retry.py", "of the times that a group of exceptions asks for, the first counts",
        "return max(backoffs) if backoffs", "return backoffs[0] if backoffs"),
    Plant("first-infinite", f"{PARTS}/_first_rule.py",
        "a success that is not enough opens no turn, although no time will",
        " and not last.restored and self._stagger < math.inf:", " and not last.restored:"),
    plant("words-holders", f"{WORDS}/_explain.py", "a job that has its needs, and waits for a token, is no holder", """
-        return lacking.holders.keys()
+        return [holder for holder in lacking.holders if holder._state is JobState.RUNNING]
"""),
    plant("words-token-slot", f"{WORDS}/_explain.py",
        "a job that has a slot and waits for needs is said to wait for a slot", """
-    if line.is_full() and not job._options.forever and job not in line.holders:
+    if line.is_full() and not job._options.forever:
"""),
    Plant("words-priority", f"{WORDS}/_explain.py", ">= for > in explain",
        'reasons = ["priority"] if any(other.priority > job.priority',
        'reasons = ["priority"] if any(other.priority >= job.priority'),
    Plant("words-cancelled", f"{WORDS}/_explain.py",
        "explain reads the outcome of the last run while one is in progress", """\
    reason = scheduler._fate.reason if (run := scheduler._run) is None else run.fate.reason
    if job.forever and""", """\
    reason = scheduler._fate.reason
    if job.forever and"""),
    plant("bound-forever", "trioflow/simulation/_simulate.py",
        "a forever job for which nothing waits counts in the bound of a simulation", """
-        seconds.update(dict.fromkeys((job for job in order if job.forever and job not in awaited), 0.0))
+        seconds.update(dict.fromkeys(awaited - {*order}, 0.0))
"""),
    plant("pause-own", f"{RUN}/_steering.py",
        "resume() of a run resumes the groups in it that are paused themselves", """
-        run.line.set_paused(is_paused_around or run.scheduler in self.pauses)
+        run.line.set_paused(is_paused_around)
"""),
    plant("pause-request", f"{ADMISSION}/_line.py",
        "a run whose waiting jobs were taken back stays in the line for a token", """
-        self.limit.update_request()
         return entries
"""),
    Plant("pause-slotless", f"{ADMISSION}/_admission.py",
        "the jobs that wait for no slot wait for one at the end of a pause",
        "heapq.heappush(self._heap if takes_slot(entry[2]) else self._slotless_heap, entry)",
        "heapq.heappush(self._heap, entry)"),
    plant("window-taken-back", f"{ADMISSION}/_line.py", "a smaller window does not take back what has not begun", """
         self.size = size
-        self._take_back_admitted()
"""),
    plant("verdict-ready-service", f"{RUN}/_attempts.py", "a service that was ready and raises is tried again", """
-    if cancelled or job._is_ready() or worker.run.backend.needed_backend(failure):
+    if cancelled or worker.run.backend.needed_backend(failure):
"""),
    plant("cut-off-tolerated", f"{RUN}/_failure_counts.py",
        "a tolerated group that was cut off with its run counts", """
-        if is_scheduler(job) and job._counted_failures.number and job._criticality() is not False:
+        if is_scheduler(job) and job._counted_failures.number:
"""),
    plant("budget-reserved", f"{ADMISSION}/_pools.py",
        "a job does not wait for what running jobs have reserved of a budget and may not use", """
-        return need <= self.free + self.reserved
+        return need <= self.free
"""),
    Plant("merge-timed-keys", f"{ADMISSION}/_admission.py",
        "runs that come to share an admission forget the keys that only time frees",
        "sorted(self.timed_keys + other.timed_keys)", "sorted(self.timed_keys)"),
    plant("tokens-not-first", f"{ADMISSION}/_line.py", "a token that was given back serves the last ticket", """
-        while (served := self.tickets.popleft()[0]) is None:
+        while (served := self.tickets.pop()[0]) is None:
"""),
    Plant("merge-budgets", f"{ADMISSION}/_admission.py",
        "runs that come to share an admission forget that it has budgets", """\
        self.has_budgets |= other.has_budgets
"""),
    Plant("first-loser-cancelled", f"{PARTS}/_first_rule.py", "a First that has too few jobs left when it drains fails",
        """\
        if run.phase is RunPhase.DRAINING and any(job._state is JobState.CANCELLED for job in self._losers):
            # The drain, not the losers, has kept it from its result.
            return
"""),
    Plant("progress-outer", f"{RUN}/_worker.py",
        "progress of a job is no sign of life of the schedulers around that of its own",
        "(self.job, scheduler, *enclosing_schedulers(scheduler))", "(self.job, scheduler)"),
    plant("skipped-all-succeeded", f"{RUN}/_run_counts.py",
        "what was SKIPPED leaves the jobs that require it on the fast path for successes", """
         if state is not SUCCEEDED:
-            self.all_succeeded = False
+            self.all_succeeded = state is JobState.SKIPPED
"""),
    plant("service-outcome", f"{RUN}/_steps.py", "a service that is ready and ends with the run loses its value", """
-    return job._outcome if verdict.state is SUCCEEDED else cancelled_outcome(run, cause)
+    return None if verdict.state is SUCCEEDED else cancelled_outcome(run, cause)
"""),
    Plant("moves-on-ready", f"{RUN}/_attempts.py",
        "a job with `move_on` moves on, also a service that has become ready as its timeout cancelled it",
        'return options.on_timeout == "move_on" and not job._is_ready()', 'return options.on_timeout == "move_on"'),
    Plant("backoff-text", f"{RUN}/_attempts.py",
        "the end of a backoff is not forgotten: the job is said to wait for its retry as it waits for a slot", """\
            job._ensure_extras().backoff_until = None
"""),
    Plant("clean-up-forever", f"{RUN}/_ending.py", "a forever job with `run_if='failed'` is a clean-up job, too",
        'job._options.run_if == "failed" and not job._options.forever and job._state',
        'job._options.run_if == "failed" and job._state'),
    Plant("gives-up-early", f"{JOB}/_job.py",
        "the throttles before a failure count for the time in which a job has only been throttled",
        "        self.throttled_since = None\n", ""),
    Plant("gives-up-again", f"{JOB}/_job.py",
        "the throttles before `try_again()` count for the time in which a job has only been throttled",
        "self.backoff_until = self.throttled_since = None", "self.backoff_until = None"),
    Plant("order-added", f"{RUN}/_start_order.py",
        "the first duration comes with jobs that are added, and the policy stays fifo",
        "        if order is not None and not (known and order.policy is not self._policies[True]):",
        "        if order is not None:"),
    Plant("added-consumer", f"{RUN}/_run.py", "a job that is added does not count as a consumer of its inputs",
        "            _requirement_counts.count_consumer(job)\n            self.notify(", "            self.notify("),
    plant("standstill-stale", f"{RUN}/_standstill.py",
        "a job starts, and the report of a wait for something outside comes all the same", """
         self._active_count += 1
-        if self._stop_timer is not None:
-            self.close()
"""),
    plant("stuck-lifted", f"{RUN}/_standstill.py",
        "a service that is ready is watched on, for the timeout that does not count any more", """
     def forget(self, worker: Worker) -> None:
-        worker.cancelled_at = math.inf
"""),
    Plant("service-added", f"{SCHEDULER}/_checks.py",
        "a service that waits for its start is not counted among what services need",
        "if job._state in (JobState.IDLE, JobState.SCHEDULED)]", "if job._state is JobState.IDLE]"),
    Plant("await-of-two-tasks", f"{SCHEDULER}/_awaiting.py",
        "the end of one wait of a body ends what is known of its other waits for the same job", """\
        remaining = list(extras.awaited_jobs)
        remaining.remove(job)
        extras.awaited_jobs = tuple(remaining)
""", "        extras.awaited_jobs = tuple(other for other in extras.awaited_jobs if other is not job)\n"),
    Plant("await-given-up", f"{SCHEDULER}/_awaiting.py",
        "a wait that is given up leaves its listener at the groups around the job", """\
        for watched in watched_jobs:
            if (listeners""", """\
        for watched in [job]:
            if (listeners"""),
    Plant("service-of-the-last-run", f"{SCHEDULER}/_checks.py",
        "a service that settled in the run before counts as if it needed nothing in the next",
        "if not (has_begun and service._state.is_settled):", "if not service._state.is_settled:"),
    Plant("implied-order-stays", f"{SCHEDULER}/_checks.py",
        "a group goes on waiting for another whose result none of its jobs uses any more", """\
        checked_members[level.owner] = level
        level.implied_requirements = {}
""", "        checked_members[level.owner] = level\n"),
    Plant("files-of-the-last-kind", f"{SCHEDULER}/_checks.py",
        "the files of a scenario are checked only if its last job may have some",
        'members.has_kinds |= hasattr(type(job), "for_journal")',
        'members.has_kinds = hasattr(type(job), "for_journal")'),
    Plant("open-extras", f"{JOB}/_job.py",
        "a settled job of an open scheduler forgets the fraction that it has reported",
        "or self.inner_waits) and self.fraction is self.ready_at is None",
        "or self.inner_waits) and self.ready_at is None"),
    Plant("thread-fraction", f"{RUN}/_worker.py",
        "a sign of life from a thread replaces the fraction that it has reported before",
        "self._latest_fractions.get(job) if fraction is None else fraction", "fraction"),
    plant("block-refusal", f"{SCHEDULER}/_async_with.py",
        "whether the run was ending is asked when the block has ended it", """
-was_ending = run is None or run.phase._is_ending
-        if run is not None:
+if run is not None:
             if error is not None:
                 run.stop(StopReason.CANCELLED)
+        was_ending = run is None or run.phase._is_ending
+        if run is not None:
"""),
    plant("unpark-cancelled", f"{ADMISSION}/_admission.py",
        "a job that is cancelled while it waits for a key does not wake those behind it", """
                 self.unpark(key, 0)
-                key.wake()
"""),
    plant("taken-not-dropped", f"{RUN}/_failure_counts.py",
        "a failure that was kept to be reported is awaited, and its job stays", """
-                run.drop(job)
+                pass
"""),
    Plant("adm-stale-entry", f"{ADMISSION}/_admission.py",
        "a group of equal needs is taken to stand where its first job stood, by the key instead of the number",
        "if first is not None and self.entry is not None and first[1] == self.entry[1]:",
        "if first is not None and self.entry is not None and first[0] == self.entry[0]:"),
    Plant("retry-cap-first", f"{JOB}/_retry.py", "the cap is applied before the factor",
        "backoff = min(self.first * self.factor ** (number - 1), self.cap)",
        "backoff = min(self.first, self.cap) * self.factor ** (number - 1)"),
    Plant("first-turn-competitor", f"{PARTS}/_first_rule.py",
        "a turn counts as begun only when its competitor starts, not with a job that this one needs",
        "job in self._turns and self._turns[job] is self._last_open", "job in self._turns and job is self._last_open"),
    Plant("first-drained", f"{PARTS}/_first_rule.py",
        "a First that has its result in a drain keeps the reason of the drain", """\
        self._run.fate.forget_drain()
"""),
    Plant("again-keeps-on", f"{RUN}/_steps.py",
        "a retry after try_again() keeps what had succeeded, as the run that try_again() begins", """\
    extras.keeps_succeeded = False
"""),
    Plant("clean-up-backoff", f"{RUN}/_ending.py",
        "the clean-up ends while one of its jobs waits for its next attempt",
        "while self.alive or self._backoff_until() < math.inf:", "while self.alive:"),
    Plant("counts-below-zero", f"{RUN}/_run_counts.py", "an end too many is not told", """\
        if self.unsettled < 0 or self.forever_unsettled < 0:
            raise self.fault(job)
"""),
    Plant("forever-only-now", f"{RUN}/_run_counts.py",
        "whether there have been ordinary jobs is forgotten as forever ones are added",
        "self.had_ordinary_jobs = self.had_ordinary_jobs or bool(ordinary)",
        "self.had_ordinary_jobs = bool(ordinary)"),
    Plant("budget-reported", f"{ADMISSION}/_pools.py",
        "what a job has reported as used comes back as it is throttled",
        "        if not share.is_reported:\n            self.free", "        if share.amount:\n            self.free"),
    Plant("rate-window-negative", f"{ADMISSION}/_rates.py", "used() puts back more than is in the window of a rate",
        "if amount := max(amount, -self._started.get(when, 0)):", "if amount:"),
    Plant("rate-bucket-early", f"{ADMISSION}/_rates.py",
        "what jobs have of a bucket that have not started accrues meanwhile",
        "        return max(self.full_at, now + float(self.unstarted_amount) * self.seconds_each)",
        "        return max(self.full_at, now)"),
    Plant("drain-retries", f"{RUN}/_attempts.py", "a job that fails in a drain is retried",
        "ends = (run.phase._is_ending and not worker.crew.is_clean_up)",
        "ends = run.crew.is_closed and not worker.crew.is_clean_up"),
    Plant("pause-around", f"{RUN}/_steering.py", "resume() of a group ends the pause around it",
        "run.line.set_paused(is_paused_around or run.scheduler in self.pauses)",
        "run.line.set_paused(run.scheduler in self.pauses or (is_paused_around and not run.line.is_paused))"),
    Plant("failures-uncounted-kept", f"{RUN}/_failure_counts.py",
        "a failure that counts no more is kept for the report, with its job", """\
            if self.keeps(job):
                self._kept.remove(job)
"""),
    Plant("adm-overtaken-apart", f"{ADMISSION}/_admission.py",
        "jobs of other runs count as overtaking, whatever they need",
        "                    if not other.resources.isdisjoint(group.resources):\n", """\
                    if other.places is not group.places or not other.resources.isdisjoint(group.resources):
"""),
    Plant("hold-released-for-good", f"{PARTS}/__init__.py", "a run that was let go on is not held again", """\
        self._is_released &= not run.waits_for_jobs()
"""),
    Plant("drain-cut-off", f"{RUN}/_steps.py", "failures in a group that a drain cuts off do not count",
        "is_cut_off = run.phase._is_ending and run.fate.cancel_reason is not _states.COMPLETED",
        "is_cut_off = run.phase is STOPPING and run.fate.cancel_reason is not _states.COMPLETED"),
    Plant("first-inherits-critical", f"{JOB}/_job.py", "the critical_jobs around a First reach into it",
        "while level is not None and level._critical_jobs is None and level._enough is None:",
        "while level is not None and level._critical_jobs is None:"),
    Plant("forever-once", f"{RUN}/_ending.py",
        "a forever job that goes on after its cancellation is not cancelled again",
        "_forever_workers(run), repeat_at=run.deadline_in(run.scheduler.shutdown_timeout))", "_forever_workers(run))"),
    plant("retry-first-start", f"{RUN}/_steps.py", "the first start is that of the attempt before the last", """
-        if extras.first_started_at is None:
-            extras.first_started_at = began
+        extras.first_started_at = began
"""),
    Plant("drain-backoffs-order", f"{RUN}/_attempts.py",
        "what waits in backoffs as a run ends settles in the order of a heap",
        "for until, _, job in sorted(self._heap) if", "for until, _, job in self._heap if"),
    Plant("adm-member-throttle", f"{ADMISSION}/_resource.py",
        "a throttle inside a scheduler with needs does not hold outside", """\
        resource.cooldown, resource.clock = self.cooldown, self.clock
        return resource

    def public_total""", """\
        resource.clock = self.clock
        return resource

    def public_total"""),
    Plant("throttled-last-budget", f"{RUN}/_steps.py",
        "a throttled attempt, after which there is none, uses up what it had reserved of a budget", """\
        if state is not JobState.FAILED:
            # The attempt does not count, whether there is another or not.
            job._grant().refund_budgets()""", """\
        if state is SCHEDULED:
            job._grant().refund_budgets()"""),
    Plant("first-turn-again", f"{PARTS}/_first_rule.py", "each attempt of a call puts off the next turn",
        "if self._turn_started_at is None and job in self._turns and", "if job in self._turns and"),
    Plant("clean-up-group-paused", f"{RUN}/_steering.py",
        "a group that cleans up is paused with the run whose clean-up it is", "run.outer_worker.crew.line.is_paused",
        "run.outer_worker.run.line.is_paused"),
    Plant("again-ready-service", f"{RUN}/_reopening.py",
        "a service that was ready has no users when it is tried again",
        "if not run.scheduler.keep_jobs or (extras is not None and extras.ready_at is not None):",
        "if not run.scheduler.keep_jobs:"),
    Plant("anew-line", f"{RUN}/_reopening.py",
        "a job that waits in the line starts with the result that is taken back",
        "            if user._state is SCHEDULED:\n                run.line",
        "            if user._state is None:\n                run.line"),
    Plant("anew-open-count", f"{RUN}/_reopening.py",
        "a job that leaves the line does not wait for a failure that was tried again meanwhile",
        "        for job in waiting:\n            job._pending = count_open(run, job)\n",
        "        for job in waiting:\n"
        "            job._pending = sum(one in held for one in run.members.all_requirements(job))\n"),
    Plant("anew-mark", f"{JOB}/_job.py", "what is about to run anew holds nothing back until it is put back", """\
        if self._extras is not None and self._extras.repeats is not None:
            return True
"""),
    Plant("anew-journal", f"{RUN}/_reopening.py", "the next run restores a success that was taken back",
        "            self._run.journal_writer.discard(jobs)\n", "            pass\n"),
    Plant("anew-kept-links", f"{RUN}/_requirement_counts.py",
        "a member that its group has kept is linked to nothing as it runs again",
        "                link(job, members.all_requirements(job))\n", "                pass\n"),
    plant("journal-adds-elsewhere", f"{RUN}/_journaling.py",
        "a job that adds jobs to a run of its own with a journal is not recorded", """
-        if worker is not None and worker.job is not None and worker.run.outermost() is self._outermost._run:
+        if worker is not None and worker.job is not None:
"""),
    Plant("tokens-throttled-order", f"{ADMISSION}/_line.py",
        "a throttled job that waits for a token is behind others in a new order",
        "self.waiting[job] = (self.line.key_of(job, number), number, job)",
        "self.waiting[job] = (self.line.order.key(job), number, job)"),
    Plant("tokens-resumed-priority", f"{ADMISSION}/_line.py",
        "after a pause, runs ask for tokens in the order in which their jobs became ready, whatever their priorities",
        "(-one[2]._options.priority, one[1], one, each)", "(0, one[1], one, each)"),
    Plant("key-member-throttle", f"{ADMISSION}/_keys.py",
        "a throttle of a key inside a scheduler with needs does not hold outside",
        "            self.cooldown = family.outer_key.cooldown\n", "            pass\n"),
    Plant("end-unreached-shutdown", f"{RUN}/_ending.py",
        "a group that is never reached shuts down within the time of the run around it",
        "_jobs_with_shutdown(nested), nested.shutdown_timeout)",
        "_jobs_with_shutdown(nested), run.scheduler.shutdown_timeout)"),
    Plant("await-between-attempts", f"{RUN}/_ending.py",
        "a job that the next attempt of its group may reach is not waited for while the last one ends",
        "member) or (run.fate.reason is not StopReason.DRAINED and any(retries))", "member)"),
    Plant("failures-kept-critical", f"{RUN}/_failure_counts.py",
        "a critical failure after many others is dropped with keep_jobs=False",
        "and (job._criticality() or self._count_kept(is_blocked) < MAX_COUNTED_KEPT):",
        "and self._count_kept(is_blocked) < MAX_COUNTED_KEPT:"),
    Plant("key-clock", f"{ADMISSION}/_keys.py", "the pauses of keys keep the times of the loop before",
        "        self.rest_ends.extend([self.rest_ends.popleft() + shift for _ in range(len(self.rest_ends))])\n"),
    Plant("rate-window-clock", f"{ADMISSION}/_rates.py",
        "what has started in the window of a rate keeps the times of the loop before",
        "        self._started = OrderedDict((when + seconds, amount) for when, amount in self._started.items())\n"),
    Plant("again-forever-alone", f"{RUN}/_requirement_counts.py",
        "a group of which only a forever job is tried again does not know that it had other jobs, and goes on for ever",
        "                run.counts.expect_ordinary_jobs()\n", "                pass\n"),
    Plant("window-one-more", f"{ADMISSION}/_line.py", "a window that shrinks by one takes nothing back",
        "(self.is_paused or len(self.holders) > size)", "(self.is_paused or len(self.holders) > size + 1)"),
    Plant("failures-critical-awaited", f"{RUN}/_failure_counts.py",
        "a critical failure that a clean-up job awaits does not count any more",
        "        if failure.is_counted and not job._criticality():", "        if failure.is_counted:"),
    Plant("services-direct", f"{RUN}/_ending.py",
        "a service that uses another one through plain jobs is not ended before it",
        "max((levels[requirement] for requirement in requirements(job)), default=0)",
        "max((levels[requirement] for requirement in requirements(job) if requirement in by_service), default=0)"),
    Plant("again-service-kept", f"{SCHEDULER}/_members.py",
        "a group that is tried again keeps a service that was ready, and runs without it",
        "again = {job: None for job in self.jobs if job._state is not SUCCEEDED or job._options.forever}",
        "again = {job: None for job in self.jobs if job._state is not SUCCEEDED}"),
    Plant("explain-first-throttle", f"{WORDS}/_explain.py",
        "explain of a job in its second throttle looks at the first one",
        "        last = _job_queries.throttled_attempts(job)[-1:]\n        for name in",
        "        last = _job_queries.throttled_attempts(job)[:1]\n        for name in"),
    Plant("settle-inner-end", f"{RUN}/_steps.py",
        "the end of another job within a hook lets the hook try again, at once, what is still settling",
        "            ends.depth -= 1\n        extras = job._extras\n",
        "            ends.depth = 0\n        extras = job._extras\n"),
    Plant("files-partial-changed", f"{JOBS}/_user_files.py",
        "what others have done to what a job has set aside is removed by its next failure",
        "if free in made and take_snapshot(free) == made[free]:", "if free in made:"),
    Plant("reload-new-names", f"{LOOK}/_reload.py",
        "of new statements of which one raises, the names before it stay, and the next reload binds them again",
        "            undoing.callback(namespace.pop, name, None)\n"),
    Plant("page-told-anew", f"{LOOK}/_console.py",
        "a page that is told all anew keeps the questions that it knew by the old keys of the jobs",
        "for known in (self.runs, self.jobs, self.replaced, self.incidents, self.questions):",
        "for known in (self.runs, self.jobs, self.replaced, self.incidents):"),
    plant("answer-given-kept", f"{JOBS}/_answer.py",
        "an answer of the program that a journal had restored answers the next run, too, which asks nothing", """
         if self._given is NOTHING or is_among(self._given, (value,)):
-            self._given = NOTHING
             return None
"""),
    Plant("retry-group-twice", "trioflow/_core/words/_run_view.py",
        "of two jobs in a group that has ended, the second tries the group again, which runs already",
        "        wanted.setdefault(member_of_run(job), []).append(job)\n",
        "        wanted.setdefault(job, []).append(job)\n"),
    Plant("page-late-answer", "trioflow/view/trace/report/live.js",
        "an answer about the job that was chosen before comes late, and is shown in the panel of another job",
        "    if (chosen !== key || job.key !== key) return;\n", "    if (job.key !== key) return;\n"),
    Plant("stop-timeout-culprit", f"{RUN}/_run.py",
        "a critical failure after the deadline, while the loop was blocked, is the culprit of the timeout",
        "                reason = _states.TIMEOUT\n                culprit = None\n",
        "                reason = _states.TIMEOUT\n"),
    Plant("cancelled-before-linking", f"{RUN}/_run.py",
        "a job that was cancelled alone before its run knew it passes for one that a stop has cancelled",
        "self.settle_apart(early, cause=CancelCause.JOB)", "self.settle_apart(early)"),
    Plant("early-words-kept", f"{SCHEDULER}/_life.py",
        "what was said of a run that is refused as it begins is said of the next one",
        "    scheduler._early_calls.clear()\n"),
    Plant("drop-settled-parked", f"{ADMISSION}/_admission.py",
        "a job that was cancelled amid those that wait for its key, and is tried again, has two places",
        "            heaps += [group.heap, *group.parked.values()]\n", "            heaps.append(group.heap)\n"),
    Plant("appended-same-size", f"{JOURNAL}/_file_stamps.py",
        "a log that was changed in place, and has not grown, passes for one to which others have added",
        "os.path.getsize(path) > int(size)", "os.path.getsize(path) >= int(size)"),
    Plant("aside-link", f"{JOBS}/_user_files.py",
        "a link of others that led nowhere is set aside with the new file to which it leads since",
        "if link != place and place not in before and not os.path.islink(link):",
        "if link != place and place not in before:"),
    Plant("pyexpool-workers-taken", "trioflow/compat/pyexpool/_batch.py",
        "the workers of a pool pass for taken for good, so that execute() does not wait for the start of a job",
        "        self._concurrent_count -= run.is_concurrent\n"),
    Plant("only-rewrites-record", f"{JOURNAL}/_journal.py",
        "a run of some jobs takes from the records of those that it restores what they require and it leaves out",
        "if record.fingerprint != fingerprint and not has_cut_requirements(job):",
        "if record.fingerprint != fingerprint:"),
    plant("dropped-failures-of-groups", f"{WORDS}/_failures.py",
        "failures that a group has dropped are missing in the number of the rest", """
             jobs += job._counted_failures.jobs
-            rest += job._counted_failures.rest
"""),
    plant("look-answer-secret", f"{LOOK}/_steering.py", "the log has the answer to a redacted question", """
-answered" + ("" if asking.redact else f" {short_repr(text)}")
+answered" + f" {short_repr(text)}"
"""),
    plant("junit-flaky-kind", "trioflow/view/_junit.py",
        "the errors of attempts of a job that failed in the end are called flaky", """
-        element = "flakyFailure" if span.state is JobState.SUCCEEDED else "rerunFailure"
+        element = "flakyFailure"
"""),
    Plant("junit-errors-twice", "trioflow/view/_junit.py", "the error of the run is a case of each suite", """\
        # The suite of the outermost scheduler comes first.
        errors = []
"""),
    Plant("traceback-of-members", "trioflow/view/text/_failure_text.py",
        "the members of an exception group have no frames", """\
        related += zip(exception.exceptions or (), getattr(found, "exceptions", ()), strict=False)
"""),
    plant("events-backoff", "trioflow/view/events/_events.py", "a job in its backoff counts as one that runs, too", """
         self._waiting_jobs[job] = _PolledJob(path, None)
-        self._running_jobs.pop(job, None)
"""),
    Plant("journal-in-pattern", f"{JOURNAL}/_file_stamps.py",
        "a pattern that matches the journal's files counts them",
        "            if not (is_left_out(real) or real.startswith(inside))\n",
        "            if not (real in map(os.path.realpath, own or ()) or real.startswith(inside))\n"),
    plant("answer-refusal-left", f"{JOURNAL}/_questions.py",
        "the refusal of a question that has been answered stays", """
-                self._files.remove(path, "taken", "answer", "refused")
+                self._files.remove(path, "taken", "answer")
"""),
    Plant("answer-label", "trioflow/cli/_answer.py", "a label stands for the path of the only question that is left",
        "matches[0] if len(matches) == 1 and matches[0].is_sole else None",
        "matches[0] if len(matches) == 1 else None"),
    plant("answer-after-parse", f"{JOBS}/_answer.py",
        "an answer is not compared with the open question after parse", """
         with ANSWERING:
-            self._check_is_open(question)
"""),
    plant("exit-code-of-signal", "trioflow/cli/_run.py",
        "a file that cannot be written hides that a signal ended the run", """
-    return code if succeeded or code == on_signal.exit_code else STOPPED_CODE
+    return code if succeeded else STOPPED_CODE
"""),
    plant("ssh-pull-hides", "trioflow/cli/_node_runner.py", "a pull that fails hides how the command has failed", """
-            elif error is not None and not outcome.is_failure:
+            elif error is not None:
"""),
    plant("files-input", "trioflow/_check.py", "a file that a command reads as its input is no file that it reads", """
-    read = [options.stdin, *(path for step in steps for path in step._files_read())]
+    read = [path for step in steps for path in step._files_read()]
"""),
    plant("files-read-spelling", f"{JOBS}/_user_files.py",
        "a file that the job also reads is known by its spelling only", """
-    if place in {os.path.realpath(read) for read in job.reads}:
+    if path in job.reads:
"""),
    plant("failures-first-cause", f"{WORDS}/_failures.py",
        "check='first' hides the cause of the exception that it raises", """
-            raise errors[0]
+            raise errors[0] from None
         finally:
"""),
    Plant("incidents-kept", f"{SCHEDULER}/_base_scheduler.py", "the incidents of a run are among those of the next",
        """\
        self._incidents = []
        self._members.forget_dropped()""", """\
        self._incidents = getattr(self, '_incidents', [])
        self._members.forget_dropped()"""),
    Plant("idle-ready", f"{PARTS}/__init__.py",
        "a service that becomes ready is no sign of life of the schedulers around it",
        "job_added = job_scheduled = job_attempt = service_ready = job_settled = _renew",
        "job_added = job_scheduled = job_attempt = job_settled = _renew"),
    plant("service-told-late", f"{RUN}/_steps.py",
        "instruments hear that a service is ready after they have heard of the jobs that waited for it", """
-    with run.ends:
-        run.notify("service_ready", job)
     if successors is not None:
         run.requirement_counts.count_down(successors)
+    run.notify("service_ready", job)
"""),
    Plant("window-thread", f"{SCHEDULER}/_life.py",
        "another thread changes the number of slots in the midst of a step of the run",
        '"jobs_window=": Word(     (ACTS,    REFUSES, HERE,    HERE, ',
        '"jobs_window=": Word(     (ACTS,    REFUSES, ACTS,    ACTS, '),
    Plant("added-nested-needs", f"{SCHEDULER}/_checks.py",
        "the needs of the jobs in a group that is added to one that has not begun are not checked", """\
        to_check += with_members(job)
    if any""", """\
        to_check.append(job)
    if any"""),
    Plant("added-one-shot", f"{SCHEDULER}/_checks.py",
        "a job of a coroutine object that would be retried is accepted during a run", """\
        check_one_shot(job, may_repeat=False)
        if is_scheduler(job):""", "        if is_scheduler(job):"),
    Plant("drain-unreached", f"{RUN}/_steering.py",
        "a job that awaits what a drain does not reach keeps the drain from its end", """\
            each.scheduler._notify_unreached()
            each.wake()""", "            each.wake()"),
    Plant("simulation-cap", "trioflow/simulation/_scenario_copy.py",
        "the backoffs of a simulation grow beyond their cap", "factor=retry.factor, cap=retry.cap, jitter=False",
        "factor=retry.factor, jitter=False"),
    Plant("simulation-limiter", "trioflow/simulation/_scenario_copy.py",
        "two groups that share a limiter have one each in a simulation",
        "return self._limiter_copies_by_id.setdefault(id(window), copy)", "return copy"),
    Plant("rate-repr", f"{ADMISSION}/_rates.py", "the repr of a Rate leaves out that it never gives up",
        'give_up = "" if self._give_up == DEFAULT_GIVE_UP else',
        'give_up = "" if self._give_up in (None, DEFAULT_GIVE_UP) else'),
    Plant("passed-by-what-is-certain", f"{RUN}/_requirement_counts.py",
        "a job that certainly runs passes one that the same end has made ready before, and whose rule must be asked",
        """\
                queued
                or self.is_undecided""", "                self.is_undecided"),
    Plant("context-tried-again", f"{RUN}/_steps.py",
        "a job that has failed is tried again without the variables of the code that added it", """\
        if state not in REOPENABLE:
            extras.context = None
        extras.notify""", """\
        extras.context = None
        extras.notify"""),
    Plant("first-need-comes-late", f"{RUN}/_start_order.py",
        "the first job with needs is added to a run that has an order already, and takes nothing", """\
            if has_needs:
                self._run.line.use_order(order, has_needs)
            return""", "            return"),
    Plant("cancel-twice-in-a-drain", f"{RUN}/_run.py",
        "the reason of the run is compared, which stays DRAINED, and not what has cancelled its jobs",
        "        if self.fate.cancel_reason is not reason:", "        if self.fate.reason is not reason:"),
    Plant("interruption-in-shutdown", f"{RUN}/_ending.py",
        "an error of one co_shutdown replaces the interruption that another has raised before",
        "        run.interruption = run.interruption or find_interruption(failure)",
        "        run.interruption = find_interruption(failure)"),
    Plant("two-throttles-in-clean-up", f"{RUN}/_steps.py",
        "a clean-up job that two resources throttle waits for the last one named, not for the later one",
        "until = max(ends_at for _, ends_at in closed)", "until = closed[-1][1]"),
    Plant("first-turn-began", f"{PARTS}/_first_rule.py", "the third turn of a First counts from the start in the first",
        "        self._turn_started_at = None\n        self._hold(", "        self._hold("),
    Plant("key-wakes-one-group", f"{ADMISSION}/_keys.py",
        "a free key wakes the jobs of one kind, which may lack something else",
        "            for group in list(self.parked):\n                group.unpark(self)\n",
        "            next(iter(self.parked)).unpark(self)\n"),
    Plant("key-time-awaited-again", f"{ADMISSION}/_admission.py",
        "a key whose only waiting job was cancelled is not awaited again",
        "            heapq.heappop(self.timed_keys)[2].timed_at = math.inf\n        if self",
        "            heapq.heappop(self.timed_keys)\n        if self"),
    Plant("merge-kinds", f"{ADMISSION}/_admission.py",
        "where two pools come together, the kinds of waiting jobs of one are forgotten",
        "        self.group_counts.update(other.group_counts)\n"),
    plant("adaptive-overload-once", ADAPTIVE, "each of many jobs that fail together shrinks an adaptive window", """
-        if started_at >= self._shrunk_at:
-            self._shrink(BACKOFF_FACTOR, now)
+        self._shrink(BACKOFF_FACTOR, now)
"""),
    Plant("places-slotless-first", f"{ADMISSION}/_admission.py",
        "a forever job starts before the jobs of a higher priority",
        "if slotless and not (heap and heap[0] < slotless[0] and not line.is_full()):", "if slotless:"),
    Plant("early-cancel-kept", f"{RUN}/_run.py",
        "jobs that were cancelled before the first run of a group are cancelled in its second one, too",
        "self.steering.cancelled_early.pop(self.scheduler, None)",
        "self.steering.cancelled_early.get(self.scheduler, None)"),
    Plant("early-cancel-second", f"{RUN}/_steps.py", "the second job that is cancelled before a run replaces the first",
        "run.steering.cancelled_early.setdefault(scheduler, []).append(job)",
        "run.steering.cancelled_early[scheduler] = [job]"),
    Plant("key-beyond-limit", f"{ADMISSION}/_keys.py",
        "the first gap that is over frees a key of which a clean-up job has taken more than there is",
        "list(self.rest_ends)[int(need - self.free) - 1 :]", "list(self.rest_ends)"),
    Plant("rate-full-early", f"{ADMISSION}/_rates.py",
        "a key of which one job puts back its amount is forgotten while that of another counts",
        "self.full_at = max(self.full_at, when + self._period)", "self.full_at = when + self._period"),
    Plant("pool-clock-first", f"{ADMISSION}/_pools.py", "the first user of a pool that leaves takes the clock with it",
        "        if not self._users:\n            left_at", "        if True:\n            left_at"),
    Plant("backoff-of-before", f"{RUN}/_attempts.py", "the end of a backoff that was cancelled ends the next one",
        "job._extras.backoff_until == until", "job._extras.backoff_until is not None"),
    Plant("tokens-drained", f"{ADMISSION}/_line.py", "the tickets of a group that waits no longer are served",
        "        for ticket in self._tickets:\n            ticket[0] = None\n        self._tickets.clear()\n",
        "        self._tickets.clear()\n"),
    Plant("first-turns-together", f"{PARTS}/_first_rule.py", "of several turns that are due, one opens",
        "        while self._stagger is not None and self._closed_turns:\n",
        "        for _ in range(self._stagger is not None and bool(self._closed_turns)):\n"),
    Plant("await-anew", f"{SCHEDULER}/_awaiting.py",
        "who awaits a job that is tried again as its cancellation is told is given its state of that moment",
        "            await wait_settled(scheduler, job, takes_failure)\n", "            return\n"),
    Plant("stuck-second-call", f"{RUN}/_standstill.py",
        "the second call of a worker, with an earlier deadline than the first, is not watched in time",
        "if worker not in self.watched or end + STUCK_REPORT_DELAY < self.due:", "if worker not in self.watched:"),
    Plant("gives-up-all", f"{RUN}/_run_pools.py", "a job goes on until each of the rates that throttle it gives up",
        "return any(started_at - since >= limit", "return all(started_at - since >= limit"),
    Plant("page-incidents-anew", f"{LOOK}/_console.py", "a page that is told all anew has the incidents twice",
        "for known in (self.runs, self.jobs, self.replaced, self.incidents, self.questions):",
        "for known in (self.runs, self.jobs, self.replaced, self.questions):"),
    Plant("page-first-in-first", f"{LOOK}/_console.py", "a First in a group of a First counts for the outer one",
        "firsts[index] = firsts.get(outer, parent)", "firsts[index] = parent"),
    Plant("page-failed-rows", f"{LOOK}/_console.py", "the rows of failures are counted for the failures",
        '"failed_count": sum(map(len, groups)),', '"failed_count": len(groups),'),
    Plant("page-expected-first", f"{LOOK}/_answers.py", "of two pages that wait for a run, the first gets it",
        "in list(expected.items()):", "in list(expected.items())[:1]:"),
    Plant("reload-first-run", f"{LOOK}/_reload.py", "a reload is in the log of the first run alone",
        "for run in runs_in_progress():", "for run in runs_in_progress()[:1]:"),
    Plant("tally-groups-of-part", "trioflow/view/text/_verdict.py",
        "a group that has failed, and is dropped with the first try of the group around it, counts",
        "        self.failed_groups -= part.failed_groups\n"),
    Plant("waits-released", "trioflow/view/trace/_spans.py", "one job is said to have ended all waits for a cause",
        "is_known = not others and wait.released_by is not None", "is_known = wait.released_by is not None"),
    Plant("events-first-wait", "trioflow/view/events/_events.py", "of the waits of a job, the first is told",
        "wait != polled.last_written_values and job in self._waiting_jobs",
        "polled.last_written_values is None and job in self._waiting_jobs"),
    Plant("otel-backoff-running", "trioflow/otel.py", "a job that ends in its backoff is counted down twice",
        "self._running.add(0 if is_waiting else -1)", "self._running.add(-1)"),
    Plant("batch-own-files", "trioflow/batch/_record_files.py", "the second try of a command sets its own files aside",
        "if sequence not in self._saved and (moved :=", "if (moved :="),
    Plant("batch-third-equal", "trioflow/batch/_batch.py", "the third of equal commands has the name of the second",
        'else f"{line}#{number}"', 'else f"{line}#2"'),
    Plant("answer-number", f"{JOURNAL}/_questions.py", "the number of a question that was answered is not compared",
        " or answer.number not in (None, self.number):", ":"),
    Plant("question-third", f"{JOURNAL}/_questions.py", "the third question of a job has the number of the second",
        "number=earlier.number + (not is_same)", "number=1 + (not is_same)"),
    Plant("restored-has-begun", f"{JOURNAL}/_journal.py", "what is restored after a kill passes for killed later",
        "asked.running.work is not None and asked.running.work.writes:", "False:"),
    Plant("nodes-told", f"{JOBS}/ssh/_connections.py", "each job that is retried connects to its node by itself",
        "        self._told.clear()\n"),
    Plant("nodes-gateway-first", f"{JOBS}/ssh/_connections.py", "a gateway is closed before what is behind it",
        "for is_gateway in (False, True):", "for is_gateway in (True, False):"),
    Plant("workers-named-each", f"{JOBS}/process/_worker_pool.py", "each worker with another text is named",
        "                reported.add(file)\n"),
    Plant("run-shared-successors", f"{RUN}/_steps.py", "a job that a hook adds as another fails is counted down twice",
        "job._successors = [*successors] if isinstance(successors, list) else successors",
        "job._successors = successors"),
    Plant("page-report-so-far", f"{LOOK}/_page.py", "a report that is saved in mid-run passes for the end",
        "            if page.has_ended:\n", "            if True:\n"),
)  # fmt: skip
