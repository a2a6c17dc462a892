"""Monitors without a terminal, or on a poor one, and the arguments that they reject."""

import functools
import io
import itertools
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
import anyio
import pytest
from trioflow import (
    Budget,
    Job,
    Monitor,
    Pool,
    Rate,
    Retry,
    Scheduler,
    Service,
    Throttled,
    current_job,
)
from trioflow.abc import Instrument
from trioflow.view.monitor._output_buffer import MAX_HELD_CHARACTERS
from ...bodies import fail, nap, raising
from ...cli.command_line import ENVIRONMENT, process, written
from ...conftest import Virtual
from ...pythons import python
from .monitors import Terminal, serve, watched


def test_an_attempt_has_one_line(virtual: Virtual) -> None:
    """In a log, a retry has one line, which says why, and no line for a start; a throttle has one, with its length."""

    async def flaky() -> None:
        if current_job().attempts < 3:
            raise OSError(f"time {current_job().attempts}")

    async def throttled() -> None:
        if len(attempts) < 2:
            attempts.append("")
            await anyio.sleep(1)
            raise Throttled("api", after=1)

    attempts: list[str] = []
    log = io.StringIO()
    jobs = (
        Job(flaky, label="flaky", retry=Retry(2, first=1)),
        Job(throttled, label="slow", needs={"api": 1}),
    )
    virtual(
        Scheduler(
            *jobs,
            pool=Pool(api=Rate(requests=1, per=1)),
            instruments=[Monitor(file=log)],
        ).co_run
    )
    lines = [" ".join(line.split()[:10]) for line in lines_of(log)[1:-1]]
    assert [line for line in lines if "flaky" in line][:3] == [
        "start flaky",
        "retry flaky attempt 2 of 3, after OSError: time 1",
        "retry flaky attempt 3 of 3, after OSError: time 2",
    ]
    begun = ["start slow", "throttled slow api for 1 s"]
    assert [line for line in lines if "slow" in line][:5] == [
        *begun,
        *begun,
        "start slow",
    ]


def test_a_job_that_runs_again_after_a_success_is_no_retry(virtual: Virtual) -> None:
    """A retry has a reason, and a job whose success was taken back has none: "retry, after" ended in nothing."""

    async def take_back() -> None:
        await anyio.sleep(3)
        made.try_again()
        await anyio.sleep(3)

    log = io.StringIO()
    made = Job(nap, 1, label="made")
    used = Job(nap, 1, label="used", required=made)
    virtual(
        Scheduler(made, used, Job(take_back), instruments=[Monitor(file=log)]).co_run
    )
    lines = [" ".join(line.split()) for line in lines_of(log)]
    assert [line for line in lines if "attempt" in line] == [
        "again made attempt 2",
        "again used attempt 2",
    ]


def test_streams_that_lack_the_symbols_get_ascii(virtual: Virtual) -> None:
    """On a stream that cannot encode the symbols, the monitor writes ASCII symbols and escaped labels."""
    terminal = Terminal(encoding="latin-1")
    jobs = [Job(nap, 1, label="漢"), Job(fail, 1, label="b"), Job(nap, 2, label="c")]
    virtual(Scheduler(*jobs, label="run", instruments=[Monitor(file=terminal)]).co_run)
    assert terminal.shown() == [
        " run  x 1 failed of 3, 2.0 s",
        "   +  1.0 s  \\u6f22",
        "   x  1.0 s  b       OSError: broken",
        "   +  2.0 s  c",
    ]


def lines_of(log: io.StringIO) -> list[str]:
    return [line[9:] for line in log.getvalue().splitlines()]


