"""A batch that `trioflow look` drains or cancels, whole or in part: what has not run is told, and no slot is lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from trioflow.view.look import _client
from trioflow.view.look._process_record import Record

from ..jobs.posix.process_trees import until_there
from ..places import PATIENCE
from .process import running


def steer(pid: int, do: str, value: str | None = None) -> Record:
    return _client.ask(pid, {"do": do, "value": value})


def joblog_of(log: Path) -> list[list[str]]:
    """Return the exit value, the signal and the command of each line of a job log."""
    return [line.split("\t")[-3:] for line in log.read_text().splitlines()[1:]]


def ends_with(line: str, file: str) -> str:
    return f"touch {line}; until test -e {file}; do sleep 0.01; done"


def test_a_drained_batch_lets_commands_end_and_fails(tmp_path: Path) -> None:
    """Both running commands end by themselves, however early one does; the third one does not start."""
    first, second, log = tmp_path / "first", tmp_path / "second", tmp_path / "log"
    go_first, go_second = tmp_path / "go-first", tmp_path / "go-second"
    lines = (ends_with(str(first), str(go_first)), ends_with(str(second), str(go_second)), "echo third")
    with running("-j2", "--joblog", str(log), ":::", *lines) as process:
        until_there(first, second)
        assert steer(process.pid, "drain") == {"done": "'batch': drained"}
        go_first.touch()
        while log.read_text().count("\n") < 2:
            time.sleep(0.001)
        go_second.touch()
        stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout) == (1, b"")
    assert joblog_of(log) == [["0", "0", line] for line in lines[:2]]
    assert "batch  ✗ drained, 2 of 3 commands succeeded, " in stderr.decode()


def test_a_command_that_is_cancelled_has_failed_and_frees_its_slot(tmp_path: Path) -> None:
    """With one slot, the next command starts; the cancelled one is a line of the job log, and of the summary."""
    here, log = tmp_path / "here", tmp_path / "log"
    line = f"touch {here}; sleep 1000"
    with running("-j1", "--joblog", str(log), ":::", line, "echo next") as process:
        until_there(here)
        assert steer(process.pid, "cancel", line) == {"done": f"{line!r}: cancelled"}
        stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout) == (1, b"next\n")
    assert joblog_of(log) == [["-1", "15", line], ["0", "0", "echo next"]]
    assert f"  {line}: cancelled" in stderr.decode().splitlines()


def test_a_batch_that_is_cancelled_has_failed(tmp_path: Path) -> None:
    """The verdict counts what has not run."""
    here = tmp_path / "here"
    with running("-j1", ":::", f"touch {here}; sleep 1000", "echo next") as process:
        until_there(here)
        steer(process.pid, "cancel")
        stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout) == (1, b"")
    assert "batch  ✗ cancelled, 0 of 2 commands succeeded, " in stderr.decode()


@pytest.mark.parametrize("part", ["feed", "report"])
def test_a_part_of_a_batch_cannot_be_cancelled_alone(part: str, tmp_path: Path) -> None:
    """The job that starts the commands, and the one that reports them, end with the batch."""
    here, go = tmp_path / "here", tmp_path / "go"
    with running("-j1", ":::", ends_with(str(here), str(go)), "echo next") as process:
        until_there(here)
        with pytest.raises(_client.NoAnswer, match=f"'{part}' is a part of the batch: drain the batch, or cancel it"):
            steer(process.pid, "cancel", part)
        go.touch()
        stdout, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout) == (0, b"next\n")
