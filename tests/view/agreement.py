"""What each view says of one run, and the check that all say the same."""

from __future__ import annotations

import functools
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trioflow import Events, JobState, Monitor, Scheduler, Trace
from trioflow._core.words._job_queries import is_one_job, jobs_of_run
from trioflow._core.words._member_queries import dropped_counts
from trioflow.abc import duration_text
from trioflow.cli._journal import read_runs_and_jobs, run_verdict_text
from trioflow.cli._run import exit_code_of_run
from trioflow.view import _junit, save
from trioflow.view.text._debrief import Debrief
from trioflow.view.text._symbols import Symbols
from trioflow.view.text._verdict import TOLERATED_KEY, Tally, run_verdict
from trioflow.view.trace import _trace_file
from trioflow.view.trace.report import _failures
from trioflow.view.trace.report._report import report_html

if TYPE_CHECKING:
    from ..conftest import Virtual

SUCCESS, STOPPED, FAILURES, INTERRUPTED = 0, 1, 3, 130
VERDICT_ON_THE_PAGE = '(?:<span class="symbol">|<p class="verdict"><bdi>)(.*?)<'


def last_run_and_jobs(journal: Path) -> tuple[Any, Any]:
    runs, jobs = read_runs_and_jobs(journal)
    return runs[-1], jobs


def in_virtual_time(virtual: Virtual) -> Callable[..., Any]:
    """Return a function that runs a scheduler on the virtual clock."""
    return lambda scheduler, **options: virtual(functools.partial(scheduler.co_run, **options))


class RememberingMonitor(Monitor):
    """A monitor that keeps its model after the run."""

    def _show_run(self, *arguments: Any) -> Any:
        self.model = super()._show_run(*arguments)
        return self.model


class Views:
    """What each view says of one run."""

    def __init__(
        self, run: Callable[..., Any], scheduler: Scheduler, tmp_path: Path, has_journal: bool = False
    ) -> None:
        self.scheduler = scheduler
        trace, lines, self._log = Trace(), io.StringIO(), io.StringIO()
        self._monitor = RememberingMonitor(file=self._log)
        instruments = [trace, Events(lines), self._monitor]
        journal = tmp_path / "agreement.db"
        run(scheduler, instruments=instruments, **({"journal": journal} if has_journal else {}))
        self.in_journal = run_verdict_text(*last_run_and_jobs(journal)) if has_journal else None
        self.live = trace._get_record()
        save(trace, tmp_path / "t.json")
        self.read = _trace_file.read_record(tmp_path / "t.json")
        self.events = [json.loads(line) for line in lines.getvalue().splitlines()]
        self.page = report_html(self.read, tmp_path)

    def verdicts(self) -> dict[str, str]:
        """Return the verdict of each view, with its symbol and the duration of the run."""
        reason = self.scheduler.stop_reason
        (root,) = self.read.root_runs
        found = {
            "own": _with_symbol(run_verdict(self.scheduler, reason, has_duration=True)),
            "monitor": self._log.getvalue().splitlines()[-1],
            "trace": _with_symbol(self.live.verdict(self.live.root_runs[0], reason)),
            "file": _with_symbol(self.read.verdict(root, root.stop_reason)),
            "report": " ".join(part.group(1) for part in re.finditer(VERDICT_ON_THE_PAGE, self.page)),
        }
        if self.in_journal is not None:
            found["journal"] = self.in_journal
        return {view: _from_symbol(text) for view, text in found.items()}

    def failure_kinds(self) -> dict[str, list[int]]:
        """Return the number of failed jobs of each kind in each view, in ascending order."""
        titles = [text.partition("\n")[0] for text in Debrief(self.scheduler, Symbols()).failure_paragraphs()]
        found = {
            "debrief": [int(words[0]) if (words := title.split())[0].isdigit() else 1 for title in titles],
            "report": [len(group.spans) for group in _failures.failure_groups(self.read)],
            "monitor": [len(jobs) for jobs in self._monitor.model.failed_jobs_by_kind.values()],
        }
        return {view: sorted(filter(None, sizes)) for view, sizes in found.items()}

    def check(self, code: int) -> None:
        """Check that all views have the same verdict, counts, failures and duration, and that the exit code fits."""
        verdicts, kinds = self.verdicts(), self.failure_kinds()
        assert len(set(verdicts.values())) == 1, verdicts
        counts = Tally.for_scheduler(self.scheduler)
        described = counts.describe()
        jobs = [job for job in jobs_of_run(self.scheduler) if is_one_job(job)]  # also those in groups that never ran
        dropped = Counter[bool]()
        for (state, forever, _), number in dropped_counts(self.scheduler):
            dropped[forever and state is not JobState.FAILED] += number
        assert sum(counts.counts_by_state().values()) == len(jobs) + dropped.total()
        if dropped:  # what was dropped has no function, which is a part of the kind, and is in no debrief
            kinds = {view: [sum(sizes)] for view, sizes in kinds.items() if view != "debrief"}
        assert len({str(sizes) for sizes in kinds.values()}) == 1, kinds
        # However a run ends, it has as many jobs, and those of its forever jobs that have failed.
        not_forever = [job for job in jobs if not job.forever or job.state is JobState.FAILED]
        assert counts.job_count == len(not_forever) + dropped[False]
        tallies = self.live.tally, self.read.tally
        assert [tally.describe() for tally in tallies] == [described] * len(tallies)
        assert f">{described}<" in self.page
        progress = self._monitor.model.progress()
        assert progress.tally.counts_by_state() == counts.counts_by_state()
        assert progress.tally.failure_count == counts.failure_count
        end = self.events[-1]
        paths = {event["path"] for event in self.events if event["event"] == "job_added"}
        assert {event.get("culprit") for event in self.events} <= {None, *paths}
        assert end["jobs"] == counts.counts_by_state()
        suites = next(line for line in _junit.xml_lines(self.read) if line.startswith("<testsuites"))
        failures = {
            "own": counts.failure_count,
            "events": end.get("failures", 0),
            "groups": sum(kinds["report"]) - counts.count(TOLERATED_KEY),
            "JUnit": int(suites.partition('failures="')[2].partition('"')[0]),
        }
        assert len(set(failures.values())) == 1, failures
        records = self.live, self.read
        durations = [*(record.end_time - record.start_time for record in records), end["seconds"]]
        assert durations == pytest.approx([durations[0]] * 3)
        assert exit_code_of_run(self.scheduler) == code
        assert (code == SUCCESS) == (verdicts["own"][0] in "✓»")
        debriefed = _from_symbol(next(iter(Debrief(self.scheduler, Symbols()).verdict_lines())))
        assert verdicts["own"] == f"{debriefed}, {duration_text(durations[0], in_column=True)}"


def _with_symbol(verdict: Any) -> str:
    return f"{verdict.symbol(Symbols())} {verdict.sentence}"


def _from_symbol(text: str) -> str:
    """Return a verdict from its symbol on, without what a monitor adds behind it."""
    return " ".join(re.sub("^.*?(?=[✓✗»])", "", text).partition(";")[0].split())