@pytest.mark.parametrize("term", ["dumb", "unknown", "xterm"])
def test_files_and_dumb_terminals_get_lines(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    """To a file or a dumb terminal, the monitor writes each start, end and failure as a line with the time of day."""
    monkeypatch.setenv("TERM", term)
    log = io.StringIO() if term == "xterm" else Terminal()
    inner = Scheduler(Job(fail, 1, label="b"), label="inner")
    scheduler = Scheduler(
        Job(nap, 2, label="a"), inner, Service(serve, label="s"), label="run"
    )
    scheduler.add(Job(anyio.sleep_forever, label="watch", forever=True))
    virtual(functools.partial(scheduler.co_run, instruments=[Monitor(file=log)]))
    lines = lines_of(log)
    assert lines[0] == "run: 2 jobs, and 2 forever jobs"
    assert sorted(lines[1:-1]) == [
        "FAILED    inner  1.0 s  1 failed of 1",  # the line of its job has the exception
        "FAILED    inner/b  1.0 s  OSError: broken",
        "ended     s  2.0 s",
        "ended     watch  2.0 s",
        "ready     s",
        "start     a",
        "start     inner",
        "start     inner/b",
        "start     s",
        "start     watch",
        "succeeded a  2.0 s",
    ]
    assert lines[-1] == "run  ✗ 1 failed of 2, 2.0 s; 2 forever"
    assert all(line[2] == line[5] == ":" for line in log.getvalue().splitlines())


def test_the_line_of_a_nested_scheduler_counts_its_failed_jobs(
    virtual: Virtual,
) -> None:
    """The line for the end of a nested scheduler counts the failed jobs in it, at any depth; a tolerated failure
    is shown as such."""
    log = io.StringIO()
    good, bad = (
        Scheduler(Job(call, 1), Job(nap, 1), label=call.__name__)
        for call in (nap, fail)
    )
    bad.critical_jobs = False
    outer = Scheduler(good, bad, label="outer")
    virtual(functools.partial(Scheduler(outer).co_run, instruments=[Monitor(file=log)]))
    assert (
        "FAILED    outer/fail/fail(1) (tolerated)  1.0 s  OSError: broken"
        in lines_of(log)
    )
    assert [line for line in lines_of(log) if line.startswith("succeeded outer")][
        -3:
    ] == [
        "succeeded outer/nap  1.0 s",
        "succeeded outer/fail  1.0 s  1 tolerated of 2",
        "succeeded outer  1.0 s  1 tolerated of 4",
    ]


def test_the_number_of_lines_is_limited_for_many_jobs(virtual: Virtual) -> None:
    """With many jobs, the monitor's log has each twentieth of the progress; the engine's log has the failures."""
    log = io.StringIO()
    jobs = [
        Job(fail if number % 10 == 3 else nap, 1, label=f"job {number}")
        for number in range(400)
    ]
    virtual(
        Scheduler(
            *jobs, jobs_window=10, label="run", instruments=[Monitor(file=log)]
        ).co_run
    )
    lines = lines_of(log)
    assert 19 <= sum("%" in line for line in lines) <= 20
    assert len(lines) == 2 + sum("%" in line for line in lines)
    assert (
        lines[-1] == "run  ✗ 40 failed of 400, 40.0 s"
    )  # which once had the counts twice


@pytest.mark.parametrize("phase", ["", "paused", "draining"])
def test_progress_line_is_written_after_a_long_time_without_events(
    monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    """After a long time without events, the monitor's log gets a progress line: is the run alive, paused, draining?"""
    monkeypatch.setattr(
        "trioflow.view.monitor._log_display.SILENCE_CHECK_INTERVAL", 0.02
    )
    log = io.StringIO()

    async def wait() -> None:
        {"paused": scheduler.pause, "draining": scheduler.drain}.get(
            phase, lambda: None
        )()
        while "% " not in log.getvalue():
            os.sched_yield()

    scheduler = Scheduler(
        Job(wait, label="wait"), label="run", instruments=[Monitor(file=log)]
    )
    scheduler.run()
    [line] = [line for line in lines_of(log) if "% " in line]
    assert line.startswith(f"  0% 1 running; {phase}" if phase else "  0% 1 running")


def test_lines_mark_jobs_restored_from_the_journal(
    backend: str, tmp_path: Path
) -> None:
    for _ in range(2):
        log = io.StringIO()
        jobs = Job(nap, 0, label="kept"), Job(nap, 0, label="not kept", save=None)
        Scheduler(*jobs).run(
            backend=backend,
            journal=tmp_path / "run.db",
            instruments=[Monitor(file=log)],
        )
    ends = [line for line in lines_of(log)[1:-1] if not line.startswith("start")]
    assert ends[0] == "restored  kept"
    assert ends[1].startswith("succeeded not kept")
    assert [lines_of(log)[-1].count(word) for word in ("succeeded", "restored")] == [
        1,
        1,
    ], "which it had twice"


def test_the_last_progress_line_has_nothing_reserved(virtual: Virtual) -> None:
    """What the job has used that has just ended is spent, although it still holds its share of the budget then."""
    log = io.StringIO()
    jobs = [Job(nap, 1 + number, needs={"usd": 1}) for number in range(201)]
    virtual(
        Scheduler(
            *jobs, pool=Pool(usd=Budget(300)), instruments=[Monitor(file=log)]
        ).co_run
    )
    assert lines_of(log)[-2] == "100% 201 succeeded; usd 201 of 300 spent"


def test_invalid_arguments_of_a_monitor_raise() -> None:
    with pytest.raises(TypeError, match="not a stream"):
        Monitor(file=42)  # type: ignore[arg-type]


def test_only_monitor_raises_without_rich() -> None:
    """Without rich, trioflow can be imported and run; only `Monitor()` raises, with the package to install."""
    code = (
        "import sys\n"
        "for name in [*sys.modules]:\n"
        "    if name.partition('.')[0] in ('rich', 'trioflow'): del sys.modules[name]\n"
        "sys.modules['rich'] = None\n"
        "import trioflow\n"
        "assert not [name for name in sys.modules if name.startswith('trioflow.view.monitor._monitor')]\n"
        "print(trioflow.Scheduler().run())\n"
        "trioflow.Monitor()"
    )
    done = python("-c", code, text=True)
    assert done.stdout == "True\n"
    advice = (
        "Monitor() needs rich, which is not installed: pip install 'trioflow[monitor]'"
    )
    assert done.stderr.rstrip().endswith(advice)


def test_an_error_in_a_monitor_hook_restores_the_terminal(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in a hook of the monitor is logged, and the cursor and the standard streams are restored."""
    terminal = Terminal()
    monkeypatch.setattr(
        "trioflow.view.monitor._model.RunModel.job_started",
        raising(LookupError("in the model")),
    )
    before = sys.stdout, sys.stderr
    assert (
        virtual(Scheduler(Job(nap), instruments=[Monitor(file=terminal)]).co_run)
        is True
    )
    assert (sys.stdout, sys.stderr) == before
    assert not terminal.screen.cursor.hidden
    assert "in the model" in caplog.text


def test_the_monitor_of_a_nested_scheduler_shows_that_scheduler_alone(
    virtual: Virtual,
) -> None:
    class Count(Instrument):
        runs = 0

        def after_run(self, scheduler: Scheduler) -> None:  # type: ignore[override]
            self.runs += 1

    log, count = io.StringIO(), Count()
    inner = Scheduler(
        Job(nap, label="x"), label="inner", instruments=[Monitor(file=log)]
    )
    scheduler, _ = watched(inner, Job(nap, label="y"))
    virtual(functools.partial(scheduler.co_run, instruments=[count]))
    assert lines_of(log) == [
        "inner: 1 job",
        "start     x",
        "succeeded x  1.0 s",
        "inner  ✓ 1 job succeeded, 1.0 s",
    ]
    assert count.runs == 2
    assert logging.getLogger("trioflow").handlers == []


@pytest.mark.parametrize("keep_jobs", [True, False])
def test_a_forever_job_that_failed_counts_as_any_other(
    virtual: Virtual, keep_jobs: bool
) -> None:
    log = io.StringIO()
    jobs = [
        Job(fail, 1, label="watch", forever=True),
        Job(nap, 2),
        Job(nap, 3),
        Job(anyio.sleep_forever, forever=True),
    ]
    inner = Scheduler(
        Job(fail, 1, label="beside", forever=True), Job(nap, 3), label="inner"
    )
    virtual(
        Scheduler(
            jobs,
            inner,
            label="run",
            keep_jobs=keep_jobs,
            instruments=[Monitor(file=log)],
        ).co_run
    )
    assert "run  ✗ 2 failed of 5, 3.0 s" in lines_of(log)[-1]


# --- in the log of a CI system that folds lines, `trioflow run` folds those that a job has written

TALKERS = """
    import sys

    async def talk(name, error=None):
        print(name, "begins")
        await anyio.sleep(0.01)
        print(name, "warns", file=sys.stderr)
        print(name, "ends", end="")
        if error is not None:
            raise error

    both = [Job(talk, name, label=name) for name in ("one", "two")]
    shell = CommandJob("echo from; echo a shell >&2", shell=True, label="shell", required=both)
    inner = Scheduler(*both, shell, label="inner")
    scheduler = Scheduler(inner, Job(talk, "bad", ValueError("no"), label="bad", required=inner), label="ci")
"""


def log(directory: Path, code: str, variable: str = "") -> str:
    """Return the log of a CI system, without the times."""
    environment = {**ENVIRONMENT, **({variable: "true"} if variable else {})}
    words = "run", written(directory, code)
    done = process(
        *words,
        env=environment,
        text=False,
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
    )
    return re.sub(r"^\d\d:\d\d:\d\d ", "", done.stdout.decode(), flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("variable", "begin", "end"),
    [
        ("GITHUB_ACTIONS", "::group::{}", "::endgroup::"),
        (
            "GITLAB_CI",
            "\x1b[0Ksection_start:TIME:trioflow_NUMBER[collapsed=true]\r\x1b[0K{}",
            "\x1b[0Ksection_end:TIME:trioflow_NUMBER\r\x1b[0K",
        ),
    ],
)
def test_the_lines_of_each_job_are_a_group(
    tmp_path: Path, variable: str, begin: str, end: str
) -> None:
    """Groups cannot overlap, so each stands where its job ends; the lines of a job that fails are in none."""
    text = re.sub(
        r"\d{10}:trioflow_\d+", "TIME:trioflow_NUMBER", log(tmp_path, TALKERS, variable)
    )
    for name in ("one", "two"):
        lines = f"{name} begins\n{name} warns\n{name} ends"
        assert (
            f"{begin.format(f'inner/{name}')}\n{lines}\n{end}\nsucceeded inner/{name}"
            in text
        )
    shell = rf"{re.escape(begin.format('inner/shell'))}\n(from\na shell|a shell\nfrom)\n{re.escape(end)}\n"
    assert re.search(shell, text)
    assert begin.format("bad") not in text
    assert re.search(
        r"\nbad begins\nbad warns\nbad ends('bad' failed: .*)?\nFAILED    bad", text
    )


def test_without_a_ci_system_lines_are_as_they_were_written(tmp_path: Path) -> None:
    text = log(tmp_path, TALKERS)
    assert "group" not in text
    assert "section" not in text
    assert text.index("two begins") < text.index("one warns")


def test_a_job_that_writes_much_has_several_groups(tmp_path: Path) -> None:
    """What is held does not grow without a bound, and each line is written once."""
    code = f"""
        async def write():
            for number in range(3):
                print((str(number) * 1023 + "\\n") * {MAX_HELD_CHARACTERS // 2000}, end="")

        scheduler = Scheduler(Job(write, label="much"), label="ci")
    """
    lines = log(tmp_path, code, "GITHUB_ACTIONS").splitlines()
    found = [
        kind
        for kind, _ in itertools.groupby(line[:1] for line in lines)
        if kind in ("0", "1", "2", ":")
    ]
    assert found == [":", "0", "1", ":", "2", ":"]
    assert sum(line[:1] in ("0", "1", "2") for line in lines) == 3 * (
        MAX_HELD_CHARACTERS // 2000
    )


def test_bytes_that_a_stream_refuses_lose_no_line(tmp_path: Path) -> None:
    """click tries whether a stream takes bytes; what a job had begun to write on that line was lost."""
    code = """
        import sys

        async def write():
            print("kept", end="")
            try:
                sys.stdout.write(b"")
            except TypeError:
                print(" line")

        scheduler = Scheduler(Job(write, label="writes"))
    """
    assert "::group::writes\nkept line\n::endgroup::\n" in log(
        tmp_path, code, "GITHUB_ACTIONS"
    )


def test_what_a_command_captures_folds_with_what_its_job_prints(tmp_path: Path) -> None:
    """`stdout=PIPE` is for the JUnit file, too: the log has it all the same, but not of a job with `redact=True`."""
    code = """
        import subprocess

        def echo(word, **options):
            return CommandJob(["echo", word], stdout=subprocess.PIPE, label=f"says {len(word)}", **options)

        scheduler = Scheduler(echo("shown"), echo("hidden", redact=True))
    """
    text = log(tmp_path, code, "GITHUB_ACTIONS")
    assert "::group::says 5\nshown\n::endgroup::\n" in text
    assert "hidden" not in text


def test_both_streams_are_the_users_again_after_a_log_with_tags(
    virtual: Virtual, capsys: pytest.CaptureFixture[str]
) -> None:
    async def say() -> None:
        print("out")
        print("error", file=sys.stderr)

    before = sys.stdout, sys.stderr
    monitor = Monitor(file=io.StringIO(), tag=True)
    virtual(
        functools.partial(Scheduler(Job(say, label="j")).co_run, instruments=[monitor])
    )
    assert (sys.stdout, sys.stderr) == before
    said = capsys.readouterr()
    assert ("j: out\n" in said.out, "j: error\n" in said.err) == (True, True)
