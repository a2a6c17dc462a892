"""`trioflow simulate`: a table, and one sentence."""

from __future__ import annotations

from pathlib import Path

from trioflow.cli._simulate import verdict

from .command_line import trioflow, written

CODE = """
async def never():
    raise SystemExit("ran")
scenario = Scheduler(*(Job(never, expected_duration=hours * 3600) for hours in (1, 1, 1, 3)), jobs_window=2)
"""


def test_a_table_of_windows_and_policies(tmp_path: Path) -> None:
    """One line for each pair, and a sentence about the windows."""
    done = trioflow("simulate", written(tmp_path, CODE), "--jobs-window", "1,2,0", "--policy", "fifo,critical-path")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["window", "policy", "makespan", "lower", "bound", "used", "results"]
    assert lines[2].split()[:2] == ["2", "fifo"]
    assert len(lines) == 9
    assert lines[-1] == "2 slots are enough: no limit gains 0 %"


def test_the_schedulers_own_settings(tmp_path: Path) -> None:
    """Without options there is one line, and no sentence."""
    lines = trioflow("simulate", written(tmp_path, CODE)).stdout.splitlines()
    assert len(lines) == 2
    assert lines[1].split()[:2] == ["2", "auto"]


def test_what_is_refused(tmp_path: Path) -> None:
    """Windows that are no numbers, unknown policies, and durations of another version, each with exit code 2."""
    file = written(tmp_path, CODE)
    durations = tmp_path / "durations"
    durations.write_text('{"trioflow durations": 9, "seconds": {}}')
    for option, value, words in (
        ("--jobs-window", "4,x", "whole numbers"),
        ("--policy", "best", "choose from"),
        ("--durations", str(durations), "version 9"),
    ):
        done = trioflow("simulate", file, option, value)
        assert done.exit_code == 2
        assert words in done.stderr


def test_sentences() -> None:
    """The smallest window that is nearly as fast as the largest is enough; otherwise more slots help."""
    assert verdict({(4, None): 200.0, (8, None): 102.0, (16, None): 100.0}) == "8 slots are enough: 16 gain 2 %"
    assert verdict({(4, None): 200.0, (8, None): 100.0}) == "more slots help: 8 slots take 50 % less time than 4"
    assert verdict({(4, None): 200.0}) == ""
