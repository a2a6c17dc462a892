"""A user's job with attributes named like a scheduler's is shown as a job by every view."""

import io
import re
from pathlib import Path
from typing import Any

import anyio.lowlevel
import pytest
from trioflow import AbstractJob, Monitor, Scheduler, Trace
from trioflow._check import findings
from trioflow.view import listing, save
from ..conftest import Virtual
from .graph.pictures import mermaid

SCHEDULERS_OWN = sorted(name for name in dir(Scheduler) if not name.startswith("_") and not hasattr(AbstractJob, name))


class Busy(AbstractJob[int]):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in SCHEDULERS_OWN:
            setattr(self, name, 7)

    async def co_run(self) -> int:
        await anyio.lowlevel.checkpoint()
        raise OSError("broken")


@pytest.fixture
def scheduler() -> Scheduler:
    busy = Busy(label="busy")
    return Scheduler(
        busy,
        Scheduler(Busy(label="inside", required=None), label="inner", required=busy, run_if="settled"),
        label="outer",
    )


def run_virtually(virtual: Virtual, scheduler: Scheduler, *instruments: Any) -> Scheduler:
    async def main() -> None:
        await scheduler.co_run(instruments=instruments)

    virtual(main)
    return scheduler


def test_text_views_show_a_job_with_scheduler_attributes_as_a_job(virtual: Virtual, scheduler: Scheduler) -> None:
    """Listing, debrief and `explain` show a user's job with a scheduler's attributes as a job."""
    run_virtually(virtual, scheduler)
    assert "1    ✗    <Busy busy>" in listing(scheduler, details=True)
    told = io.StringIO()
    scheduler.debrief(told)
    assert "2 jobs: 2 failed" in told.getvalue()
    assert "2 failures of one kind:\n  busy\n  inner/inside\n" in told.getvalue()
    assert all("OSError" in scheduler.explain(job) for job in scheduler.iterate_jobs() if isinstance(job, Busy))


@pytest.mark.parametrize("options", [{}, {"collapse": True}], ids=str)
def test_graphs_draw_a_job_with_scheduler_attributes_as_a_box(scheduler: Scheduler, options: Any) -> None:
    assert scheduler.graph(**options).source.count("subgraph") == (0 if "collapse" in options else 1)
    assert mermaid(scheduler, **options).count("subgraph") == (0 if "collapse" in options else 1)


def test_monitor_counts_a_job_with_scheduler_attributes_as_a_job(virtual: Virtual, scheduler: Scheduler) -> None:
    log = io.StringIO()
    run_virtually(virtual, scheduler, Monitor(file=log))
    assert "outer: 2 jobs" in log.getvalue()
    assert log.getvalue().count("FAILED") == 3  # with that of the nested scheduler
    assert "2 failed of 2" in log.getvalue().splitlines()[-1]


def test_exports_show_a_job_of_odd_attributes_as_one(virtual: Virtual, scheduler: Scheduler, tmp_path: Path) -> None:
    trace = Trace()
    run_virtually(virtual, scheduler, trace)
    assert [span.path for span in trace.spans] == ["busy", "inner", "inner/inside"]
    assert len(trace.spans) == 3
    save(trace, tmp_path / "t.csv")
    save(trace, tmp_path / "t.json")
    save(trace, tmp_path / "t.svg")
    save(trace, tmp_path / "t.html")
    page = (tmp_path / "t.html").read_text(encoding="utf-8")
    (failures,) = re.findall(r'class="failure".*?</ul>', page, re.DOTALL)  # of one kind, and so together
    assert "busy" in failures
    assert "inner/inside" in failures


def test_check_finds_no_fault_in_a_job_with_scheduler_attributes(scheduler: Scheduler) -> None:
    assert findings(scheduler) == []
