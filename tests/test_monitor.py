"""What a monitor shows: which jobs, in which order, with what; at virtual times, drawn from inside the runs."""

from __future__ import annotations

import functools
import io
import itertools
import logging
import math
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from trioflow import Job, Monitor, Scheduler, Sequence, Service
from trioflow.abc import Instrument
from trioflow.view._script import width

from .bodies import fail, nap
from .monitors import Terminal, drawn, watched

if TYPE_CHECKING:
    from .conftest import Virtual


@pytest.fixture(autouse=True)
def only_these_tests_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """The monitor's own thread would draw at moments of its own, and a picture depends on those before it."""
    monkeypatch.setattr("trioflow.view._monitor_screen.Screen.wake", lambda _: None)


class Timed(Job[Any]):
    """A job that says how long it takes."""

    expected_duration = 10.0


async def serve(delay: float = 1, *, task_status: Any) -> None:
    await anyio.sleep(delay)
    task_status.started()
    await anyio.sleep(math.inf)


def look(monitor: Monitor, after: float, **size: int) -> tuple[Job[Any], list[str]]:
    """A forever job that draws once, `after` seconds, and the lines that it drew."""
    lines: list[str] = []

    async def draw() -> None:
        await anyio.sleep(after)
        lines.extend(drawn(monitor, **size))
        await anyio.sleep(math.inf)

    return Job(draw, label="look", forever=True), lines


def jobs_only(lines: list[str]) -> list[str]:
    """Without the head, and without the job that looks."""
    return [line for line in lines[2:] if not line.endswith("  look")]


def test_every_job_has_its_line(virtual: Virtual) -> None:
    """In the order of the listing, each with its symbol, its time, its label and how it failed; ⚠ if critical."""
    a, b = Job(nap, 2, label="a"), Job(fail, 1, label="b")
    last = Job(nap, 1, label="last", required=[a, b], critical=True)
    scheduler, monitor = watched(last, a, b, Job(nap, 90, label="long"))
    eye, lines = look(monitor, 65.5)
    scheduler.add(eye)
    virtual(scheduler.co_run)
    assert jobs_only(lines) == [
        "   ☓   2.0s  a",
        "   ★   1.0s  b     OSError: broken",
        "   ↺  1m05s  long",
        " ⚠ ☓   1.0s  last",
    ]


def test_the_head_counts(virtual: Virtual) -> None:
    """A bar, the part that is done, the time since the start, and how many jobs are where."""
    done = [Job(nap, 1, label=f"done {number}") for number in range(6)]
    slow = [Job(nap, 9), Job(nap, 9)]
    scheduler, monitor = watched(*done, Job(fail, 2), *slow, Job(nap, 1, required=slow))
    eye, lines = look(monitor, 3.5)
    scheduler.add(eye)
    virtual(scheduler.co_run)
    bar = "━" * 26 + "╍" * 8 + "─" * 4
    assert lines[0] == f" run  {bar}   70%   7/10      3s  ≈ 5s left"
    assert lines[1] == " ☓  6 done   ↺  2 running   ★  1 failed   ⚐  1 waiting   ∞  1 beside"


def test_nested_schedulers_are_open(virtual: Virtual) -> None:
    """Where there is room, a nested scheduler has a line with its counts, and its jobs theirs, indented."""
    inner = Scheduler(Job(nap, 1, label="x"), Job(fail, 2, label="y"), Job(nap, 9, label="z"), label="inner")
    scheduler, monitor = watched(inner, Job(nap, 1, label="after", required=inner))
    eye, lines = look(monitor, 4)
    scheduler.add(eye)
    virtual(scheduler.co_run)
    assert jobs_only(lines) == [
        "   ↺     4s  inner  2/3, 1 failed",
        "   ☓   1.0s    x",
        "   ★   2.0s    y    OSError: broken",
        "   ↺     4s    z",
        "   ⚐         after",
    ]


