"""Every view, export and verdict of a run, written and read back, and in words what of them cannot be."""

import contextlib
import csv
import io
import itertools
import json
import logging
import re
import tempfile
import traceback
import xml.etree.ElementTree as Tree
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
import anyio
from trioflow import JobState, Trace
from trioflow.abc import Instrument, is_scheduler
from trioflow.view import listing
from trioflow.view._junit import xml_text
from trioflow.view.graph import _drawing
from trioflow.view.look import _client, _process_record
from trioflow.view.look._console import WatchedRun, console
from trioflow.view.look._watch import Watch
from trioflow.view.text._symbols import Symbols
from trioflow.view.trace import _compare, _time_spent, _timeline, _trace_file
from trioflow.view.trace._event_log import LogReader
from trioflow.view.trace._record_builder import RecordBuilder, RunFacts
from trioflow.view.trace._spans import or_infinity
from trioflow.view.trace._trace_record import TraceRecord
from trioflow.view.trace.report import _report
from ..conftest import Virtual
from ..model.real import IN_MEMORY, RealRun
from ..model.scenario import Scenario
from .agreement import Recorded, disagreements

SAME = 1e-6
NEGATIVE_DURATION = re.compile(r"(?<![\w-])-\d[\d.]* (ms|s|min|h|d|µs)\b")
LOOKS_AFTER = (4, 15)
"""The numbers of events of jobs after which the views of a run in progress are read."""


class LookInBetween(Instrument):
    """Reads the views of a run in progress after some events of its jobs."""

    def __init__(self, trace: Trace, folder: Path) -> None:
        self.found: list[str] = []
        self._trace, self._folder, self._count = trace, folder, itertools.count(1)

    def _look(self, scheduler: Any, _: Any) -> None:
        if next(self._count) in LOOKS_AFTER:
            self.found += [
                f"during the run, {words}"
                for words in strange_in_record(self._trace, self._folder)
            ]
            self.found += [f"during the run, {words}" for words in strange_in_look()]

    job_scheduled = job_started = service_ready = job_settled = job_added = _look


class WatchInBetween(Instrument):
    """Asks again and again what has changed in a run, as the page of another process does, and builds its record."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.run = WatchedRun()
        self.has_grown = False
        self._watch: Watch | None = None
        self._count = itertools.count(1)

    def ask(self, scheduler: Any, _: Any = None) -> None:
        try:
            if self._watch is None:
                runs = [
                    run
                    for run in _process_record.runs_in_progress()
                    if run.scheduler is scheduler
                ]
                self._watch = Watch(*runs) if runs else None
            elif next(self._count) % 3 == 0 or _ is None:
                self.run.update(json.loads(json.dumps(self._watch.answer())))
            if next(self._count) in LOOKS_AFTER and self.run.answer["number"]:
                self.run.record()
                shown = console(self.run, "", False)
                assert (
                    sum(count for _, _, count, _ in shown["counts"]) == shown["count"]
                )
        except Exception:
            self.found.append(traceback.format_exc(limit=-6))

    job_scheduled = job_started = service_ready = job_settled = ask

    def job_added(self, scheduler: Any, job: Any) -> None:
        """Note that the page does not know when a job was added, but for what it was told before and after."""
        self.has_grown = True
        self.ask(scheduler, job)

    def differences(self, scheduler: Any, record: TraceRecord) -> Iterator[str]:
        """Yield what the page has otherwise than the record of the run, once it has ended."""
        yield from self.found
        if self._watch is None:
            return
        self.ask(scheduler)
        watched = self.run.record()
        has_all = all(
            each.keep_jobs
            for each in [scheduler, *filter(is_scheduler, scheduler.iterate_jobs())]
        )
        if has_all and all(run.run_number < 2 for run in record.runs):
            pages = {
                "the run": told(record, self.has_grown),
                "its page": told(watched, self.has_grown),
            }
            if pages["the run"] != pages["its page"]:
                yield f"{first_difference(*pages.values())} differ in {[*pages]}"


def told(record: TraceRecord, has_grown: bool) -> str:
    """Return what a page has to know of each job of a run, and of the run, each in a line."""
    lines: list[str] = []
    for span in record.spans:
        numbers = (
            () if span.state is JobState.IDLE else span.required
        )  # more may be required in the meantime
        required = sorted(record.spans[number].path for number in numbers)
        times = (
            span.started_at,
            span.finished_at,
            *(() if has_grown else (span.scheduled_at, span.lane)),
        )
        failure = (
            record.failures[span.number].headline
            if span.number in record.failures
            else ""
        )
        words = (
            span.path,
            span.state,
            times,
            required,
            span.exception_text,
            failure,
            span.timed_out,
            span.restored,
        )
        words = *words, len(span.attempts)
        lines.append(str(words))
    root = record.root_run
    verdicts = [] if root is None else [str(record.verdict(root, root.stop_reason))]
    return "\n".join([*sorted(lines), record.tally.describe(), *verdicts])


class Watched(Recorded):
    """The instruments of one run, and what they have written and seen."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder
        self.looks = LookInBetween(self.trace, folder)
        self.page = WatchInBetween()
        self.instruments += [self.looks, self.page]


