"""A report that is kept up to date: whole at any moment, sparing, complete in the end, never in the way of the run."""

from __future__ import annotations

import errno
import logging
import re
import time
from pathlib import Path
from typing import Any

import pytest

from trioflow import Job, Scheduler, Trace
from trioflow.testing import run_virtual
from trioflow.view.trace.report import _live, _report
from trioflow.view.trace.report._live import LiveReport

from ...bodies import nap
from ...cli.command_line import run, written

LIVE = '"live":{"every":'

FLOW = """
from pathlib import Path

async def wait_for_page():
    page = Path(__file__).with_name("r.html")
    while not page.exists() or '"live":{' not in page.read_text():
        await anyio.sleep(0.01)

scenario = Scheduler(Job(wait_for_page, label="wait"), Job(work, label="a"), label="words")
"""


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages come every few milliseconds."""
    monkeypatch.setattr(_live, "FIRST", 0.001)
    monkeypatch.setattr(_live, "INTERVAL", 0.01)


def wait_until(holds: Any) -> None:
    give_up = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.002)


def record_of_a_run() -> Any:
    trace = Trace()
    run_virtual(lambda: Scheduler(Job(nap, 1, label="a"), label="words").co_run(instruments=[trace]))
    return trace._record


def test_there_is_a_page_while_it_runs(tmp_path: Path, backend: str) -> None:
    """The job of this run waits for the page about itself; the last one is complete, and nothing is left beside it."""
    page = tmp_path / "r.html"
    done = run(written(tmp_path, FLOW), "--backend", backend, "--report", page, "--live")
    assert done.exit_code == 0, done.stderr
    assert LIVE not in page.read_text()
    assert "no job failed." in page.read_text()
    assert [one.name for one in tmp_path.iterdir() if "html" in one.name] == ["r.html"]


def test_the_last_page_is_no_part_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal says of a run how long that took, as the report does: not how long the command was busy."""

    def slow(*_: object) -> None:
        time.sleep(0.2)

    monkeypatch.setattr(LiveReport, "__exit__", slow)
    monkeypatch.setattr(LiveReport, "__enter__", slow)
    page = tmp_path / "r.html"
    done = run(written(tmp_path, "x = Scheduler(Job(work), Scheduler(Job(work)))"), "--report", page, "--live")
    unit = {"s": 1.0, "ms": 1e-3, "µs": 1e-6}
    found = re.search(r"succeeded, ([\d.]+) (\w+)", done.stdout), re.search(r"took ([\d.]+) (\w+)", page.read_text())
    said, reported = (float(one[1]) * unit[one[2]] for one in found if one)
    assert abs(said - reported) < 0.2


def test_a_run_that_breaks_off(tmp_path: Path) -> None:
    """The page waits for no other, and does not say that the run is over."""
    page = tmp_path / "page.html"
    trace = Trace()

    scheduler = Scheduler(Job(nap, 5, label="a"), label="words")

    class Crash(BaseException):
        """What nobody expects."""

    async def crash() -> None:
        with LiveReport(trace._record, page):
            wait_until(lambda: page.exists())
            raise Crash

    scheduler.add(Job(crash, label="crash"))
    with pytest.raises(Crash):
        run_virtual(lambda: scheduler.co_run(instruments=[trace]))
    text = page.read_text()
    assert LIVE not in text
    assert "The run was still under way when this report was written" in text


def test_without_a_file_to_rename_it_is_refused(tmp_path: Path) -> None:
    """Without --report there is nothing to keep up to date, and a device must not be renamed away."""
    file = written(tmp_path, "x = Scheduler(Job(work, label='a'))")
    for options in ([], ["--report", "/dev/null"]):
        done = run(file, "--live", *options)
        assert done.exit_code == 2
        assert "give --report FILE.html with it" in done.stderr
        assert done.stdout == ""


def test_on_a_full_disk_the_old_page_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, the page is tried again, and what was written of it is not left behind."""
    page = tmp_path / "page.html"
    page.write_text("old")
    write, tries = Path.write_text, []

    def full(path: Path, text: str, **options: Any) -> int:
        tries.append(path)
        write(path, text[:100], **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING, "trioflow"):
        patched.setattr(Path, "write_text", full)
        with LiveReport(record_of_a_run(), page):
            wait_until(lambda: len(tries) > 3)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert page.read_text() == "old"
    (said,) = caplog.messages
    assert "cannot be brought up to date: No space left on device; the run goes on" in said
    with LiveReport(record_of_a_run(), page):
        wait_until(lambda: LIVE in page.read_text())


def test_a_page_that_takes_long_is_made_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a CPU it takes a share; what the first page took, which loads what makes pages, is no measure."""
    told: list[float] = []
    clock = [0.0]

    def html(record: Any, folder: Path, live: Any) -> str:
        told.append(live.every)
        clock[0] += 0.003
        return "page"

    monkeypatch.setattr(_report, "html", html)
    monkeypatch.setattr(_live.time, "thread_time", lambda: clock[0])
    with LiveReport(record_of_a_run(), tmp_path / "page.html"):
        wait_until(lambda: len(told) > 2)
    assert told[:3] == [0.01, 0.01, pytest.approx(0.003 / _live.PAGES)]


def test_a_graph_that_takes_long_is_drawn_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """In its place stands the one before, with its age."""
    clock = [0.0]

    def section(scheduler: object, path: object) -> str:
        clock[0] += 1.0
        return f"drawn at {clock[0]:g}"

    monkeypatch.setattr(_live._graph, "section", section)
    monkeypatch.setattr(_live.time, "monotonic", lambda: clock[0])
    graph = _live.SparingGraph()
    assert graph.section("x", {}) == "drawn at 1"
    clock[0] += 20
    before = graph.section("x", {})
    assert before.startswith('<p class="note">The graph is drawn less often than the rest: it is 21 s older.')
    assert before.endswith("drawn at 1")
    clock[0] += 1 / _live.GRAPHS
    assert graph.section("x", {}).startswith("drawn at 222")