def test_nested_schedulers_are_folded(virtual: Virtual) -> None:
    """On request they have one line, and the failures inside them lines below, with where they happened."""
    inner = Scheduler(Job(nap, 1, label="x"), Job(fail, 2, label="y"), Job(nap, 9, label="z"), label="inner")
    scheduler, monitor = watched(inner, Job(nap, 1, label="after", required=inner), nested="folded")
    eye, lines = look(monitor, 4)
    scheduler.add(eye)
    virtual(scheduler.co_run)
    assert jobs_only(lines) == [
        "   ↺     4s  inner      2/3, 1 failed",
        "   ⚐         after",
        "   ★   2.0s  inner / y  OSError: broken",
    ]


def test_where_there_is_no_room_they_fold_by_themselves(virtual: Virtual) -> None:
    """Then the jobs that run inside stand below, and the rest is counted."""
    groups = [
        Scheduler(*(Job(nap, 3, label=f"{name}{number}") for number in range(20)), label=name, jobs_window=2)
        for name in "AB"
    ]
    scheduler, monitor = watched(*groups)
    eye, lines = look(monitor, 1)
    scheduler.add(eye)
    virtual(scheduler.co_run)
    groups_first, inside = jobs_only(lines)[:2], jobs_only(lines)[2:]
    assert [*groups_first, *sorted(inside, reverse=True)] == [
        "   ↺     1s  A        0/20",
        "   ↺     1s  B        0/20",
        "   ↺     1s  B / B1",
        "   ↺     1s  B / B0",
        "   ↺     1s  A / A1",
        "   ↺     1s  A / A0",
        "             … and 36 waiting",
    ]


def test_too_many_jobs(virtual: Virtual) -> None:
    """Those that run come first, failures next, what runs beside last; the rest is counted, nothing is cut."""
    bad = [Job(fail, 1 + number / 16, label=f"bad {number}") for number in range(9)]
    slow = [Job(nap, 60, label=f"slow {number}") for number in range(90)]
    scheduler, monitor = watched(*bad, *slow, Job(nap, required=bad, label="more"), jobs_window=40)
    eye, lines = look(monitor, 10, height=14)
    scheduler.add(eye)
    virtual(scheduler.co_run)
    assert [line[13:] for line in lines[2:]] == [
        *(f"slow {number}" for number in range(7)),
        *(f"bad {number}   OSError: broken" for number in (6, 7, 8)),
        "… and 33 running, 6 failed, 51 waiting",
        "look",
    ]


def test_a_job_keeps_its_line(virtual: Virtual) -> None:
    """What is over stays where it was until another job needs the line; nothing moves up."""
    jobs = [Job(nap, seconds, label=f"job {number}") for number, seconds in enumerate([9, 2, 9, 4, *[9] * 60])]
    scheduler, monitor = watched(*jobs, jobs_window=4)
    seen: list[list[str]] = []

    async def draw() -> None:
        drawn(monitor, height=9)
        for _ in range(3):
            await anyio.sleep(2.5)
            seen.append([line.split("  ")[-1].split(" ")[-1] for line in drawn(monitor, height=9)[2:6]])
        await anyio.sleep(math.inf)

    scheduler.add(Job(draw, forever=True))
    virtual(scheduler.co_run)
    assert seen == [["0", "4", "2", "3"], ["0", "4", "2", "5"], ["0", "4", "2", "5"]]


def test_what_is_over_stays_until_its_line_is_needed(virtual: Virtual) -> None:
    """When nothing is left to start, the last jobs remain to be seen."""
    jobs = [Job(nap, seconds, label=f"job {number}") for number, seconds in enumerate([9, 2, 3])]
    scheduler, monitor = watched(Sequence(jobs[1], *(Job(nap, 50) for _ in range(40))), jobs[0], jobs[2])
    eye, _ = look(monitor, 2.5, height=10)
    later, lines = look(monitor, 5, height=10)
    scheduler.update([eye, later])
    virtual(scheduler.co_run)
    assert [line[:12].strip() for line in lines[2:5]] == ["↺     5s", "☓   3.0s", "↺     3s"]


