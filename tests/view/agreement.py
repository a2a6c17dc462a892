"""What each view says of one run, and the check that all say the same."""

import functools
import html
import io
import json
import re
import xml.etree.ElementTree as Tree
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from trioflow import Events, JobState, JUnit, Monitor, Scheduler, Trace
from trioflow._core.words._job_queries import dropped_counts, is_one_job, jobs_of_run
from trioflow.abc import duration_text
from trioflow.cli._journal import read_runs_and_jobs, run_verdict_text
from trioflow.cli._run import exit_code_of_run
from trioflow.otel import Tracing
from trioflow.view import save
from trioflow.view.text._debrief import Debrief
from trioflow.view.text._symbols import Symbols
from trioflow.view.text._verdict import TOLERATED_KEY, Tally, run_verdict
from trioflow.view.trace import _trace_file
from trioflow.view.trace.report import _report
from trioflow.view.trace.report._report import report_html
from ..conftest import Virtual

SUCCESS, STOPPED, FAILURES, INTERRUPTED = 0, 1, 3, 130
VERDICT_ON_THE_PAGE = '(?:<span class="symbol">|<p class="verdict"><bdi>)(.*?)<'


def last_run_and_jobs(journal: Path) -> tuple[Any, Any]:
    runs, jobs = read_runs_and_jobs(journal)
    return runs[-1], jobs


def in_virtual_time(virtual: Virtual) -> Callable[..., Any]:
    return lambda scheduler, **options: virtual(
        functools.partial(scheduler.co_run, **options)
    )


class RememberingMonitor(Monitor):
    def _show_run(self, *arguments: Any) -> Any:
        self.model = super()._show_run(*arguments)
        return self.model


class Recorded:
    """The instruments of one run, and what they have written. `events` and `monitor` follow one run alone."""

    def __init__(self, folder: Path) -> None:
        self.trace, self.lines, self.log = Trace(), io.StringIO(), io.StringIO()
        self.junit = JUnit(folder / "junit.xml")
        self.monitor = RememberingMonitor(file=self.log)
        self.events = Events(self.lines)
        self.spans = InMemorySpanExporter()
        nothing = Resource.get_empty()  # to ask the machine takes longer than a run
        provider = TracerProvider(shutdown_on_exit=False, resource=nothing)
        provider.add_span_processor(SimpleSpanProcessor(self.spans))
        self._metrics = InMemoryMetricReader()
        meters = MeterProvider(
            [self._metrics], shutdown_on_exit=False, resource=nothing
        )
        self.instruments: list[Any] = [
            self.trace,
            self.junit,
            Tracing(provider, meters),
        ]

    def durations(self) -> list[Any]:
        data = self._metrics.get_metrics_data()
        scopes = (
            [
                scope
                for resource in data.resource_metrics
                for scope in resource.scope_metrics
            ]
            if data
            else []
        )
        metrics = [
            metric
            for scope in scopes
            for metric in scope.metrics
            if metric.name == "trioflow.job.duration"
        ]
        return [point for metric in metrics for point in metric.data.data_points]


