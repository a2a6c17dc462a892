"""Pictures of the monitor in windows of any size, and their cost."""

import itertools
from typing import Any

import anyio
import pytest
from trioflow import Job, Monitor, Scheduler, Service
from trioflow.view.text._symbols import display_width
from ...bodies import fail, nap
from ...conftest import Virtual
from .monitors import Terminal, drawn, look, pictured, serve, watched


def test_a_picture_reads_only_the_labels_that_it_shows(virtual: Virtual) -> None:
    asked: set[Any] = set()

    class Asked(Job[Any]):
        def counted(self) -> str:
            asked.add(self)
            return "job"

    Asked.label = property(Asked.counted)  # type: ignore[assignment]  # which no class body may do
    monitor = Monitor(file=Terminal())
    scheduler = Scheduler(jobs_window=100, instruments=[monitor])
    scheduler.update(Asked(nap, 3, label="x") for _ in range(1000))

    async def draw() -> None:
        await anyio.sleep(1)
        asked.clear()
        assert len(drawn(monitor)) <= 24
        assert 0 < len(asked) <= 24
        await anyio.sleep(1)
        scheduler.cancel()

    draws = Job(draw, forever=True)
    scheduler.add(draws)
    virtual(scheduler.co_run)
    assert draws.raised_exception() is None


def test_the_picture_fits_a_terminal_of_any_size(virtual: Virtual) -> None:
    """No line is wider and no picture higher than the terminal, whatever the labels are."""
    labels = ["plain", "漢字の長いラベル" * 5, "tab\tand\x1b[31mred\nlines", "x" * 300]
    jobs = [Job(fail if number % 3 else nap, 1, label=label) for number, label in enumerate(labels * 5)]
    inner = Scheduler(*jobs, Job(nap, 9, label=labels[1]), label=labels[3])
    scheduler, monitor = watched(inner, Service(serve, label=labels[1]), label=labels[1])

    async def draw() -> None:
        await anyio.sleep(3)
        for columns, height in itertools.product([1, 5, 20, 39, 40, 60, 80, 200], [1, 2, 3, 5, 23]):
            lines = drawn(monitor, columns, height)
            assert 1 <= len(lines) <= height
            assert max(map(display_width, lines)) <= columns
            assert all(line.isprintable() for line in lines)

    draws = Job(draw)
    scheduler.add(draws)
    virtual(scheduler.co_run)
    assert draws.raised_exception() is None


def test_the_header_fits_into_twenty_columns(virtual: Virtual) -> None:
    scheduler, monitor = watched(*(Job(nap, 1) for _ in range(6)), *(Job(nap, 9) for _ in range(4)))
    lines = pictured(virtual, scheduler, monitor, 3, columns=20, height=2)
    assert lines == [" ━━━━╍╍╍╍   60%  3 s", " ✓ 6  ▸ 4  ✗ 0  · 0"]


def test_the_header_has_the_estimate_in_forty_columns(virtual: Virtual) -> None:
    scheduler, monitor = watched(
        *(Job(nap, 1) for _ in range(6)), *(Job(nap, 9, expected_duration=9) for _ in range(4))
    )
    scheduler.label = "release"
    eye, lines = look(monitor, 3, columns=40, height=2)
    early, without = look(monitor, 0.5, columns=40, height=2)
    scheduler.update([eye, early])
    virtual(scheduler.co_run)
    assert lines[0].startswith(" ━")
    assert lines[0].endswith("≈ 6 s left")
    assert without[0].startswith(" release  ╍")
    assert display_width(lines[0]) <= 40
    assert display_width(without[0]) <= 40


@pytest.mark.parametrize(("encoding", "ellipsis"), [("utf-8", "…"), ("ascii", "...")])
def test_a_verdict_that_is_too_long_ends_with_an_ellipsis(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch, encoding: str, ellipsis: str
) -> None:
    """In a narrow terminal, a verdict was cut as if it ended there: `1 skipped, 1` of `1 skipped, 105 ms`."""
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("LINES", "24")
    terminal = Terminal(columns=30, encoding=encoding)
    soft = Job(fail, 1, critical=False)
    virtual(Scheduler(soft, Job(nap, 1), label="run", instruments=[Monitor(file=terminal)]).co_run)
    verdict = next(line for line in terminal.shown() if "1 of 2 jobs" in line)
    assert verdict.endswith(ellipsis)
    assert 27 <= len(verdict) <= 30


def test_forever_jobs_use_the_lines_that_other_jobs_leave_free(virtual: Virtual) -> None:
    forever = [Job(nap, 99, label=f"watch {number}", forever=True) for number in range(4)]
    first = Job(nap, 9, label="first")
    scheduler, monitor = watched(first, *forever, *(Job(nap, 1, required=first) for _ in range(50)))
    lines = pictured(virtual, scheduler, monitor, 3, columns=80, height=12)
    assert sum("watch" in line for line in lines) == 4


def test_a_label_that_is_too_long_keeps_its_end(virtual: Virtual) -> None:
    """A label that is too long loses its middle: at its end there is usually a number, which distinguishes jobs."""
    inner = Scheduler(Job(nap, 9, label="verify the checksum of number 17"), label="amsterdam")
    scheduler, monitor = watched(inner, *(Job(nap, 9) for _ in range(30)))
    seen: list[str] = []

    async def draw() -> None:
        await anyio.sleep(1)
        for columns in (120, 90, 60):
            seen.extend(line.strip() for line in drawn(monitor, columns) if "17" in line)

    scheduler.add(Job(draw, forever=True))
    virtual(scheduler.co_run)
    assert seen == [
        "▸    1 s  amsterdam/verify the checksum of number 17",
        "▸    1 s  amst… verify the checksum of number 17",
        "▸    1 s  verify the …f number 17",
    ]
