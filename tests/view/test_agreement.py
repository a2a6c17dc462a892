"""All views of a run say the same: verdict, counts, failures, duration and critical path."""

from __future__ import annotations

import functools
import io
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from trioflow import Adaptive, Events, Job, Monitor, Scheduler, Sequence, Service, Trace
from trioflow.cli._run import exit_code_of_run
from trioflow.view.ci import _junit, _summary, _test_cases
from trioflow.view.events._follow import Follower
from trioflow.view.text._debrief import Debrief
from trioflow.view.text._symbols import Symbols
from trioflow.view.text._verdict import Tally, run_verdict
from trioflow.view.trace import _trace_file
from trioflow.view.trace._trace import find_critical_path
from trioflow.view.trace.report import _failures
from trioflow.view.trace.report._report import report_html

from ..bodies import fail, nap, serve
from .trace.scenarios import everything, stop

if TYPE_CHECKING:
    from ..conftest import Virtual

SUCCESS, STOPPED, FAILURES = 0, 1, 3
VERDICT_ON_THE_PAGE = '(?:<span class="symbol">|<p class="verdict"><bdi>)(.*?)<'


def fails_once() -> Any:
    tries: list[int] = []

    async def body() -> None:
        tries.append(1)
        await anyio.sleep(1)
        if len(tries) == 1:
            raise OSError("first")

    return body


def blocked_group() -> Scheduler:
    first = Job(nap, 9, label="first")

    async def cancel() -> None:
        await anyio.sleep(1)
        first.cancel()

    group = Scheduler(Job(nap, label="x"), Job(nap, label="y"), label="group", run_if="succeeded", required=first)
    return Scheduler(first, Job(cancel, label="cancel"), group)


def second_attempt() -> Scheduler:
    inner = Scheduler(Job(fails_once(), label="step", critical=True), Job(nap, label="beside"), label="inner", retry=1)
    return Scheduler(inner, Job(nap, label="last", required=inner))


RUNS: dict[str, tuple[Any, int]] = {
    "failed": (
        lambda: Scheduler(*(Job(fail, 1, ValueError(n), label=f"row {n}") for n in range(5)), Job(nap)),
        FAILURES,
    ),
    "critical": (lambda: Scheduler(Job(fail, 2, label="bad", critical=True), Job(nap, 9, label="long")), STOPPED),
    "timed out": (lambda: Scheduler(Job(nap, 9, label="long"), Job(nap), timeout=3), STOPPED),
    "a job timed out": (lambda: Scheduler(Job(nap, 9, label="long", timeout=2), Job(nap)), FAILURES),
    "cancelled": (lambda: Scheduler(Job(stop, "cancel"), Job(nap, 9), Sequence(Job(nap, 9), Job(nap))), STOPPED),
    "drained": (lambda: Scheduler(Job(stop, "drain"), Sequence(Job(nap, 3), Job(nap)), jobs_window=2), STOPPED),
    "a group is blocked": (blocked_group, FAILURES),
    "a second attempt": (second_attempt, SUCCESS),
    "services": (lambda: Scheduler(base := Service(serve, label="base"), Job(nap, 2, required=base)), SUCCESS),
    "only forever jobs": (lambda: Scheduler(Job(anyio.sleep_forever, forever=True), timeout=2), STOPPED),
    "adaptive": (lambda: Scheduler(*(Job(nap) for _ in range(9)), jobs_window=Adaptive(1, 3)), SUCCESS),
    "everything": (everything, FAILURES),
    "many": (lambda: Scheduler(*(Job(fail if n % 90 == 7 else nap) for n in range(500)), jobs_window=20), FAILURES),
}


class Views:
    """What each view says of one run."""

    def __init__(self, virtual: Virtual, scheduler: Scheduler, tmp_path: Path) -> None:
        self.scheduler = scheduler
        trace, lines, self._log = Trace(), io.StringIO(), io.StringIO()
        instruments = [trace, Events(lines), Monitor(file=self._log)]
        virtual(functools.partial(scheduler.co_run, instruments=instruments))
        self.live = trace._get_record()
        trace.export_as_json(tmp_path / "t.json")
        self.read = _trace_file.read_record(tmp_path / "t.json")
        self.events = [json.loads(line) for line in lines.getvalue().splitlines()]
        self._replayed = io.StringIO()
        follower = Follower(Monitor(file=self._replayed))
        for line in lines.getvalue().splitlines():
            follower.replay_line(line.encode())
        self.cases = _test_cases.CiRun(self.read)
        self.page = report_html(self.read, tmp_path)

    def verdicts(self) -> dict[str, str]:
        """Return the verdict of each view with its symbol, without the duration."""
        reason = self.scheduler.stop_reason
        own = run_verdict(self.scheduler, reason, None)
        (root,) = self.read.root_runs
        summary = next(iter(_summary.markdown_lines(self.cases))).replace("\\", "")
        found = {
            "own": f"{own.symbol(Symbols())} {own.sentence}",
            "debrief": next(iter(Debrief(self.scheduler, Symbols()).verdict_lines())),
            "monitor": self._log.getvalue().splitlines()[-1],
            "replayed": self._replayed.getvalue().splitlines()[-1],
            "trace": _with_symbol(self.live.verdict(self.live.root_runs[0], reason)),
            "file": _with_symbol(self.read.verdict(root, root.stop_reason)),
            "summary": f"{summary[3]} {summary.partition(': ')[2]}",
            "report": " ".join(part.group(1) for part in re.finditer(VERDICT_ON_THE_PAGE, self.page)),
        }
        return {view: _without_times(text) for view, text in found.items()}