def test_what_runs_beside_is_apart(virtual: Virtual) -> None:
    """Forever jobs and services stand last, are not counted, and a service says whether it is ready."""
    soon, late = Service(serve, label="soon"), Service(serve, 60, label="late")
    watch = Scheduler(Job(nap, 70, label="inside"), label="watch", forever=True)
    scheduler, monitor = watched(soon, late, watch, Job(nap, 70, label="job", required=soon))
    eye, lines = look(monitor, 5)
    scheduler.add(eye)
    virtual(scheduler.co_run)
    assert lines[1] == " ☓ 0 done   ↺ 1 running   ★ 0 failed   ⚐ 0 waiting   ∞ 4 beside"
    assert jobs_only(lines) == [
        "   ↺     4s  job",
        "   ∞     5s  soon   ready",
        "   ∞     5s  late   starting",
        "   ∞     5s  watch  0/1",
    ]


def test_attempts_and_expected_durations_are_shown(virtual: Virtual) -> None:
    """A further attempt is said, and how long a job that runs should take."""
    scheduler, monitor = watched(
        Job(fail, 2, label="again", retry=3), Timed(nap, 20, label="timed"), Job(fail, 1, label="hopeless", retry=1)
    )
    eye, lines = look(monitor, 5)
    scheduler.add(eye)
    virtual(scheduler.co_run)
    assert jobs_only(lines) == [
        "   ↺     5s  again     attempt 3",
        "   ↺     5s  timed     of ≈10s",
        "   ★   2.0s  hopeless  OSError: broken",
    ]


def test_the_estimate_goes_by_the_graph_and_the_window(virtual: Virtual) -> None:
    """Five seconds after the start of four jobs of ten seconds fifteen remain, as there are two slots."""
    scheduler, monitor = watched(*(Timed(nap, 10) for _ in range(4)), jobs_window=2)
    eye, lines = look(monitor, 5)
    scheduler.add(eye)
    virtual(scheduler.co_run)
    assert lines[0].endswith("≈ 15s left")


def test_jobs_added_while_it_runs_appear(virtual: Virtual) -> None:
    """They are counted and have their lines, nested schedulers with all that is in them."""

    async def grow() -> None:
        await anyio.sleep(1)
        scheduler.add(Job(nap, 9, label="new"))
        scheduler.add(Scheduler(Job(nap, 9, label="deep"), label="nested"))

    scheduler, monitor = watched(Job(grow, label="grow"))
    eye, lines = look(monitor, 3)
    scheduler.add(eye)
    virtual(scheduler.co_run)
    assert lines[1].startswith(" ☓ 1 done   ↺ 2 running")
    assert jobs_only(lines) == [
        "   ☓   1.0s  grow",
        "   ↺     2s  new",
        "   ↺     2s  nested  0/1",
        "   ↺     2s    deep",
    ]


def test_a_nested_scheduler_that_is_tried_again_starts_afresh(virtual: Virtual) -> None:
    """What its earlier attempt has done and failed at is forgotten, in the counts and in the lines."""
    inner = Scheduler(
        Job(nap, 1, label="x"), Job(fail, 2, label="y", critical=True), Job(nap, 9, label="z"), label="in", retry=1
    )
    scheduler, monitor = watched(inner)
    eye, lines = look(monitor, 3.5)
    scheduler.add(eye)
    virtual(scheduler.co_run)
    assert lines[1].startswith(" ☓ 1 done   ↺ 2 running   ★ 0 failed   ⚐ 0 waiting")
    assert jobs_only(lines) == [
        "   ↺     3s  in    attempt 2, 1/3",
        "   ☓   1.0s    x",
        " ⚠ ↺     1s    y",
        "   ↺     1s    z",
    ]