def disagreements(recorded: Recorded, scheduler: Scheduler) -> Iterator[str]:
    """Yield which views have other counts, another verdict, or another duration than the rest."""
    record = recorded.trace._get_record()
    run = record.root_run
    assert run is not None
    reason = scheduler.stop_reason
    events = [json.loads(line) for line in recorded.lines.getvalue().splitlines()]
    end = next(
        (event for event in reversed(events) if event["event"] == "run_ended"),
        events[-1],
    )
    suites = Tree.parse(recorded.junit.path).getroot()
    cases = list(suites.iter("testcase"))
    junit = {
        kind: sum(case.find(kind) is not None for case in cases)
        for kind in ("failure", "error", "skipped")
    }
    own = Tally.for_scheduler(scheduler)
    verdict = run_verdict(scheduler, reason, has_duration=True)
    leaves = sum(
        map(is_one_job, jobs_of_run(scheduler))
    )  # also those in groups that never ran
    leaves += sum(number for _, number in dropped_counts(scheduler))
    if sum(own.counts_by_state().values()) != leaves:
        yield f"{own.describe()}, of {leaves} jobs that are no groups"
    counts: dict[str, dict[str, Any]] = {
        "the numbers of jobs by state": {"trace": record.tally.counts_by_state()},
        "the number of failures": {
            "trace": record.tally.failure_count,
            "JUnit": junit["failure"] + sum(map(_did_not_count, cases)),
        },
        "the verdict": {"trace": record.verdict(run, reason)},
        "the duration": {
            "trace": round(record.end_time - record.start_time, 6),
            "events": round(end["seconds"], 6),
        },
        "whether the run is good": {
            "own": verdict.is_good,
            "JUnit": not (junit["failure"] or junit["error"]),
            "trace": record.verdict(run, reason).is_good,
            "otel": recorded.spans.get_finished_spans()[-1].status.is_ok,
        },
    }
    counts["the numbers of jobs by state"] |= {
        "own": own.counts_by_state(),
        "events": end["jobs"],
    }
    counts["the number of failures"] |= {
        "own": own.failure_count,
        "events": end.get("failures", 0),
    }
    if (
        scheduler.keep_jobs or not record.tally.restored.number
    ):  # what was dropped does not say that it was restored
        counts["the verdict"]["own"] = verdict
    if scheduler.keep_jobs:
        titles = [
            text.partition("\n")[0].split()
            for text in Debrief(scheduler, Symbols()).failure_paragraphs()
        ]
        counts["the number of failures"]["debrief"] = sum(
            int(words[0]) if words[0].isdigit() else 1
            for words in titles
            if "tolerated" not in words
        )
    if hasattr(recorded.monitor, "model"):
        progress = recorded.monitor.model.progress()
        counts["the verdict"]["monitor"] = progress.verdict
        counts["the number of failures"]["monitor"] = progress.tally.failure_count
        counts["the numbers of jobs by state"]["monitor"] = (
            progress.tally.counts_by_state()
        )
    for attribute, kind in {
        "failures": "failure",
        "errors": "error",
        "skipped": "skipped",
    }.items():
        counts[f"JUnit's {attribute}"] = {
            "said": int(suites.get(attribute, "0")),
            "there": junit[kind],
        }
    counts["JUnit's tests"] = {
        "said": int(suites.get("tests", "0")),
        "there": len(cases),
    }
    for what, by_view in counts.items():
        if any(value != next(iter(by_view.values())) for value in by_view.values()):
            yield f"{what} differs: {by_view}"
    for case in (suites, *suites, *cases):
        if float(case.get("time", "0")) < 0:
            yield f"JUnit has a negative time: {case.attrib}"


def _did_not_count(case: Tree.Element) -> bool:
    """Return whether a job failed that is no failure of its run: its group is tolerated, or an `await` raised it."""
    skipped = case.find("skipped")
    if skipped is None:
        return False
    return skipped.get("message", "").startswith("failed (did not count)")