def _with_symbol(verdict: Any) -> str:
    return f"{verdict.symbol(Symbols())} {verdict.sentence}"


def _without_times(text: str) -> str:
    """Return a verdict from its symbol on, without durations, and without what a monitor adds behind it."""
    text = re.sub("^.*?(?=[✓✗])", "", text)
    text = re.sub(r"(, | )([\d.]+ (m?s|min|h)( [\d.]+ s)?)(?=$|[,;])", "", text)
    return " ".join(text.partition(";")[0].split())


@pytest.mark.parametrize("name", RUNS)
def test_all_views_of_a_run_agree(virtual: Virtual, tmp_path: Path, name: str) -> None:
    """For each run, all views have the same verdict, counts, failures and duration, and the exit code fits."""
    make_scheduler, code = RUNS[name]
    views = Views(virtual, make_scheduler(), tmp_path)
    verdicts = views.verdicts()
    assert len(set(verdicts.values())) == 1, verdicts
    counts = Tally.for_scheduler(views.scheduler)
    described = counts.describe()
    assert views.live.tally.describe() == views.read.tally.describe() == views.cases.tally.describe() == described
    assert f">{described}<" in views.page
    end = views.events[-1]
    assert end["jobs"] == counts.counts_by_state()
    suites = next(line for line in _junit.xml_lines(views.cases) if line.startswith("<testsuites"))
    failures = {
        "own": counts.failure_count,
        "events": end.get("failures", 0),
        "report": sum(len(group.spans) for group in _failures.failure_groups(views.read)),
        "JUnit": int(suites.partition('failures="')[2].partition('"')[0]),
        "groups": sum(map(len, views.cases.failure_groups())),
    }
    assert len(set(failures.values())) == 1, failures
    durations = [views.live.end_time - views.live.start_time, views.read.end_time - views.read.start_time, end["at"]]
    assert durations == pytest.approx([durations[0]] * 3)
    assert exit_code_of_run(views.scheduler) == code
    assert (code == SUCCESS) == verdicts["own"].startswith("✓")


def test_all_views_of_a_run_with_restored_jobs_agree(tmp_path: Path) -> None:
    """The verdict and the counts of a run whose jobs a journal restored are those of its trace file and its events."""
    for _ in range(2):
        scheduler = Scheduler(Job(nap, 0, "a", label="a"), Job(nap, 0, "b", label="b"), Job(nap, 0, save=None))
        trace, lines = Trace(), io.StringIO()
        scheduler.run(journal=tmp_path / "run.db", instruments=[trace, Events(lines)])
    trace.export_as_json(tmp_path / "t.json")
    read = _trace_file.read_record(tmp_path / "t.json")
    described = "3 jobs: 3 succeeded (2 restored)"
    assert Tally.for_scheduler(scheduler).describe() == read.tally.describe() == described
    assert f">{described}<" in report_html(read, tmp_path)
    own = run_verdict(scheduler, scheduler.stop_reason, read.end_time - read.start_time).sentence
    assert own == read.verdict(read.runs[0], scheduler.stop_reason).sentence
    assert own.startswith(f"all 3 jobs succeeded (2 restored from {time.strftime('%Y-')}")
    restored = [event for line in lines.getvalue().splitlines() if (event := json.loads(line)).get("restored")]
    assert [event["path"] for event in restored] == ["a", "b"]
    assert [span.path for span in read.spans if span.restored] == ["a", "b"]


@pytest.mark.parametrize("name", RUNS)
def test_the_critical_path_is_that_of_the_trace(virtual: Virtual, tmp_path: Path, name: str) -> None:
    """A trace file has the critical path of the run, and `graph()` marks the same path without a trace.

    Without a trace, neither earlier runs of a nested scheduler nor earlier sizes of an adaptive window are known.
    """
    views = Views(virtual, RUNS[name][0](), tmp_path)
    if name not in ("a second attempt", "everything", "adaptive"):
        assert {job.path for job in find_critical_path(views.scheduler)} == {
            views.live.spans[link.span_number].path for link in views.live.critical_path_links
        }
    assert views.read.critical_path_links == views.live.critical_path_links