def test_a_second_run_starts_afresh(virtual: Virtual) -> None:
    """Counts, clock and failures of the run before are gone."""
    attempts = iter([1, 0])

    async def first_fails() -> None:
        if next(attempts):
            raise OSError
        await anyio.sleep(5)

    scheduler, monitor = watched(Job(first_fails, label="job"), Job(nap, 3))
    virtual(scheduler.co_run)
    eye, lines = look(monitor, 2)
    scheduler.add(eye)
    virtual(scheduler.co_run)
    assert lines[1].startswith(" ☓ 0 done   ↺ 2 running   ★ 0 failed")
    assert repr(monitor) == "<Monitor>"


def test_one_run_at_a_time(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    """A run that begins while another is watched goes on without; the other keeps its monitor."""
    scheduler, monitor = watched(Job(nap, 5, label="kept"))
    other = Scheduler(Job(nap, 1), label="other", instruments=[monitor])
    eye, lines = look(monitor, 3)
    scheduler.add(eye)

    async def both() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.co_run)
            await anyio.sleep(1)
            tasks.start_soon(other.co_run)

    virtual(both)
    assert jobs_only(lines) == ["   ↺     3s  kept"]
    assert "give 'other' a Monitor() of its own" in caplog.text


@pytest.mark.parametrize(
    ("critical", "timeout", "said"),
    [(None, None, "completed in 5.0s"), (True, None, "stopped by a critical failure of bad in 2.0s"),
     (None, 3, "timed out in 3.0s")],
)  # fmt: skip
def test_the_last_picture_says_how_it_ended(virtual: Virtual, critical: bool | None, timeout: Any, said: str) -> None:
    """Why, after how long, and what was never started."""
    terminal = Terminal()
    bad = Job(fail, 2, label="bad", critical=critical)
    scheduler = Scheduler(bad, Sequence(Job(nap, 4), Job(nap, 1)), label="run", instruments=[Monitor(file=terminal)])
    virtual(functools.partial(scheduler.co_run, timeout=timeout))
    assert terminal.shown()[0] == f" run  {said}"
    never = "" if said.startswith("completed") else "⊘ 1 cancelled   ⚐ 1 never started"
    assert terminal.shown()[1].endswith(never or "☓ 2 done   ★ 1 failed")


def test_all_failures_remain_when_it_has_ended(virtual: Virtual) -> None:
    """The last picture of a large run has the failures, more than fit the window, up to a hundred."""
    terminal = Terminal()
    bad = [Job(fail, 1, label=f"bad {number}") for number in range(120)]
    virtual(Scheduler(*bad, instruments=[Monitor(file=terminal)]).co_run)
    lines = terminal.all_lines()
    assert lines[-103].endswith("completed in 1.0s")
    assert sum("OSError: broken" in line for line in lines[-101:]) == 100
    assert lines[-1] == "             … and 20 failed"


def test_the_picture_touches_only_what_it_shows(virtual: Virtual) -> None:
    """Of ten thousand jobs no more are asked for their label than there are lines."""
    asked: set[Any] = set()

    class Asked(Job[Any]):
        @property
        def label(self) -> str:
            asked.add(self)
            return "job"

    monitor = Monitor(file=Terminal())
    scheduler = Scheduler(jobs_window=100, instruments=[monitor])
    scheduler.update(Asked(nap, 3, label="x") for _ in range(10_000))

    async def draw() -> None:
        await anyio.sleep(1)
        asked.clear()
        drawn(monitor)
        assert 0 < len(asked) <= 24
        await anyio.sleep(1)
        scheduler.cancel()

    draws = Job(draw, forever=True)
    scheduler.add(draws)
    virtual(scheduler.co_run)
    assert draws.raised_exception() is None