class Views:
    def __init__(
        self,
        run: Callable[..., Any],
        scheduler: Scheduler,
        tmp_path: Path,
        has_journal: bool = False,
    ) -> None:
        self.scheduler = scheduler
        self._recorded = recorded = Recorded(tmp_path)
        journal = tmp_path / "agreement.db"
        instruments = [*recorded.instruments, recorded.events, recorded.monitor]
        run(
            scheduler,
            instruments=instruments,
            **({"journal": journal} if has_journal else {}),
        )
        self.in_journal = (
            run_verdict_text(*last_run_and_jobs(journal)) if has_journal else None
        )
        self.live = recorded.trace._get_record()
        save(recorded.trace, tmp_path / "t.json")
        self.read = _trace_file.read_record(tmp_path / "t.json")
        self.events = [
            json.loads(line) for line in recorded.lines.getvalue().splitlines()
        ]
        self.page = report_html(self.read, tmp_path)

    def verdicts(self) -> dict[str, str]:
        """Return the verdict of each view, with its symbol and the duration of the run."""
        reason = self.scheduler.stop_reason
        root, live = self.read.root_run, self.live.root_run
        assert root is not None
        assert live is not None
        found = {
            "own": _with_symbol(run_verdict(self.scheduler, reason, has_duration=True)),
            "monitor": self._recorded.log.getvalue().splitlines()[-1],
            "trace": _with_symbol(self.live.verdict(live, reason)),
            "file": _with_symbol(self.read.verdict(root, root.stop_reason)),
            "report": html.unescape(
                " ".join(
                    part[1] for part in re.finditer(VERDICT_ON_THE_PAGE, self.page)
                )
            ),
        }
        if self.in_journal is not None:
            found["journal"] = self.in_journal
        return {view: _from_symbol(text) for view, text in found.items()}

    def failure_kinds(self) -> dict[str, list[int]]:
        """Return the number of failed jobs of each kind in each view, in ascending order."""
        titles = [
            text.partition("\n")[0]
            for text in Debrief(self.scheduler, Symbols()).failure_paragraphs()
        ]
        found = {
            "debrief": [
                int(words[0]) if (words := title.split())[0].isdigit() else 1
                for title in titles
            ],
            "report": [len(group.spans) for group in _report.failure_groups(self.read)],
            "monitor": [
                len(jobs)
                for jobs in self._recorded.monitor.model.failed_jobs_by_kind.values()
            ],
        }
        return {view: sorted(filter(None, sizes)) for view, sizes in found.items()}

    def check(self, code: int) -> None:
        """Check that all views have the same verdict, counts, failures and duration, and that the exit code fits."""
        verdicts, kinds = self.verdicts(), self.failure_kinds()
        assert len(set(verdicts.values())) == 1, verdicts
        assert list(disagreements(self._recorded, self.scheduler)) == []
        counts = Tally.for_scheduler(self.scheduler)
        jobs = [
            job for job in jobs_of_run(self.scheduler) if is_one_job(job)
        ]  # also those in groups that never ran
        dropped = Counter[bool]()
        for (state, forever, _), number in dropped_counts(self.scheduler):
            dropped[forever and state is not JobState.FAILED] += number
        if dropped:  # what was dropped has no function, which is a part of the kind, and is in no debrief
            kinds = {
                view: [sum(sizes)] for view, sizes in kinds.items() if view != "debrief"
            }
        assert len({str(sizes) for sizes in kinds.values()}) == 1, kinds
        assert (
            sum(kinds["report"]) - counts.count(TOLERATED_KEY) == counts.failure_count
        )
        # However a run ends, it has as many jobs, and those of its forever jobs that have failed.
        not_forever = [
            job for job in jobs if not job.forever or job.state is JobState.FAILED
        ]
        assert counts.job_count == len(not_forever) + dropped[False]
        assert (
            self.read.tally.describe()
            == self.live.tally.describe()
            == counts.describe()
        )
        assert f">{counts.describe()}<" in self.page
        paths = {
            event["path"] for event in self.events if event["event"] == "job_added"
        }
        assert {event.get("culprit") for event in self.events} <= {None, *paths}
        assert exit_code_of_run(self.scheduler) == code
        assert (code == SUCCESS) == (verdicts["own"][0] in "✓»")
        debriefed = _from_symbol(
            next(iter(Debrief(self.scheduler, Symbols()).verdict_lines()))
        )
        assert (
            verdicts["own"]
            == f"{debriefed}, {duration_text(self.events[-1]['seconds'], in_column=True)}"
        )


def _with_symbol(verdict: Any) -> str:
    return f"{verdict.symbol(Symbols())} {verdict.sentence}"


def _from_symbol(text: str) -> str:
    """Return a verdict from its symbol on, without what a monitor adds behind it."""
    return " ".join(re.sub("^.*?(?=[✓✗»])", "", text).partition(";")[0].split())