class RemovedInstruments(logging.Handler):
    """What the log says of instruments that have raised, and so lack the rest of their run, but for who refuses two."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if (
            "is removed from this run" in record.getMessage()
            and "follows one run at a time" not in text
        ):
            self.found.append(text)


def strange_in_views(
    scenario: Scenario, backend: str, *, is_paused: bool = False
) -> list[str]:
    """Run a scenario with every view, and return in words what cannot be; no words if all is well.

    Args:
        scenario: the scenario.
        backend: the backend.
        is_paused: whether the run is paused now and then.

    """
    logging.getLogger("trioflow").addHandler(removed := RemovedInstruments())
    try:
        return [*_strange_in_views(scenario, backend, is_paused), *removed.found]
    finally:
        logging.getLogger("trioflow").removeHandler(removed)


async def pause_now_and_then(real: RealRun) -> None:
    for seconds, pauses in 3 * ((0.75, True), (1.5, False)):
        await anyio.sleep(seconds)
        for scheduler in [
            root for root in real.runs_apart or [real.root] if root is not None
        ]:
            with contextlib.suppress(RuntimeError):  # it has ended, or not begun
                (scheduler.pause if pauses else scheduler.resume)()


def _strange_in_views(scenario: Scenario, backend: str, is_paused: bool) -> list[str]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        watched = Watched(Path(folder))

        async def run() -> RealRun:
            instruments: list[Instrument] = [*watched.instruments]
            instruments += (
                [] if scenario.apart else [watched.events, watched.monitor]
            )  # these follow one run
            if scenario.killed_at is None:
                real = RealRun(scenario)
                async with anyio.create_task_group() as tasks:
                    if is_paused:
                        tasks.start_soon(pause_now_and_then, real)
                    await real.run(*instruments)
                    tasks.cancel_scope.cancel()
                return real
            journal = f"{folder}/run.db"
            await RealRun(replace(scenario, cut_at=scenario.killed_at)).run(
                journal=journal
            )
            await (real := RealRun(scenario)).run(*instruments, journal=journal)
            return real

        real = Virtual(backend)(run)
        schedulers = real.runs_apart or [real.root]
        return [
            *strange_after(
                watched,
                [
                    scheduler
                    for scheduler in schedulers
                    if scheduler.stop_reason is not None
                ],
            )
        ]


def strange_after(watched: Watched, schedulers: list[Any]) -> Iterator[str]:
    """Yield in words what the views of a run that has ended have wrong."""
    yield from watched.looks.found
    yield from strange_in_record(watched.trace, watched.folder)
    for scheduler in schedulers:
        yield from strange_in_texts(scheduler)
    if len(schedulers) == 1 and watched.trace._get_record().root_run:
        yield from watched.page.differences(schedulers[0], watched.trace._get_record())
        yield from disagreements(watched, schedulers[0])


# ---- the record of a run, and all that is made of it
def strange_in_record(trace: Trace, folder: Path) -> Iterator[str]:
    """Yield in words what is wrong with the record of a run, and with each file that is made of it."""
    try:
        live = trace._get_record()
        text = _trace_file.json_text(live)
        (folder / "t.json").write_text(text)
        read = _trace_file.read_record(folder / "t.json")
        pages = [_report.report_html(record, folder) for record in (live, read)]
        pictures = [_timeline.timeline_svg(record, 1200) for record in (live, read)]
        tables = [_trace_file.csv_text(record) for record in (live, read)]
        junit = [xml_text(record) for record in (live, read)] if live.runs else ["", ""]
        for name, (one, other) in {
            "page": pages,
            "picture": pictures,
            "table": tables,
            "JUnit": junit,
        }.items():
            if one != other:
                yield f"the {name} of the file is another than that of the run: {first_difference(one, other)}"
        comparison = _compare.compare(
            _compare.run_times(live), _compare.run_times(read)
        )
        list(_compare.comparison_lines(comparison, Symbols()))
    except Exception:
        yield traceback.format_exc(limit=-4)
        return
    yield from strange_in_facts(trace, live)
    yield from strange_in_spans(live)
    yield from strange_in_times(live)
    yield from strange_in_slots(live)
    yield from strange_on_page(live, pages[0])
    yield from strange_in_picture(live, pictures[0])
    yield from strange_in_table(live, tables[0])
    yield from strange_in_junit(junit[0])
    yield from strange_in_trace_events(live, json.loads(text)["traceEvents"])


def strange_in_junit(text: str) -> Iterator[str]:
    """Yield in words which counts of a JUnit file are not those of its cases, and which cases are said to be two."""
    root = Tree.fromstring(text or "<testsuites/>")
    for suites in ([root], [*root]):
        for name, tag in {
            "tests": "testcase",
            "failures": "failure",
            "errors": "error",
            "skipped": "skipped",
        }.items():
            counted, there = (
                sum(int(suite.get(name, 0)) for suite in suites),
                len([*root.iter(tag)]),
            )
            if counted != there:
                yield f"{there} {name} are in the JUnit file, and {counted} in its {suites[:1]}"
    for case in root.iter("testcase"):
        tags = {part.tag for part in case}
        if "flakyFailure" in tags and tags & {"failure", "skipped", "rerunFailure"}:
            yield f"{case.get('name')} has passed at last, and has not: {tags}"


def strange_in_facts(trace: Trace, record: TraceRecord) -> Iterator[str]:
    """Yield what another process builds otherwise of the facts about the runs, which it gets as data."""
    facts = LogReader(list(trace._log)).read_facts()
    data = json.loads(json.dumps(_trace_file.to_plain(facts)))
    texts = [
        _trace_file.record_json(
            RecordBuilder(runs).build([], record.end_time, stored_graphs=record.graphs)
        )
        for runs in (facts, _trace_file.read_plain(data, list[RunFacts]))
    ]
    if texts[0] != texts[1]:
        lines = (text.replace("{", "\n{") for text in texts)
        yield f"the record that another process builds: {first_difference(*lines)}"


def first_difference(one: str, other: str) -> str:
    return next(
        (
            f"{a[:200]!r}, {b[:200]!r}"
            for a, b in zip(one.split("\n"), other.split("\n"), strict=False)
            if a != b
        ),
        "",
    )


def strange_in_spans(record: TraceRecord) -> Iterator[str]:
    for span in record.spans:
        times = span.scheduled_at, span.started_at, span.finished_at
        known = [time for time in times if time is not None]
        if known != sorted(known):
            yield f"the times of {span.name} are not in order: {times}"
        if (
            span.scheduled_at is not None
            and span.scheduled_at < record.start_time - SAME
        ):
            yield f"{span.name} is scheduled before the run"
        end = record.end_time if span.finished_at is None else span.finished_at
        intervals = [(wait.since, wait.until, wait.words) for wait in span.waits]
        for since, until, words in intervals:
            if until < since:
                yield f"{span.name} waits {until - since} s for {words}"
            if until > end + SAME or since < record.start_time - SAME:
                yield f"{span.name} waits from {since} to {until} for {words}, and ended at {end}"
        for (_, until, words), (since, _, next_words) in itertools.pairwise(intervals):
            if since < until - SAME:
                yield f"{span.name} waits for {words} and for {next_words} at one time"
        if (span.started_at is None) != (span.lane is None) or bool(span.attempts) != (
            span.started_at is not None
        ):
            yield f"{span.name} started at {span.started_at}, with lane {span.lane} and attempts {span.attempts}"
        if any(not since <= until <= end + SAME for since, until in span.throttled):
            yield f"{span.name} was throttled in {span.throttled}, and ended at {end}"


def strange_in_times(record: TraceRecord) -> Iterator[str]:
    """Yield in words what cannot be true of where the time went: parts of a whole are its sum, and no share above 1."""
    seconds = record.end_time - record.start_time
    spent = _time_spent.compute_time_spent(record)
    numbers = {
        "seconds": spent.seconds,
        "work": spent.work,
        **spent.waits,
        **spent.empty,
    }
    for family in spent.families:
        numbers |= {
            f"{family.family} {name}": getattr(family, name) or 0
            for name in ("work", "p50", "p95", "count")
        }
        numbers |= {
            f"{family.family} waits for {name}": number
            for name, number in family.waits.items()
        }
        if (family.p50 or 0) > (family.p95 or 0) or (family.p95 or 0) > seconds + SAME:
            yield f"{family} has a wrong percentile"
    for name, number in numbers.items():
        if number < 0:
            yield f"{name} is {number}"
    if abs(sum(family.work for family in spent.families) - spent.work) > SAME:
        yield f"families worked for {sum(family.work for family in spent.families)} s of {spent.work}"
    parts = _time_spent.critical_path_parts(record)
    if parts and abs(sum(part.seconds for part in parts) - seconds) > SAME:
        yield f"the critical path takes {sum(part.seconds for part in parts)} s of {seconds}"
    waited: dict[str, float] = {}
    for step in _time_spent.critical_path_steps(record):
        if (
            step.is_wait and step.name in spent.waits
        ):  # before a job was ready, it may not have been there
            ready_at = or_infinity(record.spans[step.span_number].scheduled_at)
            after = max(0.0, step.start + step.seconds - max(step.start, ready_at))
            waited[step.name] = waited.get(step.name, 0.0) + after
    for name, seconds_waited in waited.items():
        if seconds_waited > spent.waits[name] + SAME:
            yield f"the critical path waited {seconds_waited} s for {name}, all jobs {spent.waits[name]} s"
    if any(part.seconds < 0 for part in parts):
        yield f"a part of the critical path is negative: {parts}"
    for row in _report._critical_path_rows(record):
        if not (0 <= float(row.width) <= 100 and 0 <= float(row.share) <= 100):
            yield f"a row of the critical path: {row}"


def strange_in_slots(record: TraceRecord) -> Iterator[str]:
    """Yield in words what cannot be true of slots: as many as there are, each with one job at a time, all time used."""
    use = _time_spent.compute_slot_use(record)
    total = use.slot_count * use.run_seconds
    if len(use.bars_by_slot) > use.slot_count:
        yield f"{len(use.bars_by_slot)} rows for {use.slot_count} slots"
    empty = sum(use.empty_seconds_by_reason.values())
    if use.slot_count and abs(use.work_seconds + empty - total) > max(
        SAME, SAME * total
    ):
        yield f"slots: {use.work_seconds} s of work and {empty} s without are not {total} s"
    shares = [int(number) for number in re.findall(r"(-?\d+) %", str(use))]
    if any(not 0 <= share <= 100 for share in shares) or sum(shares) > 100 + len(
        shares
    ):
        yield f"the shares of slots: {use}"
    for bars in use.bars_by_slot:
        for one, other in itertools.pairwise(bars):
            if other.start < one.end - _time_spent.HANDOVER_SECONDS - SAME:
                yield f"{one.span.name} and {other.span.name} share a slot"


def strange_on_page(record: TraceRecord, page: str) -> Iterator[str]:
    """Yield in words which numbers of a report come from several counts."""
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])  # type: ignore[index]
    counted = Counter(row[2] for row in data["rows"] if row[10] == 1)
    if counted != dict(data["states"]):
        yield f"the table counts {counted}, and its buttons {data['states']}"
    shown = {state: count for state, _, count in _report._state_counts(record)}
    if shown != counted:
        yield f"the head counts {shown}, and the table {counted}"
    if f">{record.tally.describe()}<" not in page and record.root_run:
        yield "the page lacks the counts"
    groups = _report.failure_groups(record)
    listed = [
        span
        for group in groups
        if group.spans[0].critical is not False
        for span in group.spans
    ]
    failed = sum(
        span.state is JobState.FAILED for span in listed
    )  # the others are BLOCKED by a budget that is spent
    if failed != record.tally.failure_count:
        yield f"{failed} failures are listed, and {record.tally.failure_count} counted"


def strange_in_picture(record: TraceRecord, picture: str) -> Iterator[str]:
    """Yield in words what is drawn outside of the picture, and which families are counted in two ways."""
    root = Tree.fromstring(picture)
    width = float(root.get("width", "0"))
    for element in root.iter():
        for name in ("x", "width", "height", "x1", "x2"):
            value = element.get(name, "0")
            if "%" not in value and not -SAME <= float(value) <= width + SAME:
                yield f"{name} of {element.tag} is {value}"
        left, size = element.get("x", "0"), element.get("width", "0")
        if (
            element.tag.endswith("rect")
            and "%" not in size
            and float(left) + float(size) > width + 3
        ):
            yield f"a bar reaches to {float(left) + float(size)} of {width}"
    families = {
        family.family: family
        for family in _time_spent.compute_time_spent(record).families
    }
    drawn = _timeline.SlotGeometry(record, 1200.0, 0.0).summaries_by_family
    for summary in drawn.values():
        if families.pop(summary.times.family, None) != summary.times:
            yield f"the legend has {summary}"
    if any(family.count for family in families.values()):
        yield f"the picture lacks {families}"


def strange_in_table(record: TraceRecord, text: str) -> Iterator[str]:
    """Yield in words which numbers of the CSV are negative."""
    rows = list(csv.DictReader(io.StringIO(text)))
    if len(rows) != len(record.spans):
        yield f"{len(rows)} lines for {len(record.spans)} spans"
    for row in rows:
        for name in (
            "scheduled",
            "started",
            "ready",
            "finished",
            "waited",
            "took",
            "attempts",
        ):
            if row[name] and float(row[name]) < 0:
                yield f"{name} of {row['path']} is {row[name]}"


def strange_in_trace_events(
    record: TraceRecord, events: list[dict[str, Any]]
) -> Iterator[str]:
    """Yield in words which events of a trace are negative, end after it, or overlap in one thread."""
    end = (record.end_time - record.start_time) * 1e6
    open_until: dict[tuple[int, int], float] = {}
    for event in events:
        if (
            event.get("ts", 0) < 0
            or event.get("dur", 0) < 0
            or event.get("ts", 0) + event.get("dur", 0) > end + 1
        ):
            yield f"an event outside of the run: {event}"
        if event["ph"] == "X" and event["cat"].startswith("job"):
            thread = event["pid"], event["tid"]
            if event["ts"] < open_until.get(thread, 0) - 1:
                yield f"an event overlaps another one: {event}"
            open_until[thread] = event["ts"] + event["dur"]


# ---- the texts of a scheduler
def strange_in_texts(scheduler: Any) -> Iterator[str]:
    texts = {
        "list": lambda: listing(scheduler, details=True),
        "debrief": lambda: scheduler.debrief(file=io.StringIO(), listing=True),
        "explain": lambda: [scheduler.explain(job) for job in scheduler.iterate_jobs()],
        "graph": lambda: scheduler.graph().source,
        "Mermaid": lambda: _drawing.mermaid(scheduler, {}, False),
        "results": scheduler.results,
        "failures": scheduler.failures,
        "repr": lambda: repr(scheduler),
    }
    for name, write in texts.items():
        try:
            write()
        except Exception:
            yield f"{name}: {traceback.format_exc(limit=-4)}"


def strange_in_look() -> Iterator[str]:
    """Yield what is wrong with a look into the runs in progress, whose answer is data."""
    try:
        runs = [
            _process_record._describe_run(run, {})
            for run in _process_record.runs_in_progress()
        ]
        record = {
            "schema": 1,
            "command": ["x"],
            "python": "",
            "time": 0.0,
            "runs": json.loads(json.dumps(runs)),
        }
        lines = list(_client.text_lines(1, record))
    except Exception:
        yield traceback.format_exc(limit=-4)
        return
    yield from (
        f"{line} tells of a time that lies ahead"
        for line in lines
        if NEGATIVE_DURATION.search(line)
    )
    for run in runs:
        if run["window"] is not None and run["slots_taken"] > max(run["window"], 0):
            yield f"{run['slots_taken']} of {run['window']} slots are taken"
        for row in (*run["running"], *run["waiting"]):
            if (row["seconds"] or 0) < 0:
                yield f"{row} is shown as running or waiting for a negative time"
