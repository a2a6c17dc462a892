"""`trioflow simulate`: a table, and a sentence of advice."""

from __future__ import annotations

from pathlib import Path

from trioflow.cli._simulate import sufficient_window_text

from .command_line import trioflow, written

CODE = """
async def never():
    raise SystemExit("ran")
scenario = Scheduler(*(Job(never, expected_duration=hours * 3600) for hours in (1, 1, 1, 3)), jobs_window=2)
"""


def test_simulate_prints_a_line_for_each_window_and_policy(tmp_path: Path) -> None:
    """`simulate` prints a row for each window and policy, and compares the windows under the fastest policy."""
    done = trioflow("simulate", written(tmp_path, CODE), "--jobs", "1,2,0", "--policy", "fifo,critical-path")
    assert done.exit_code == 0
    assert (
        done.stdout
        == """\
window  policy         makespan  lower bound  slots used  results kept
     1  fifo                6 h          6 h       100 %             4
     2  fifo                4 h          3 h        75 %             4
  none  fifo                3 h          3 h                         4
     1  critical-path       6 h          6 h       100 %             4
     2  critical-path       3 h          3 h       100 %             4
  none  critical-path       3 h          3 h                         4

with critical-path, 2 slots are enough: no limit gains 0 %
"""
    )


def test_simulate_without_options_uses_the_settings_of_the_scheduler(tmp_path: Path) -> None:
    """Without options, `simulate` prints one row and no advice; with several policies, a sentence compares them."""
    file = written(tmp_path, CODE)
    lines = trioflow("simulate", file).stdout.splitlines()
    assert len(lines) == 2
    assert lines[1].split()[:2] == ["2", "auto"]
    lines = trioflow("simulate", file, "--policy", "critical-path,fifo").stdout.splitlines()
    assert lines[3:] == ["", "critical-path takes 25 % less time than fifo"]


def test_simulated_window_limits_jobs_in_nested_schedulers(tmp_path: Path) -> None:
    """A simulated window limits the jobs of nested schedulers as well, as `run -j` does."""
    groups = CODE.replace("jobs_window=2", "") + "groups = Scheduler(scenario, Job(never, expected_duration=3600))"
    lines = trioflow("simulate", f"{written(tmp_path, groups)}:groups", "--jobs", "1,2,0").stdout.splitlines()
    assert [line.split()[2] for line in lines[1:4]] == ["7", "4", "3"]
    assert ["100 %" in lines[1], "88 %" in lines[2]] == [True, True]


def test_simulated_runs_that_stop_early_have_the_reason(tmp_path: Path) -> None:
    """The row of a simulated run that a timeout stops has the reason, and no advice about the window follows."""
    file = written(tmp_path, CODE.replace("jobs_window=2", "timeout=7200"))
    lines = trioflow("simulate", file, "--jobs", "1,2").stdout.splitlines()
    assert len(lines) == 3
    assert all(line.endswith("stops early: TIMEOUT") for line in lines[1:])


def test_simulate_reports_the_number_of_jobs_without_a_known_duration(tmp_path: Path) -> None:
    """`simulate` says how many durations are unknown and what it assumes; if all are, it gives no advice."""
    some = written(tmp_path, CODE.replace("scenario =", "more =") + "scenario = Scheduler(more, Job(never))\n")
    assert trioflow("simulate", some).stdout.splitlines()[-1] == (
        "1 of 5 jobs has no known duration, and counts as the median of the others, 1 h"
    )
    none = written(tmp_path, CODE.replace("expected_duration=hours * 3600", "label=str(hours)"))
    lines = trioflow("simulate", none, "-j", "1,2,4").stdout.splitlines()
    assert lines[0].startswith("no duration is known, so each job counts as 1 s")
    assert [line.split()[0] for line in lines[1:] if line] == ["window", "1", "2", "4"]


def test_invalid_options_of_simulate_are_rejected(tmp_path: Path) -> None:
    """Invalid windows, unknown policies and durations of another version end `simulate` with exit code 2."""
    file = written(tmp_path, CODE)
    durations = tmp_path / "durations"
    durations.write_text('{"trioflow durations": 9, "seconds": {}}')
    for option, value, words in (
        ("--jobs", "4,x", "whole numbers"),
        ("--policy", "best", "choose from"),
        ("--durations", str(durations), "version 9"),
    ):
        done = trioflow("simulate", file, option, value)
        assert done.exit_code == 2
        assert words in done.stderr
        assert "trioflow check" not in done.stderr  # the scenario is all right


def test_advice_names_the_smallest_window_that_is_enough() -> None:
    """The advice names the smallest window that is nearly as fast as the largest, or says that more slots help."""
    assert sufficient_window_text([(4, 200.0), (8, 102.0), (16, 100.0)]) == "8 slots are enough: 16 gain 2 %"
    assert sufficient_window_text([(1, 5.0), (2, 5.0)]) == "1 slot is enough: 2 gain 0 %"
    assert sufficient_window_text([(4, 200.0), (8, 100.0)]) == "more slots help: 8 slots take 50 % less time than 4"
