"""`trioflow run`: what it tells other programs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ..view.events.lines import checked
from .command_line import COMMAND, ENVIRONMENT, process, run, written

TWO = "x = Scheduler(Job(work, label='a'), CommandJob(['echo', 'from a command'], label='b'), label='two')"


def test_events_go_to_a_file(tmp_path: Path) -> None:
    """`--events FILE` writes a line for each event."""
    done = run("--events", tmp_path / "events", written(tmp_path, TWO))
    assert done.exit_code == 0
    events = checked((tmp_path / "events").read_text())
    assert [one["path"] for one in events if one["event"] == "job_finished"] == ["a", "b"]


def test_events_have_the_standard_output_for_themselves(tmp_path: Path) -> None:
    """With `-`, what the jobs and their commands print, and the outcome, are on the standard error."""
    done = process("run", "--events", "-", written(tmp_path, TWO))
    assert checked(done.stdout)[-1]["event"] == "run_ended"
    assert {"works", "from a command"} <= set(done.stderr.splitlines())
    assert "2 jobs: 2 succeeded" in done.stderr


def test_a_reader_that_has_seen_enough_does_not_stop_the_run(tmp_path: Path) -> None:
    """As with `head -1`: the run goes on to its end."""
    code = "x = Scheduler(*[Job(anyio.sleep, 0.01) for _ in range(30)], Job(work), jobs_window=1)"
    with subprocess.Popen(
        [*COMMAND, "run", "--events", "-", written(tmp_path, code)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, text=True,
    ) as ran:  # fmt: skip
        assert ran.stdout is not None
        assert ran.stderr is not None
        ran.stdout.readline()
        ran.stdout.close()
        assert "31 jobs: 31 succeeded" in ran.stderr.read()
    assert ran.returncode == 0


def test_a_file_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    """Nothing has run then."""
    done = run("--events", tmp_path / "no" / "events", written(tmp_path, TWO))
    assert done.exit_code == 2
    assert "there is no directory" in done.output


@pytest.mark.skipif(sys.platform != "linux", reason="a pseudo-file of Linux")
def test_a_full_disk_does_not_stop_the_run(tmp_path: Path) -> None:
    """The log says so; the exit code is that of the run."""
    done = process("run", "--no-monitor", "--events", "/dev/full", written(tmp_path, TWO))
    assert done.returncode == 0
    assert "No space left" in done.stderr
