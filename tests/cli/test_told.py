"""`trioflow run`: its output for other programs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..pythons import Python
from ..view.events.lines import checked
from .command_line import ENVIRONMENT, WORDS, process, run, trioflow, written

TWO = "x = Scheduler(Job(work, label='a'), CommandJob(['echo', 'from a command'], label='b'), label='two')"


def test_events_go_to_a_file(tmp_path: Path) -> None:
    """`--events FILE` writes a line for each event."""
    done = run("--events", tmp_path / "events", written(tmp_path, TWO))
    assert done.exit_code == 0
    events = checked((tmp_path / "events").read_text())
    assert [one["path"] for one in events if one["event"] == "job_finished"] == ["a", "b"]


def test_events_have_the_standard_output_for_themselves(tmp_path: Path) -> None:
    """With `-`, the output of jobs and commands, and the outcome, go to standard error."""
    done = process("run", "--events", "-", written(tmp_path, TWO))
    assert checked(done.stdout)[-1]["event"] == "run_ended"
    assert {"works", "from a command"} <= set(done.stderr.splitlines())
    assert "all 2 jobs succeeded" in done.stderr


def test_a_reader_that_has_seen_enough_does_not_stop_the_run(tmp_path: Path) -> None:
    """The run goes on to its end, as with `head -1`."""
    code = "x = Scheduler(*[Job(anyio.sleep, 0.01) for _ in range(30)], Job(work), jobs_window=1)"
    with Python(
        [*WORDS, "run", "--events", "-", written(tmp_path, code)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, text=True,
    ) as ran:  # fmt: skip
        assert ran.stdout is not None
        assert ran.stderr is not None
        ran.stdout.readline()
        ran.stdout.close()
        assert "all 31 jobs succeeded" in ran.stderr.read()
    assert ran.returncode == 0


def test_a_file_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    """No job has run by then."""
    done = run("--events", tmp_path / "no" / "events", written(tmp_path, TWO))
    assert done.exit_code == 2
    assert "there is no directory" in done.output


@pytest.mark.skipif(sys.platform != "linux", reason="a pseudo-file of Linux")
def test_a_full_disk_does_not_stop_the_run(tmp_path: Path) -> None:
    """The log has the error; the exit code is that of the run."""
    done = process("run", "--no-monitor", "--events", "/dev/full", written(tmp_path, TWO))
    assert done.returncode == 0
    assert "No space left" in done.stderr


# --- trioflow monitor


def test_a_run_is_shown_from_its_events_afterwards(tmp_path: Path) -> None:
    """`trioflow monitor FILE` ends when the run has ended, and `-` reads a pipe."""
    run("--events", tmp_path / "events", written(tmp_path, TWO))
    done = trioflow("monitor", tmp_path / "events")
    assert done.exit_code == 0
    assert "all 2 jobs succeeded" in done.output
    piped = process("monitor", "-", input=(tmp_path / "events").read_text())
    assert piped.returncode == 0
    assert "all 2 jobs succeeded" in piped.stdout


def test_a_run_is_shown_while_it_goes_on(tmp_path: Path) -> None:
    """The monitor follows the file of another process, and ends with it."""
    code = "x = Scheduler(Job(anyio.sleep, 1.5, label='long'), label='far')"
    file = written(tmp_path, code)
    events = tmp_path / "events"
    words = [*WORDS, "run", "--no-monitor", "--events", events, file]
    with Python(words, stdout=subprocess.DEVNULL, env=ENVIRONMENT) as ran:
        while not events.exists() or not events.stat().st_size:
            time.sleep(0.02)
        done = process("monitor", tmp_path / "events")
        assert ran.wait() == 0
    assert done.returncode == 0
    assert "1 job succeeded" in done.stdout


def test_a_run_that_was_killed_is_shown_as_far_as_it_got(tmp_path: Path) -> None:
    """The exit code and a line report that its end is missing."""
    code = "import os, signal\nx = Scheduler(Job(work), Job(anyio.sleep, 0.3, label='n'))\n"
    code += "x.add(Job(lambda: os.kill(os.getpid(), 9) or work(), required=list(x)))"
    assert process("run", "--events", tmp_path / "events", written(tmp_path, code)).returncode == -9
    done = process("monitor", tmp_path / "events")
    assert done.returncode == 1
    assert "has not told its end" in done.stderr


def test_a_file_without_events_is_refused(tmp_path: Path) -> None:
    """The error names the commands that write events."""
    file = tmp_path / "x"
    file.write_text("nothing\n")
    done = process("monitor", file)
    assert done.returncode == 2
    assert "--events" in done.stderr


# --- CI


def test_reports_for_ci_are_written(tmp_path: Path) -> None:
    """Neither `--junit` nor `--summary` changes the exit code of the run."""
    code = "x = Scheduler(Job(work, label='a'), Job(fail, label='b'), label='two')"
    done = run("--junit", tmp_path / "j.xml", "--summary", tmp_path / "s.md", written(tmp_path, code))
    assert done.exit_code == 3
    assert 'tests="2" failures="1"' in (tmp_path / "j.xml").read_text()
    assert "1 of 2 jobs failed" in (tmp_path / "s.md").read_text()


def test_on_github_the_summary_comes_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Annotations come as well; the traceback is in a group of the log, and only there."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "s.md"))
    done = run(written(tmp_path, "x = Scheduler(Job(fail, label='b'))"))
    assert "::error " in done.output
    assert done.output.count("Traceback") == 1
    assert "failure of b" not in done.output
    assert "1 of 1 job failed" in (tmp_path / "s.md").read_text()
