"""The changes of a run since a looking process asked last: the facts for its `TraceRecord`.

A job is described when its state or its attempt has changed, so that an answer takes time in proportion to the changes,
and some nanoseconds for each job that has not settled. Nothing is recorded between two answers, but a scheduler with
`keep_jobs=False` keeps the last jobs that it has dropped. An earlier run of a nested scheduler that runs again is
forgotten.
"""

from __future__ import annotations

import functools
import itertools
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from ..._core.base._states import JobState, RunPhase
from ..._core.base._text_forms import short_repr
from ..._core.job._errors import DROPPED
from ..._core.job._job import AnyJob, is_scheduler, state_of
from ..._core.job._labels import escape_label, paths_of, unescape_path
from ..._core.run._run import Incident
from ..._core.scheduler._base_scheduler import BaseScheduler
from ..._core.scheduler._members import collect_dropped, stop_collecting
from ..._core.words import _job_queries, _run_view
from ..._core.words._outcome import PLAIN_OUTCOME, Outcome
from ..._core.words._run_view import (
    RunInProgress,
    current_run,
    last_run,
    run_steering,
    run_times,
    slots_in_use,
)
from .._estimate import Estimate
from .._print_ends import end_of_prints
from ..text._verdict import Tally
from ..trace import _event_log
from ..trace._record_builder import RunFacts
from ..trace._trace import find_critical_path
from ..trace._trace_file import to_plain
from ..trace._trace_record import MAX_BOXES, describe_graph
from ._process_record import (
    Record,
    describe_place,
    describe_progress,
    describe_resources,
    group_waits,
)

ENCODE: Final = json.JSONEncoder(default=str, separators=(",", ":")).encode
MAX_EXPLAINED: Final = 200
"""The maximum number of SCHEDULED jobs in an answer whose waits are told apart. The others are only counted."""
MAX_DROPPED: Final = 200
"""How many of the jobs that a scheduler has dropped since the last answer are told: each takes 90 microseconds."""
MAX_GROUPS: Final = 12
MAX_TOLD: Final = 1000
"""The number of jobs that an answer describes. More are in the next answer, so that none takes longer than 0.1 s."""
MAX_TAIL: Final = 4000
"""The number of bytes at the end of the output of a running command that are told of the job that somebody looks at."""
Told = tuple[JobState | None, int, int]
"""The state, the attempt, and the number of requirements of a job that were told. See `UNTOLD`."""
UNTOLD: Final[Told] = (None, 0, 0)
"""All of the job has to be told anew."""
Step = tuple[int, str, float | None, float | None]
"""The key of a job, its new state, when it started, and when it settled."""


class Watch:
    """The state of knowledge of a looking process about a run. A later run of its scheduler needs another."""

    def __init__(self, in_progress: RunInProgress) -> None:
        self.in_progress: Final = in_progress
        self.identity: Final = secrets.token_hex(8)
        """The run that the keys of jobs belong to. Who steers names it, to meet no run that was not seen."""
        # Guards `answer`. The end of the program does not take it.
        self.lock: Final = threading.Lock()
        self.has_more = False
        """Whether there is more to tell than the last answer has."""
        self.number = 0
        self.is_over = False
        """Whether the last answer has told the end of the run."""
        self.asked_at = time.monotonic()
        self._scheduler: Final = in_progress.scheduler
        self._view = in_progress.view
        self._wall_offset: Final = time.time() - self._view.clock()
        self._runs: Final[list[_event_log.LiveRun]] = []
        self._jobs: Final[dict[AnyJob, _event_log.LiveJob]] = {}
        self._unsettled: Final[dict[AnyJob, Told]] = {}
        self._paths: Final[dict[AnyJob, str]] = {}
        self._owners: Final[dict[object, int]] = {}
        self._keys: Final[dict[str, dict[str, str]]] = {}
        # The jobs that may have changed since they were told.
        self._changed_runs: Final[dict[int, None]] = {}
        self._dropped: Final[dict[BaseScheduler, deque[AnyJob]]] = {}
        self._last_incidents: Final[dict[BaseScheduler, Incident]] = {}
        # For each run, how many jobs had been put back when the settled ones were compared last.
        self._reopened_counts: list[int] = []
        # The jobs that may ask a person.
        self._asking: Final[dict[AnyJob, None]] = {}
        self._new_keys: Final = itertools.count()
        self._estimate: Final = Estimate(self._scheduler)
        self._add_run(self._scheduler, None)

    def close(self) -> None:
        """Let the schedulers keep no jobs for this looking process any more."""
        # Another thread may be answering.
        for scheduler, dropped in self._dropped.copy().items():
            stop_collecting(scheduler, dropped)

    def answer(self) -> Record:
        """Return the changes since the last answer."""
        view = current_run(self._scheduler)
        if view is not None:
            self._view = view
        found_dropped = list[tuple[deque[AnyJob], AnyJob]]()
        for dropped in self._dropped.values():
            found_dropped += [(dropped, job) for job in dropped.copy()]
        # The loop appends the runs of nested schedulers.
        for index, run in enumerate(self._runs):
            self._update_run(index, run)
        incidents = list[tuple[int, Incident]]()
        reopened_counts = list[int]()
        for index, run in enumerate(self._runs):
            incidents += [(index, new) for new in self._new_incidents(run.scheduler)]
            reopened_counts.append(_run_view.reopened_count(run.scheduler))
        if reopened_counts != self._reopened_counts:
            for job, live in self._jobs.items():
                if job in self._unsettled:
                    continue
                if (live.state, live.finished_at) != (job.state, job.finished_at):
                    self._unsettled[job] = UNTOLD
        told, steps, jobs, has_more = self._describe_changed_jobs()
        # For a run in progress: the looking process shows its text.
        is_last = view is not None and not has_more
        waiting = list[Any]()
        unexplained = 0
        windows = list[Any]()
        questions = list[Any]()
        if is_last:
            waiting, unexplained = self._describe_waiting()
            windows += self._describe_windows()
            questions += self._describe_questions()
        is_over = view is None and not has_more
        graphs = None
        # Without `keep_jobs`, a graph would show some of the jobs.
        if is_over and self._scheduler.keep_jobs:
            critical_path: dict[AnyJob, AnyJob | None] = {}
            if len(self._jobs) <= MAX_BOXES:
                critical_path = find_critical_path(self._scheduler)
            graphs = [to_plain(describe_graph(self._scheduler, critical_path))]
        keeps_jobs = all(run.scheduler.keep_jobs for run in self._runs)
        # Of all jobs, also of those dropped.
        counts = None
        if not keeps_jobs:
            tally = Tally.for_scheduler(self._scheduler)
            counts = tally.counts_by_state(), tally.may_grow, tally.failed_groups
        now = self._runs[0].ended_at
        if now is None:
            now = self._view.clock()
        host = None
        if self.number == 0:
            host = to_plain(_event_log.host_facts())
        resources = list[Record]()
        if not has_more:
            schedulers = (run.scheduler for run in self._runs)
            resources += describe_resources(schedulers, self._paths)
        answer: Record = {
            "number": self.number + 1,
            "seen": self.identity,
            "began": self.in_progress.began_at,
            "more": has_more,
            "is_over": is_over,
            "now": now,
            "wall_offset": self._wall_offset,
            "host": host,
            "runs": {index: self._describe_run(index) for index in self._changed_runs},
            "jobs": jobs,
            "steps": steps,
            "incidents": [self._describe_incident(*new) for new in incidents],
            "questions": questions,
            **describe_progress(self._view, self._estimate),
            "windows": windows,
            "keeps_jobs": keeps_jobs,
            "waiting": waiting,
            "unexplained": unexplained,
            "resources": resources,
            "tally": counts,
            "graphs": graphs,
        }
        # Nothing of this is kept before all of it could be read, because the run goes on meanwhile.
        self._reopened_counts = reopened_counts
        self._changed_runs.clear()
        self._unsettled.update(told)
        for job, (state, _, _) in told.items():
            if state is not None and state.is_settled:
                del self._unsettled[job]
        for dropped, job in found_dropped:
            if dropped and dropped[0] is job and job not in self._unsettled:
                # The loop appends others meanwhile.
                dropped.popleft()
        self._last_incidents.update(
            (self._runs[index].scheduler, new) for index, new in incidents
        )
        self.number += 1
        self.is_over = is_over
        self.has_more = has_more
        return answer

    def _add_run(
        self, scheduler: BaseScheduler, enclosing: _event_log.LiveRun | None
    ) -> None:
        view = self._view
        is_root = enclosing is None
        window = view.window if is_root else scheduler.window_size
        has_limiter = is_root and view.tokens_taken is not None
        start = _event_log.RunStart(
            view.clock,
            self._wall_offset,
            window,
            has_limiter,
            scheduler.pool,
            view.backend,
        )
        self._changed_runs[len(self._runs)] = None
        self._runs.append(
            _event_log.LiveRun(scheduler, enclosing, 0, start, is_for_all_runs=True)
        )

    def _update_run(self, index: int, run: _event_log.LiveRun) -> None:
        """Take over the times and the members of a run. If it has begun since, all of its jobs have changed."""
        scheduler = run.scheduler
        began, ended_at = run_times(scheduler) or (None, None)
        is_news = ended_at != run.ended_at
        run.ended_at = ended_at
        view: _run_view.RunView | None = self._view
        if index != 0:
            view = current_run(scheduler)
        identity = None
        if began is not None:
            identity = last_run(scheduler)
        is_same = identity is run.identity
        has_same_jobs = len(scheduler) == len(run.jobs)
        is_over = view is None and not is_news
        if is_over and is_same and has_same_jobs:
            return
        self._changed_runs[index] = None
        if not is_same:
            keeps_succeeded = _job_queries.keeps_succeeded(scheduler)
            run.is_continued = keeps_succeeded and run.number > 0
            # While a run is checked, the jobs are as an earlier run has left them. While its instruments are told, its
            # begin is not final yet.
            if view is None or view.phase not in (RunPhase.CHECKING, RunPhase.LINKING):
                run.identity = identity
                if identity is not None and not run.is_continued:
                    run.number += 1
                    for each in self._runs:
                        if each.enclosing is run:
                            each.number = 0
            if keeps_succeeded:
                for live in run.jobs.values():
                    if (
                        live.finished_at is not None
                        and live.finished_at != live.job.finished_at
                    ):
                        live.reopen()
            self._unsettled.update(dict.fromkeys(run.jobs, UNTOLD))
        if not run.is_continued:
            run.started_at = began
        if run.ended_at is not None:
            run.stop_reason = scheduler.stop_reason
            run.culprit = scheduler.culprit
        run.steer(run_steering(scheduler))
        present = list[AnyJob]()
        if not scheduler.keep_jobs:
            dropped = self._dropped.setdefault(scheduler, deque(maxlen=MAX_DROPPED))
            collect_dropped(scheduler, dropped)
            present += dropped.copy()
        if not scheduler.keep_jobs or not has_same_jobs:
            present += scheduler
        new = list[Any]()
        for job in present:
            is_new = job not in run.jobs
            if is_new and _job_queries.counted_state(scheduler, job) is not None:
                new.append(job)
        if not scheduler.keep_jobs:
            for job in run.jobs.keys() - self._unsettled.keys() - {*present}:
                del run.jobs[job], self._jobs[job], self._paths[job]
                self._asking.pop(job, None)
        if any(job not in self._paths for job in new):
            self._paths.update(paths_of(self._scheduler))
        prefix = ""
        if index:
            prefix = f"{self._paths[scheduler]}/"
        for job in new:
            self._paths.setdefault(job, prefix + escape_label(job.label))
            if _job_queries.all_counts(scheduler):
                key = job.sequence
            else:
                key = next(self._new_keys)
            live = _event_log.LiveJob(key, job, run_index=index)
            self._jobs[job] = live
            run.jobs[job] = live
            if self.number or not scheduler.keep_jobs:
                # It was added since the last answer, or since the run began.
                live.added_at = self._view.clock()
            self._unsettled[job] = UNTOLD
            _event_log.add_keys(job, self._owners, self._keys)
            if _job_queries.box_of(job).name == "question":
                self._asking[job] = None
            if is_scheduler(job):
                self._add_run(job, run)

    def _new_incidents(self, scheduler: BaseScheduler) -> tuple[Incident, ...]:
        """Return the incidents of the last run of a scheduler after the last that was told."""
        incidents = _job_queries.incidents_of(scheduler)
        last = self._last_incidents.get(scheduler)
        for number, incident in enumerate(incidents, 1):
            if incident is last:
                return incidents[number:]
        return incidents

    def _describe_incident(
        self, index: int, incident: Incident
    ) -> tuple[float, int, str, bool, int | None]:
        key = None
        if incident.job in self._jobs:
            key = self._jobs[incident.job].key
        return (
            incident.occurred_at,
            index,
            incident.message,
            incident.is_steering,
            key,
        )

    def _describe_questions(self) -> Iterator[tuple[Any, ...]]:
        """Yield the key of each job that waits for an answer that can still be used, with its `Question`."""
        for job in filter(_job_queries.is_needed, self._asking):
            question = _job_queries.question_of(job)
            if job in self._jobs and question is not None:
                yield (self._jobs[job].key, *question)

    def _describe_changed_jobs(
        self,
    ) -> tuple[dict[AnyJob, Told], list[Step], list[str], bool]:
        """Return the new state and attempt of each job that has changed, how it is told, and whether there are more.

        This is a step if nothing but the state and the times are news. Otherwise, it is the facts with the index of the
        run, which take thirty times as long. They are JSON at once: as objects that stay for long, the facts of many
        jobs would let Python collect all its garbage, and the event loop would have to wait for that.
        """
        told = dict[AnyJob, Told]()
        steps = list[Step]()
        plain = list[str]()
        # `state_of` is implemented in C: of 5,000 jobs that wait, all but a few have nothing to tell.
        states = map(state_of, self._unsettled)
        for (job, last), now in zip(self._unsettled.items(), states, strict=True):
            state, attempt, last_required_count = last
            may_differ = state is JobState.RUNNING and job.attempts != attempt
            if now is state and not may_differ:
                continue
            if len(plain) == MAX_TOLD:
                return told, steps, plain, True
            attempts = job.attempts
            live = self._jobs[job]
            live.read()
            required_count = len(job.required)
            told[job] = _shared_state(live.state, attempts, required_count)
            # Groups that have not begun have none.
            is_plain = live.outcome[1:] == PLAIN_OUTCOME[1:] and attempts < 2
            has_new_requirements = required_count > last_required_count
            if state is not None and is_plain and not has_new_requirements:
                times = live.started_at, live.finished_at
                steps.append((live.key, live.state.value, *times))
                continue
            live.later_attempt_starts = tuple(_later_attempt_starts(job, live.outcome))
            run = self._runs[live.run_index]
            position = live.key - next(iter(run.jobs.values())).key
            facts = _event_log.describe_job(
                run, live, self._paths.get(job), position, self._owners
            )
            plain.append(ENCODE((live.run_index, to_plain(facts))))
        return told, steps, plain, False

    def _describe_run(self, index: int) -> Record:
        run = self._runs[index]
        pool = run.start.pool
        resources = tuple(_event_log.pool_resources(pool, self._owners, self._keys))
        facts = RunFacts(_event_log.describe_run(run, index), resources, ())
        plain: Record = to_plain(facts)
        return plain

    def _describe_windows(self) -> Iterator[tuple[int | None, int, int | None, bool]]:
        """Yield the key of each scheduler in progress, None for the outermost, its slots, and if they can be set."""
        for run in self._runs:
            if current_run(run.scheduler) is not None:
                key = None if run.parent is None else run.parent.key
                can_be_set = isinstance(run.scheduler.jobs_window, int)
                yield key, *slots_in_use(run.scheduler), can_be_set

    def _describe_waiting(self) -> tuple[list[tuple[str, list[int], int, str]], int]:
        """Return the waits of SCHEDULED jobs, and the number of jobs whose waits were not looked at.

        A common wait has a name, the keys of its jobs, their number, and the explanation of the first.
        """
        states = zip(self._unsettled, map(state_of, self._unsettled), strict=True)
        scheduled = [job for job, state in states if state is JobState.SCHEDULED]
        lines: dict[BaseScheduler | None, list[AnyJob]] = {}
        for job in scheduled:
            lines.setdefault(job.scheduler, []).append(job)
        # So that none waits unseen behind a long line of another.
        share = max(1, MAX_EXPLAINED // max(1, len(lines)))
        asked = list[AnyJob]()
        for line in lines.values():
            asked += line[:share]
        groups = group_waits(asked[:MAX_EXPLAINED], self._view.clock)
        told = list[tuple[str, list[int], int, str]]()
        unexplained = len(scheduled)
        for group in itertools.islice(groups, MAX_GROUPS):
            keys = [self._jobs[job].key for job in group.jobs]
            told.append((group.name, keys, len(keys), group.explanation))
            unexplained -= len(keys)
        return told, unexplained

    def find(self, key: object, has_settled: bool | None = False) -> Any:
        """Return the job with a key, which runs or waits, or has settled, or for None, either. Any thread may call it.

        If a scheduler numbers its jobs, return the key of a settled job, because such a job may have been dropped.

        Raises:
            ValueError: there is none: it has ended, was dropped, or is tried again.

        """
        if has_settled and _job_queries.all_counts(self._scheduler) is not None:
            return key
        for job, live in self._jobs.copy().items():
            if live.key == key and has_settled in (None, job.is_settled()):
                return job
        state = "runs or waits again" if has_settled else "has ended"
        raise ValueError(f"this job {state}")

    def describe_one(self, key: object) -> Record:
        """Describe the facts that a page shows of this job alone: why it waits, where it is, the ends of its outputs.

        Raises:
            ValueError: the job was dropped.

        """
        job: AnyJob = self.find(key, None)
        outputs = list[tuple[str, str]]()
        for name, data in _job_queries.output_tails(job, MAX_TAIL):
            if data:
                outputs.append((name, data.decode(errors="replace")))
        printed = end_of_prints(job, job.started_at)
        if printed and not outputs:
            # The output of a command to a monitor's stream is printed, too.
            outputs.append(("printed", printed))
        told: Record = {"output": outputs}
        if not job.is_settled():
            told |= describe_place(job)
            told["unkept"] = _job_queries.unkept_outputs(job)
            if job.state is JobState.RUNNING:
                told["explanation"] = ""
            return told
        told["result"] = _result_text(job)
        found = _run_view.next_try(job)
        if found is None:
            return told | {"again": False}
        running = [unescape_path(each.path) for each in found.running]
        return told | {
            "again": bool(running or not found.problem),
            "following": len(found.used_it),
            "running": running,
        }


def _result_text(job: AnyJob) -> str:
    """Return the beginning of the result of a job, or "" if it has none that a person would read."""
    if job.redact or job.state is not JobState.SUCCEEDED:
        return ""
    result = _job_queries.stored_result(job)
    if result is None or result is DROPPED:
        return ""
    if is_scheduler(job) or _job_queries.runs_commands(job):
        return ""
    if type(result) is str:
        return result[:MAX_TAIL]
    return short_repr(result)


@functools.lru_cache
def _shared_state(state: JobState, attempts: int, required_count: int) -> Told:
    """Return the same object for all jobs in a state, so that Python has few to look through for garbage."""
    return state, attempts, required_count


def _later_attempt_starts(job: AnyJob, outcome: Outcome) -> Iterator[float]:
    """Yield the start of each attempt but the first."""
    for attempt in outcome.failed_attempts:
        if attempt.number > 1:
            yield attempt.began
    start = _job_queries.latest_start(job)
    if outcome.failed_attempts and start is not None:
        yield start