@pytest.mark.parametrize("nested", ["open", "folded", "auto"])
def test_no_size_is_too_small(virtual: Virtual, nested: str) -> None:
    """No line is wider than the terminal, no picture higher, whatever the labels are."""
    labels = ["plain", "漢字の長いラベル" * 5, "tab\tand\x1b[31mred\nlines", "x" * 300]
    jobs = [Job(fail if number % 3 else nap, 1, label=label) for number, label in enumerate(labels * 5)]
    inner = Scheduler(*jobs, Job(nap, 9, label=labels[1]), label=labels[3])
    scheduler, monitor = watched(inner, Service(serve, label=labels[1]), label=labels[1], nested=nested)

    async def draw() -> None:
        await anyio.sleep(3)
        for columns, height in itertools.product([1, 5, 20, 39, 40, 60, 80, 200], [1, 2, 3, 5, 23]):
            lines = drawn(monitor, columns, height)
            assert 1 <= len(lines) <= height
            assert max(map(width, lines)) <= columns
            assert all(line.isprintable() for line in lines)

    draws = Job(draw)
    scheduler.add(draws)
    virtual(scheduler.co_run)
    assert draws.raised_exception() is None


def test_narrow_head(virtual: Virtual) -> None:
    """Twenty columns have room for a bar, the part that is done, the time, and the first counts."""
    scheduler, monitor = watched(*(Job(nap, 1) for _ in range(6)), *(Job(nap, 9) for _ in range(4)))
    eye, lines = look(monitor, 3, columns=20, height=2)
    scheduler.add(eye)
    virtual(scheduler.co_run)
    assert lines == [" ━━━━━╍╍╍╍   60%  3s", " ☓ 6  ↺ 4  ★ 0  ⚐ 0"]


def test_a_label_that_is_too_long_keeps_its_end(virtual: Virtual) -> None:
    """There numbers stand; what says where a job is nested gives way before the label does."""
    inner = Scheduler(Job(nap, 9, label="verify the checksum of number 17"), label="amsterdam")
    scheduler, monitor = watched(inner, *(Job(nap, 9) for _ in range(30)), nested="open")
    seen: list[str] = []

    async def draw() -> None:
        await anyio.sleep(1)
        for columns in (120, 90, 60):
            seen.extend(line.strip() for line in drawn(monitor, columns) if "17" in line)

    scheduler.add(Job(draw, forever=True))
    virtual(scheduler.co_run)
    assert seen == [
        "↺     1s  amsterdam / verify the checksum of number 17",
        "↺     1s  amst… verify the checksum of number 17",
        "↺     1s  verify the chec…mber 17",
    ]


# --- where it goes


def test_streams_that_lack_the_symbols_get_ascii(virtual: Virtual) -> None:
    """As in the listing, and so do bar, ellipsis and estimate."""
    terminal = Terminal(encoding="latin-1")
    jobs = [Job(nap, 1, label="漢"), Job(fail, 1, label="b", critical=False), Job(nap, 2, label="c")]
    scheduler = Scheduler(*jobs, label="run", instruments=[Monitor(file=terminal)])
    virtual(scheduler.co_run)
    assert terminal.shown() == [
        " run  completed in 2.0s",
        " x 2 done   * 1 failed",
        "   x   1.0s  \\u6f22",
        "   *   1.0s  b       OSError: broken",
        "   x   2.0s  c",
    ]


def lines_of(log: io.StringIO) -> list[str]:
    return [line[9:] for line in log.getvalue().splitlines()]


@pytest.mark.parametrize("term", ["dumb", "unknown", "xterm"])
def test_lines_where_it_is_no_terminal(virtual: Virtual, monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    """A line a start, an end and a failure, with the time of day; also on terminals that cannot move their cursor."""
    monkeypatch.setenv("TERM", term)
    log = io.StringIO() if term == "xterm" else Terminal()
    inner = Scheduler(Job(fail, 1, label="b"), label="inner")
    scheduler = Scheduler(Job(nap, 2, label="a"), inner, Service(serve, label="s"), label="run")
    virtual(functools.partial(scheduler.co_run, instruments=[Monitor(file=log)]))
    lines = lines_of(log)
    assert lines[0] == "run: 2 jobs"
    assert sorted(lines[1:-1]) == [
        "FAILED    inner / b  1.0s  OSError: broken",
        "done      a  2.0s",
        "done      inner  1.0s",
        "done      s  2.0s",
        "ready     s",
        "start     a",
        "start     inner",
        "start     inner / b",
        "start     s",
    ]
    assert lines[-1] == "completed in 2.0s: 1 done, 1 failed"
    assert all(line[2] == line[5] == ":" for line in log.getvalue().splitlines())


def test_lines_do_not_flood(virtual: Virtual) -> None:
    """Of many jobs only failures have lines, the first hundred, and each twentieth part of the way."""
    log = io.StringIO()
    jobs = [Job(fail if number % 10 == 3 else nap, 1, label=f"job {number}") for number in range(2000)]
    virtual(Scheduler(*jobs, jobs_window=50, label="run", instruments=[Monitor(file=log)]).co_run)
    lines = lines_of(log)
    assert sum(line.startswith("FAILED") for line in lines) == 100
    assert lines.count("further failures are counted only") == 1
    assert 19 <= sum("%" in line for line in lines) <= 20
    assert len(lines) < 125
    assert lines[-1].endswith("1800 done, 200 failed")


def test_lines_break_a_long_silence(virtual: Virtual, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing was said for long, a line says how far it is."""
    monkeypatch.setattr("trioflow.view._monitor_lines.PATIENCE", 0.02)
    log = io.StringIO()

    async def wait() -> None:
        while "% " not in log.getvalue():
            os.sched_yield()

    Scheduler(Job(wait, label="wait"), label="run", instruments=[Monitor(file=log)]).run()
    assert "  0% 1 running" in lines_of(log)


def test_what_is_no_option() -> None:
    """Each bad argument is an error that says what to give."""
    with pytest.raises(TypeError, match="no stream"):
        Monitor(file=42)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="choose one of auto, open, folded"):
        Monitor(nested="half")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"from 0\.1 to 60"):
        Monitor(refresh_per_second=1000)
    with pytest.raises(TypeError, match="number"):
        Monitor(refresh_per_second="fast")  # type: ignore[arg-type]


def test_without_rich() -> None:
    """trioflow is imported and runs without it; a Monitor says what to install."""
    code = (
        "import sys; sys.modules['rich'] = None\n"
        "import trioflow\n"
        "assert not [name for name in sys.modules if name.startswith('trioflow.view._monitor')]\n"
        "print(trioflow.Scheduler().run())\n"
        "trioflow.Monitor()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "True\n"
    assert done.stderr.rstrip().endswith("Monitor() needs rich, which is not installed: pip install 'trioflow[cli]'")


def test_an_engine_fault_of_its_own_gives_the_terminal_back(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a hook raises, it is logged and the monitor taken out; cursor and streams are as before, the run goes on."""
    terminal = Terminal()

    def broken(*_: object) -> None:
        raise LookupError("in the model")

    monkeypatch.setattr("trioflow.view._monitor_model.Model.start", broken)
    before = sys.stdout, sys.stderr
    assert virtual(Scheduler(Job(nap), instruments=[Monitor(file=terminal)]).co_run) is True
    assert (sys.stdout, sys.stderr) == before
    assert not terminal.screen.cursor.hidden
    assert "in the model" in caplog.text


def test_two_instruments_do_not_disturb_each_other(virtual: Virtual) -> None:
    """A nested scheduler's own monitor, on another stream, sees that scheduler alone."""

    class Count(Instrument):
        runs = 0

        def after_run(self, scheduler: Scheduler) -> None:  # type: ignore[override]
            self.runs += 1

    log, count = io.StringIO(), Count()
    inner = Scheduler(Job(nap, label="x"), label="inner", instruments=[Monitor(file=log)])
    scheduler, _ = watched(inner, Job(nap, label="y"))
    virtual(functools.partial(scheduler.co_run, instruments=[count]))
    assert lines_of(log) == ["inner: 1 job", "start     x", "done      x  1.0s", "completed in 1.0s: 1 done"]
    assert count.runs == 2
    assert logging.getLogger("trioflow").handlers == []
