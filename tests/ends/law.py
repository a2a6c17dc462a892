"""The law for one seed: its run, what each reader was told of it, and what the next run restores."""

import json
import logging
import re
import tempfile
import xml.etree.ElementTree as Tree
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
import anyio
from trioflow import First, JobState, Scheduler
from trioflow._core.words._run_view import runs_in_progress
from trioflow.abc import Instrument, enclosing_schedulers, is_scheduler, reported_state
from trioflow.testing import run_virtual
from trioflow.view import listing
from trioflow.view._state_styles import STATE_STYLES
from trioflow.view.look import _process_record
from trioflow.view.look._console import WatchedRun, console
from trioflow.view.look._watch import Watch
from trioflow.view.trace.report._report import report_html
from ..model.real import IN_MEMORY
from ..view.agreement import Recorded, disagreements
from .doors import Doors, Loops, run
from .story import REOPENED, End, Story, end_of
from .worlds import World

# --- what each reader was told of the ends of jobs, and in words where that is not the story of the run

SAME = 1e-6
POLLED = ("job_waiting", "job_progress")
"""The events of a thread of its own, which asks twice a second, however the time of the run passes meanwhile."""
STATE_WORDS = (
    "succeeded",
    "failed",
    "blocked",
    "cancelled",
    "skipped",
    "restored",
    "ended",
)
EXPLANATIONS = {
    JobState.IDLE: "' (waits |was not reached|will not be reached|is about|has no open)",
    JobState.SCHEDULED: "' (waits |is ready|will be retried)",
    JobState.RUNNING: "' has been running",
    JobState.SUCCEEDED: "' (succeeded|moved on|was restored)",
    JobState.FAILED: "' failed",
    JobState.BLOCKED: "' is blocked",
    JobState.SKIPPED: "' was skipped",
    JobState.CANCELLED: "' (was (cancelled|drained)|ran alongside)",
}
"""How `explain()` begins, for each state."""
MONITOR_LINE = re.compile(
    rf"\d\d:\d\d:\d\d ({'|'.join(STATE_WORDS)})\s+(\S+)", re.IGNORECASE
)


def in_first(job: Any) -> bool:
    return any(isinstance(each, First) for each in enclosing_schedulers(job))


def fails_by_itself(job: Any) -> bool:
    """Return whether the failure of a job is its own: that of a group is the failure of a member."""
    return (not is_scheduler(job) or isinstance(job, First)) and not in_first(job)


