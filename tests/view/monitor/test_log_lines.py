"""Whole logs of a monitor without a terminal, and where they are: beside the log of the engine, folded, colored."""

import contextlib
import functools
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO
import pytest
from trioflow import First, Job, Monitor, Scheduler
from trioflow.view.monitor._log_display import MAX_LISTED_JOBS, LogDisplay
from trioflow.view.monitor._model import RunModel
from trioflow.view.monitor._monitor import build_command_monitor, has_colors
from trioflow.view.monitor._output_buffer import FoldedOutput, github_group
from trioflow.view.text._symbols import Symbols
from trioflow.view.text._verdict import RestoredJobs
from ...bodies import Flaw, fail, nap, nothing
from ...conftest import Virtual
from ...midway import answers_midway
from .monitors import Terminal


@contextlib.contextmanager
def both_streams(path: Path, errors: Path | None = None) -> Iterator[TextIO]:
    """Let both standard streams write to a file, or the second to another."""
    with (
        path.open("w", encoding="utf-8") as out,
        (errors or path).open("a", encoding="utf-8") as err,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        yield out


LOG = """
a\\x1bb: 9 jobs, and 3 forever jobs
start     quick
start     bad
start     watch
start     sick
start     race
start     race/one
start     race/two
start     optional
start     group
start     group/in
start     long
start     left
succeeded quick  500 ms
FAILED    bad  1.0 s  OSError: no\\x1b
blocked   after  RequirementFailed: 'after' cannot run, because 'bad' failed
blocked   server  RequirementFailed: 'server' cannot run, because 'bad' failed
FAILED    sick  1.0 s  Flaw: ill
FAILED    race/one  1.0 s  OSError: broken
FAILED    race/two  1.0 s  OSError: broken
FAILED    race  1.0 s  OSError: broken (one of 2)
FAILED    optional (tolerated)  1.0 s  OSError: broken
succeeded group/in  1.0 s
skipped   group/odd
succeeded group  1.0 s  1 skipped of 2
moved on  long  3.0 s
succeeded left  4.0 s
ended     watch  4.0 s
a\\x1bb  ✗ 3 failed, 1 blocked, 1 skipped, 1 tolerated of 10, 1 moved on after its timeout, 4.0 s; 2 forever
"""


def rich_run() -> Scheduler:
    bad = Job(fail, 1, OSError("no\x1b"), label="bad")
    inside = Job(nap, 1, label="in")
    return Scheduler(
        Job(nap, 0.5, label="quick"),
        bad,
        Job(nap, 9, label="watch", forever=True),
        Job(fail, 1, Flaw("ill"), label="sick", forever=True),
        Job(nothing, label="after", required=bad),
        Job(nap, 9, label="server", forever=True, required=bad),
        First(Job(fail, label="one"), Job(fail, label="two"), label="race"),
        Job(fail, label="optional", critical=False),
        Scheduler(
            inside,
            Job(nothing, label="odd", required=inside, run_if="failed"),
            label="group",
        ),
        Job(nap, 9, label="long", timeout=3, on_timeout="move_on"),
        Job(nap, 4, label="left"),
        label="a\x1bb",
    )


def test_a_log_has_a_line_for_each_start_and_each_end(virtual: Virtual) -> None:
    log = io.StringIO()
    scheduler = rich_run()
    virtual(functools.partial(scheduler.co_run, instruments=[Monitor(file=log)]))
    lines = [line[9:] for line in log.getvalue().splitlines()]
    assert sorted(lines) == sorted(LOG.strip().splitlines())
    assert (lines[0], lines[-1]) == (LOG.split("\n")[1], LOG.split("\n")[-2])


def test_a_log_without_the_failures_has_the_rest(virtual: Virtual) -> None:
    """The command prints them after the run."""
    log = io.StringIO()
    monitor = Monitor(file=log)
    monitor._are_failures_shown_elsewhere = True
    inner = Scheduler(Job(fail, label="b"), label="inner")
    virtual(functools.partial(Scheduler(inner).co_run, instruments=[monitor]))
    ends = [line[9:] for line in log.getvalue().splitlines() if "FAILED" in line]
    assert ends == ["FAILED    inner/b  1.0 s", "FAILED    inner  1.0 s  1 failed of 1"]


@pytest.mark.parametrize("beyond", [0, 1])
@pytest.mark.parametrize("place", ["one file", "two files", "a file of its own"])
def test_a_log_replaces_what_the_engine_logs_at_the_same_place(
    virtual: Virtual, tmp_path: Path, place: str, beyond: int
) -> None:
    """But no failures if it has no lines for jobs."""
    jobs = [Job(nothing) for _ in range(MAX_LISTED_JOBS + beyond)]
    other = tmp_path / "err" if place == "two files" else None
    with both_streams(tmp_path / "out", other) as stream:
        monitor = Monitor(file=stream if place == "a file of its own" else None)
        virtual(functools.partial(Scheduler(jobs).co_run, instruments=[monitor]))
    subjects = ["failure", "end"][beyond:] if place == "one file" else []
    assert [*monitor.shown_subjects] == subjects


@pytest.mark.parametrize(
    ("variable", "value", "is_folded"),
    [
        ("GITHUB_ACTIONS", "true", True),
        ("GITHUB_ACTIONS", "false", False),
        ("GITLAB_CI", "true", True),
        ("CI", "true", False),
    ],
)
@pytest.mark.parametrize("place", ["one file", "two files"])
def test_the_command_folds_lines_for_a_ci_system_that_says_true(
    virtual: Virtual,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variable: str,
    value: str,
    is_folded: bool,
    place: str,
) -> None:
    """If both streams are its log."""

    async def say() -> None:
        print("said")

    monkeypatch.setenv(variable, value)
    with both_streams(tmp_path / "out", tmp_path / "err" if "two" in place else None):
        monitor = build_command_monitor(False)
        scheduler = Scheduler(Job(say, label="job"), log=False)
        virtual(functools.partial(scheduler.co_run, instruments=[monitor]))
    text = (tmp_path / "out").read_text()
    assert text.count("said") == 1
    folds = text.count("::group::job\n") + text.count("collapsed=true")
    assert folds == (is_folded and place == "one file")


def test_lines_on_a_terminal_have_the_tags_of_their_jobs(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And without the option, none."""

    async def say() -> None:
        print("said")

    monkeypatch.setenv("TERM", "xterm")
    shown: list[str] = []
    for tag in (True, False):
        terminal = Terminal()
        with terminal.standard():
            scheduler = Scheduler(Job(say, label="job"), log=False)
            monitors = [Monitor(tag=tag)]
            virtual(functools.partial(scheduler.co_run, instruments=monitors))
        shown.append(terminal.all_lines()[0])
    assert shown == ["job: said", "said"]


@pytest.mark.parametrize(
    ("no_color", "force_color", "term", "expected"),
    [
        ("", "", "xterm", (True, False)), ("1", "", "xterm", (False, False)), ("", "1", "xterm", (True, True)),
        ("1", "1", "xterm", (False, False)), ("", "", "dumb", (False, False)), ("", "", "DUMB", (False, False)),
        ("", "", "unknown", (False, False)), ("", "1", "dumb", (True, True)), ("", "", "", (True, False)),
    ],
)  # fmt: skip
def test_no_color_is_stronger_than_force_color_and_that_than_the_stream(
    monkeypatch: pytest.MonkeyPatch,
    no_color: str,
    force_color: str,
    term: str,
    expected: tuple[bool, bool],
) -> None:
    """On a terminal, and in a file."""
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("FORCE_COLOR", force_color)
    monkeypatch.setenv("TERM", term)
    assert (has_colors(Terminal()), has_colors(io.StringIO())) == expected


def test_words_of_a_log_have_the_colors_of_their_states(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict, too: green if it is good, and red otherwise."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    Terminal()  # rich keeps the codes for the first terminal that it met
    found: list[list[str]] = []
    for body in (nap, fail):
        log = io.StringIO()
        long = Job(nap, 9, label="l", timeout=1, on_timeout="move_on")
        scheduler = Scheduler(Job(body, 2, label="j"), long, label="r")
        virtual(functools.partial(scheduler.co_run, instruments=[Monitor(file=log)]))
        found.append([line[9:] for line in log.getvalue().splitlines()[3:]])
    assert found == [
        [
            "\x1b[38;5;97mmoved on \x1b[0m l  1.0 s",
            "\x1b[38;5;29msucceeded\x1b[0m j  2.0 s",
            "\x1b[1;38;5;29mr  » 1 succeeded, 1 moved on after its timeout, 2.0 s\x1b[0m",
        ],
        [
            "\x1b[38;5;97mmoved on \x1b[0m l  1.0 s",
            "\x1b[1;38;5;196mFAILED   \x1b[0m j  2.0 s  OSError: broken",
            "\x1b[1;38;5;196mr  ✗ 1 failed of 2, 1 moved on after its timeout, 2.0 s\x1b[0m",
        ],
    ]


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="needs a zone of its own")
def test_times_for_people_are_of_their_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XXX-9")
    time.tzset()
    try:
        restored = RestoredJobs()
        restored.add(1_764_028_800.0, None)  # midnight in UTC
        restored.add(1_764_028_800.0 + 16 * 3600, None)
        assert restored.describe() == "2 restored from 2025-11-25 to 2025-11-26"
        log = io.StringIO()
        model: Any = None
        before = time.strftime("%H")
        LogDisplay(log, model, Symbols(), has_colors=False)._write_line("said")
        assert log.getvalue()[:2] in (before, time.strftime("%H"))
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(("ago", "lines"), [(29.0, 0), (31.0, 1)])
def test_a_log_says_how_a_run_is_if_half_of_a_minute_had_no_line(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch, ago: float, lines: int
) -> None:
    """Each line begins another half."""
    said: list[int] = []

    async def look() -> None:
        log = io.StringIO()
        display = LogDisplay(log, RunModel(scheduler), Symbols(), has_colors=False)
        display._last_line_at = time.monotonic() - ago
        for _ in range(2):
            display._report_if_silent()
            said.append(log.getvalue().count("%"))

    scheduler = Scheduler(Job(look))
    virtual(scheduler.co_run)
    assert said == [lines, lines]


def test_a_line_that_arrives_as_its_job_ends_is_not_held_until_the_run_ends() -> None:
    """Another thread reads the output of processes."""
    stream = io.StringIO()
    kept: list[tuple[FoldedOutput, Job[Any]]] = []

    def prepare() -> tuple[Callable[[], None], Callable[[], None]]:
        job = Job(nothing)
        output = FoldedOutput(["stdout", "stderr"], github_group, lambda _: "job")
        output.restore_streams()
        kept.append((output, job))

        def end() -> None:
            # As a thread does that has to wait for the lock.
            if not output._lock._is_owned():  # type: ignore[attr-defined]
                output.finish(job)

        return lambda: output.add_lines(["late"], job), end

    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        assert {*answers_midway(prepare)} == {None}
    for output, job in kept:
        assert (job in output._held) is (job not in output._ended_jobs)