class Told(Instrument):
    """An instrument: what it hears of each job of a scheduler."""

    def __init__(self, world: World, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.problems: list[str] = []
        self.seconds: Counter[str] = Counter()
        """The seconds of the attempts of all jobs, by the state in which they have ended."""
        self._world, self._heard = world, dict[Any, list[End]]()
        self._started: set[Any] = set()
        self._waiting: set[Any] = set()

    def job_scheduled(self, scheduler: Any, job: Any) -> None:
        self._waiting.add(job)

    def job_started(self, scheduler: Any, job: Any) -> None:
        self._started.add(job)
        self._waiting.discard(job)

    def job_settled(self, scheduler: Any, job: Any) -> None:
        self._world.story.path(job)
        self._waiting.discard(job)
        self._heard.setdefault(job, []).append(end_of(job))
        if job in self._started:
            self._started.remove(job)
            self.seconds[reported_state(job).value] += job.took
        worked = self._world.bodies.worked.get(job.label)
        if (
            job.started_at is not None
            and worked is not None
            and abs((job.took or 0) - worked) > SAME
        ):
            self.problems.append(
                f"{job.label} has run for {worked} s, and says that it took {job.took}"
            )

    def job_reopened(self, scheduler: Any, job: Any) -> None:
        told = self._heard.setdefault(job, [])
        if job not in self._waiting and (not told or told[-1].state == REOPENED):
            self.problems.append(
                f"{job.label} is reopened, and had neither ended nor waited"
            )
        self._waiting.discard(job)
        self._started.discard(job)
        told.append(End(REOPENED))
        if job.is_settled():
            self.problems.append(f"{job.label} is reopened, and {job.state.value}")

    def differences(self, story: Story) -> Iterator[str]:
        yield from self.problems
        for job in {*story.by_job, *self._heard}:
            told, expected = self._heard.get(job, []), story.by_job.get(job, [])
            if self.scheduler in story.around[job] and told != expected:
                yield f"an instrument of {self.scheduler.label}: {job.label}: {told} instead of {expected}"


class Looks(Instrument):
    """The page, `look` and its `Watch`: what they say at some events of jobs is what is so then."""

    def __init__(self, world: World, every: int) -> None:
        self.problems: list[str] = []
        self._world, self._every, self._count = world, every, 0
        self._watch: Watch | None = None
        self._watched = WatchedRun()

    def before_run(self, scheduler: Any) -> None:
        runs = [
            run for run in runs_in_progress() if run.scheduler is self._world.scheduler
        ]
        if scheduler is self._world.scheduler and runs:
            self._watch = Watch(*runs)

    def _look(self, scheduler: Any, job: Any) -> None:
        self._count += 1
        if self._watch is None or self._count % self._every:
            return
        self._ask()
        self.problems += self._differences()

    job_scheduled = job_started = job_settled = _look

    def _ask(self) -> None:
        assert self._watch is not None
        self._watched.update(json.loads(json.dumps(self._watch.answer())))

    def _differences(self) -> Iterator[str]:
        root = self._world.scheduler
        said = {
            facts.span.path: facts.span.state
            for _, facts in self._watched.jobs.values()
        }
        for job in root.iterate_jobs():
            path = self._world.story.path(job)
            if root.keep_jobs and said.get(path) is not job.state:
                yield f"the page says that {path} is {said.get(path)}, and it is {job.state.value}"
            if not re.search(EXPLANATIONS[job.state], why := root.explain(job)):
                yield f"explain() says of {path}, which is {job.state.value}: {why}"
        shown = console(self._watched, "", has_ended=False)
        if sum(count for _, _, count, _ in shown["counts"]) != shown["count"]:
            yield f"the page counts {shown['counts']}, and {shown['count']} in all"
        (run,) = [run for run in runs_in_progress() if run.scheduler is root]
        record = _process_record._describe_run(run, {})
        now = run.view.clock()
        running = {
            job.path: job
            for job in root.iterate_jobs()
            if job.is_running() and not is_scheduler(job)
        }
        if {each["path"] for each in record["running"]} != {*running}:
            yield f"look says that {record['running']} run, and {[*running]} do"
        for each in record["running"]:
            began = self._world.bodies.began.get(running[each["path"]].label)
            if began is not None and abs(each["seconds"] - (now - began)) > SAME:
                yield f"look says that {each['path']} has run for {each['seconds']} s, and it began at {began}"

    def differences(self, story: Story) -> Iterator[str]:
        """Yield what was wrong during the run, and what the page has of its end."""
        yield from self.problems
        if self._watch is None:
            return
        self._ask()
        self._watch.close()
        said = {
            facts.span.path: facts.span.state.name
            for _, facts in self._watched.jobs.values()
        }
        for job in story.by_job if self._world.scheduler.keep_jobs else ():
            last = story.last(job)
            if last is not None and said.get(story.path(job)) != last.state:
                yield f"the page says that {job.label} has ended as {said.get(story.path(job))}, not {last.state}"


class Log(logging.Handler):
    """The log of the package: how many failures it tells."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0
        self.removed: list[str] = []

    def emit(self, record: Any) -> None:
        text = record.getMessage()
        is_of_other = (
            "failed because of" in text or "RequirementFailed" in text
        )  # what has stopped a group
        if getattr(record, "about", None) == "failure" and not is_of_other:
            self.failures += record.count
        if "is removed from this run" in text:
            self.removed.append(text)

    def differences(self, story: Story) -> Iterator[str]:
        """Yield whether another number of jobs have failed by themselves, and what instruments have raised."""
        yield from self.removed
        failed = [
            job
            for job, end in story.order
            if end.state == "FAILED" and fails_by_itself(job)
        ]
        if self.failures != len(failed):
            yield f"the log tells {self.failures} failures of {len(failed)}"


class Readers:
    def __init__(
        self, world: World, folder: Path, *, looks_every: int, has_report: bool
    ) -> None:
        self.world, self.folder, self.has_report = world, folder, has_report
        self.recorded = Recorded(folder)
        self.looks, self.log = Looks(world, looks_every), Log()
        self.told = [Told(world, world.scheduler)]
        for group in world.groups_with_instruments:
            self.told.append(inner := Told(world, group))
            group.instruments = [inner]
        recorded = self.recorded
        self.instruments = [
            self.told[0],
            *recorded.instruments,
            recorded.events,
            recorded.monitor,
            self.looks,
        ]

    def differences(self, loops: Loops | None) -> Iterator[str]:
        """Yield what each reader was told otherwise than it was."""
        world, story = self.world, self.world.story
        yield from world.problems
        yield from world.bodies.problems
        for reader in (*self.told, self.looks, self.log):
            yield from reader.differences(story)
        for check in (
            self._run,
            self._events,
            self._on_settled,
            self._own_callbacks,
            self._monitor,
            self._spans,
        ):
            yield from check(story)
        if loops is not None:
            yield from self._loops(story, loops)
        if world.scheduler.keep_jobs:
            yield from self._failures(story)
        yield from self._trace(story)
        yield from self._junit(story)
        yield from disagreements(self.recorded, world.scheduler)
        if self.has_report:
            record = self.recorded.trace._get_record()
            if f">{record.tally.describe()}<" not in report_html(record, self.folder):
                yield f"the report does not say {record.tally.describe()}"

    def _run(self, story: Story) -> Iterator[str]:
        for job, told in story.by_job.items():
            if any(
                REOPENED not in (before.state, end.state)
                for before, end in pairwise(told)
            ):
                yield f"{job.label}: {told}"

    def _events(self, story: Story) -> Iterator[str]:
        told, last = defaultdict[str, list[str]](list), 0.0
        for line in self.recorded.lines.getvalue().splitlines():
            event = json.loads(line)
            if event["event"] in POLLED:
                continue
            if event["at"] < last - SAME:
                yield f"the time of events goes back: {event}"
            last = max(last, event["at"])
            if event["event"] in ("job_settled", "job_reopened"):
                told[event["path"]].append(event.get("state", REOPENED))
        expected = defaultdict[str, list[str]](list)
        for job, ends in story.by_job.items():
            expected[story.path(job)] += [
                end.state if end.state == REOPENED else end.state.lower()
                for end in ends
            ]
        for path in {*told, *expected}:
            said = [
                "succeeded" if state == "moved on" else state for state in told[path]
            ]
            if said != expected[path]:
                yield f"events: {path}: {said} instead of {expected[path]}"

    def _on_settled(self, story: Story) -> Iterator[str]:
        for scheduler, told in self.world.told.items():
            expected = [
                (job, end)
                for job, end in story.order
                if story.around[job][0] is scheduler and end.state != REOPENED
            ]
            if told != expected:
                yield f"on_job_settled of {scheduler.label}: {[*_first_difference(told, expected)]}"

    def _own_callbacks(self, story: Story) -> Iterator[str]:
        for job, told in self.world.own.items():
            expected = [
                end
                for end in story.ends(job)
                if end.attempts and end.state not in ("SKIPPED", "BLOCKED")
            ]
            if told != expected:
                yield f"on_settled of {job.label}: {[*_first_difference(told, expected)]}"
            done, expected = (
                self.world.done.get(job, []),
                [end for end in expected if end.state == "SUCCEEDED"],
            )
            if done != expected:
                yield f"on_succeeded of {job.label}: {[*_first_difference(done, expected)]}"

    def _loops(self, story: Story, loops: Loops) -> Iterator[str]:
        for name, yielded in loops.yielded.items():
            if name not in loops.numbers_at_end:
                yield f"the iteration over {name} does not end"
                continue
            for job, told in yielded.items():
                numbers = [number for number, _ in told]
                if numbers != sorted({*numbers}):
                    yield f"the iteration over {name} yields {job.label} as {told}"
                if any(
                    story.ends(job)[number - 1].state != state for number, state in told
                ):
                    yield f"the iteration over {name} yields {job.label} as {told}, of {story.ends(job)}"
            members = [
                job
                for job, around in story.around.items()
                if around[0] is self.world.scheduler
            ]
            chosen = loops.chosen[name]
            for job in members if chosen is None else chosen:
                number = loops.numbers_at_end[name].get(job, 0)
                is_due = number and not job.forever and story.last(job) is not None
                if is_due and (job not in yielded or yielded[job][-1][0] != number):
                    yield f"the iteration over {name} lacks the last end of {job.label}: {yielded.get(job)}, {number}"

    def _monitor(self, story: Story) -> Iterator[str]:
        if len(self.world.jobs) > 150:
            return  # it writes no line for each
        told = defaultdict[str, list[str]](list)
        for match in filter(
            None, map(MONITOR_LINE.match, self.recorded.log.getvalue().splitlines())
        ):
            told[match[2]].append(match[1].lower())
        expected = defaultdict[str, list[str]](list)
        for job in story.by_job:
            states = [end.state.lower() for end in story.ends(job)]
            quiet = (
                ("ended", "succeeded", "cancelled", "skipped") if job.forever else ()
            )
            expected[story.path(job)] += [
                "ended" if state in quiet else state for state in states
            ]
        for path in {*told, *expected}:
            # A restored job has succeeded.
            said = ["succeeded" if word == "restored" else word for word in told[path]]
            if said != expected[path]:
                yield f"the monitor: {path}: {said} instead of {expected[path]}"

    def _failures(self, story: Story) -> Iterator[str]:
        failed = [
            job
            for job, end in story.order
            if story.last(job) is end and end.state == "FAILED"
        ]
        expected = [
            job.label for job in failed if not is_scheduler(job) and not in_first(job)
        ]
        said = [
            job.label
            for job in self.world.scheduler.failures()
            if not is_scheduler(job)
        ]
        if sorted(said) != sorted(expected):
            yield f"failures() are {said}, not {expected}"
        rows = [
            line.split()[1:3] for line in listing(self.world.scheduler).splitlines()
        ]
        ends = [story.last(job) for job in self.world.scheduler.iterate_jobs()]
        for state in (JobState.FAILED, JobState.BLOCKED, JobState.SKIPPED):
            shown = sum(STATE_STYLES[state].symbol in row for row in rows)
            if shown != sum(
                end is not None and end.state == state.name for end in ends
            ):
                yield f"the listing shows {shown} jobs as {state.value}, and the ends are {ends}"

    def _trace(self, story: Story) -> Iterator[str]:
        spans = self._last_spans()
        counts = Counter(span.path for span in self.recorded.trace.spans)
        for job in story.by_job:
            last, span = story.last(job), spans.get(story.path(job))
            if last is None or span is None:
                continue
            if span.state.name != last.state or span.finished_at != last.finished_at:
                yield f"the trace says that {job.label} was {span.state} at {span.finished_at}, not {last}"
            if span.attempts and span.last_attempt != last.attempts:
                yield f"the trace has the attempts {span.attempts} of {job.label}, not {last}"
            if span.run > 1 or span.first_attempt > 1 or counts[span.path] > 1:
                # It has what has been since this run of the group began, or of a group around it.
                continue
            if (
                len(span.attempts) != last.attempts
                or span.started_at != last.started_at
            ):
                yield f"the trace has the attempts {span.attempts} of {job.label}, not {last}"
            worked = self.world.bodies.worked.get(job.label)
            is_known = (
                worked is not None and span.took is not None and not span.restored
            )
            if is_known and abs(span.took - worked) > SAME:
                yield f"the trace says that {job.label} took {span.took} s, not {worked}"

    def _last_spans(self) -> dict[str, Any]:
        """Return the span of each job, by its path; if its group was retried, perhaps at once, that of the last run."""
        spans = sorted(
            self.recorded.trace.spans,
            key=lambda span: (span.finished_at or -1, span.run),
        )
        return {span.path: span for span in spans}

    def _junit(self, story: Story) -> Iterator[str]:
        spans = self._last_spans()
        cases: dict[Any, Any] = {}
        for case in Tree.parse(self.recorded.junit.path).getroot().iter("testcase"):
            cases[case.get("name")] = case
        for job in story.by_job:
            last, case, span = (
                story.last(job),
                cases.get(job.label),
                spans.get(story.path(job)),
            )
            if last is None or case is None or span is None:
                continue
            repeated = len(case.findall("flakyFailure")) + len(
                case.findall("rerunFailure")
            )
            # In earlier runs of its group, too, if a retry has repeated that.
            every = [
                each for each in self.recorded.trace.spans if each.path == span.path
            ]
            failed = sum(
                each is not span and each.state is JobState.FAILED for each in every
            )
            for each in every:
                failed += sum(
                    bool(number and error) for number, _, error in each.failed_attempts
                )
            if last.state in ("SUCCEEDED", "FAILED") and repeated != failed:
                yield f"JUnit has {repeated} failed attempts of {job.label}, of {failed} before its end {last}"

    def _spans(self, story: Story) -> Iterator[str]:
        told = defaultdict[str, list[str]](list)
        for span in self.recorded.spans.get_finished_spans():
            attributes = dict(span.attributes or {})
            if "trioflow.state" in attributes:
                told[span.name].append(str(attributes["trioflow.state"]))
        expected = defaultdict[str, list[str]](list)
        for job in story.by_job:
            expected[job.label] += [end.state.lower() for end in story.ends(job)]
        for label in {*told, *expected}:
            said = [
                "succeeded" if state == "moved on" else state for state in told[label]
            ]
            if said != expected[label]:
                yield f"OpenTelemetry: {label}: {said} instead of {expected[label]}"
        measured = {
            str(point.attributes["state"]): point.sum
            for point in self.recorded.durations()
        }
        for state, seconds in self.told[0].seconds.items():
            if abs(measured.pop(state, -1) - seconds) > SAME:
                yield f"OpenTelemetry: other seconds than {seconds} of what is {state}: {measured}"
        if measured:
            yield f"OpenTelemetry: seconds of what has not ended: {measured}"


def _first_difference(told: list[Any], expected: list[Any]) -> Iterator[str]:
    """Yield where two sequences differ first."""
    for number in range(max(len(told), len(expected))):
        pair = told[number : number + 1], expected[number : number + 1]
        if pair[0] != pair[1]:
            yield f"{number}: {pair[0]} instead of {pair[1]}"
            return


def journal_differences(before: World, after: World) -> Iterator[str]:
    """Yield what the next run has restored or run, although the journal says otherwise."""
    old = {before.story.path(job): job for job in before.story.by_job}
    for job in after.jobs:
        path = after.story.path(job)
        was = old.get(path)
        if was is None or is_scheduler(job) or job.forever:
            continue
        states = [end.state for end in before.story.ends(was)]
        if job.restored and "SUCCEEDED" not in states:
            yield f"{path} was restored, and had only ended as {states}"
        last = before.story.last(was)
        if last is None or last.state != "SUCCEEDED" or was.timed_out:
            continue
        if after.bodies.calls[job.label]:
            yield f"{path} has succeeded last, and has run again: {job.scheduler.explain(job)}"
        if job.restored and job.result(default=None) not in (
            None,
            before.bodies.results.get(job.label),
        ):
            yield f"{path} was restored with {job.result()}, and not {before.bodies.results.get(job.label)}"


def duration_differences(world: World, path: Path) -> Iterator[str]:
    """Yield which learned durations are not the seconds in which the body has run."""
    if not path.exists():
        return
    learned = json.loads(path.read_text())["seconds"]
    for job in world.jobs:
        last = world.story.last(job)
        if last is None or last.state != JobState.SUCCEEDED.name:
            continue
        if is_scheduler(job) or job.forever or job.restored:
            continue
        name, worked = world.story.path(job), world.bodies.worked.get(job.label)
        if worked is not None and abs(learned.get(name, -1) - worked) > SAME:
            yield f"{name} has run for {worked} s, and {learned.get(name)} were learned"


# --- the law for one seed

CUT_OFF_AFTER = 4.3
"""The seconds after which an earlier run is cut off that has begun the journal."""
LOOKS_EVERY = (1, 25, 25, 25, 25, 25, 25, 25)
"""How many events of jobs lie between two looks at a run, by the seed."""
REPORTS_EVERY = 8


def broken_by(seed: int, backend: str) -> list[str]:
    """Return in words what breaks the law in the run of a seed; nothing if all is well."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        return [*_broken_by(seed, backend, Path(folder))]


def _broken_by(seed: int, backend: str, folder: Path) -> Iterator[str]:
    journal, durations = str(folder / "run.db"), folder / "durations.json"
    world = World(str(seed), journal)
    if world.plan.is_begun:
        earlier = World(str(seed), journal)

        async def begin() -> None:
            with anyio.move_on_after(CUT_OFF_AFTER):
                await earlier.scheduler.co_run()

        with logged():
            run_virtual(begin, backend=backend)
        world.bodies.results.update(earlier.bodies.results)
    world.scheduler.durations = durations
    doors, loops = Doors(world, str(seed)), Loops(world, str(seed))
    readers = Readers(
        world,
        folder,
        looks_every=LOOKS_EVERY[seed // 2 % len(LOOKS_EVERY)],
        has_report=seed % REPORTS_EVERY == 0,
    )
    with logged(readers.log), world.story.recorded():
        run_virtual(run, world, doors, loops, readers.instruments, backend=backend)
    yield from readers.differences(loops)
    if world.plan.keeps_jobs:
        yield from duration_differences(world, durations)
    if world.plan.has_journal:
        after = World(str(seed), journal, is_mended=True, results=world.bodies.results)
        with logged(), after.story.recorded():
            run_virtual(run, after, None, None, [], backend=backend)
        yield from journal_differences(world, after)


@contextmanager
def logged(log: Log | None = None) -> Iterator[None]:
    """Let this handler alone get the log of the package."""
    logger = logging.getLogger("trioflow")
    handlers, propagates = [*logger.handlers], logger.propagate
    logger.handlers, logger.propagate = [log or logging.NullHandler()], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagates
