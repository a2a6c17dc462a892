"""`trioflow simulate`: the predicted duration of a run, with one window and one policy."""

from __future__ import annotations

from pathlib import Path

from .command_line import trioflow, written

CODE = """
async def never():
    raise SystemExit("ran")
scenario = Scheduler(*(Job(never, expected_duration=hours * 3600) for hours in (1, 1, 1, 3)), jobs_window=2)
"""


def facts(*arguments: str) -> dict[str, str]:
    """Return the value of each fact that `trioflow simulate` prints."""
    lines = trioflow("simulate", *arguments).stdout.partition("\n\n")[0].splitlines()
    return {line[:12].strip(): line[12:].strip() for line in lines}


def test_simulate_prints_the_facts_of_a_run_with_one_setting(tmp_path: Path) -> None:
    """`simulate` prints the window, the policy, and what a run with them would take, a line for each."""
    done = trioflow("simulate", written(tmp_path, CODE), "--jobs", "2", "--policy", "fifo")
    assert done.exit_code == 0
    assert (
        done.stdout
        == """\
window        2
policy        fifo
makespan      4 h
lower bound   3 h
slots used    75 %
results kept  4
"""
    )


def test_simulate_without_options_uses_the_settings_of_the_scheduler(tmp_path: Path) -> None:
    """Without options, the window and the policy are the scheduler's own; without a window, no slots are counted."""
    file = written(tmp_path, CODE)
    own, unlimited = facts(file), facts(file, "-j", "0")
    assert (own["window"], own["policy"]) == ("2", "auto")
    assert unlimited["window"] == "none"
    assert own.keys() - unlimited.keys() == {"slots used"}


def test_simulated_window_limits_jobs_in_nested_schedulers(tmp_path: Path) -> None:
    """A simulated window limits the jobs of nested schedulers as well, as `run -j` does."""
    groups = CODE.replace("jobs_window=2", "") + "groups = Scheduler(scenario, Job(never, expected_duration=3600))"
    file = f"{written(tmp_path, groups)}:groups"
    found = [facts(file, "--jobs", size) for size in "120"]
    assert [one["makespan"] for one in found] == ["7 h", "4 h", "3 h"]
    assert [one.get("slots used") for one in found] == ["100 %", "88 %", None]


def test_a_simulated_run_that_stops_early_has_the_reason(tmp_path: Path) -> None:
    """If a timeout stops the simulated run, a line has the reason."""
    assert "stops early" not in facts(written(tmp_path, CODE))
    assert facts(written(tmp_path, CODE.replace("jobs_window=2", "timeout=7200")))["stops early"] == "TIMEOUT"


def test_simulate_reports_the_number_of_jobs_without_a_known_duration(tmp_path: Path) -> None:
    """`simulate` says how many durations are unknown and what it assumes."""
    some = written(tmp_path, CODE.replace("scenario =", "more =") + "scenario = Scheduler(more, Job(never))\n")
    assert trioflow("simulate", some).stdout.splitlines()[-1] == (
        "1 of 5 jobs has no known duration, and counts as the median of the others, 1 h"
    )
    none = written(tmp_path, CODE.replace("expected_duration=hours * 3600", "label=str(hours)"))
    assert (
        trioflow("simulate", none).stdout.splitlines()[-1].startswith("no duration is known, so each job counts as 1 s")
    )


def test_invalid_options_of_simulate_are_rejected(tmp_path: Path) -> None:
    """Invalid windows, unknown policies and durations of another version end `simulate` with exit code 2."""
    file = written(tmp_path, CODE)
    durations = tmp_path / "durations"
    durations.write_text('{"trioflow durations": 9, "seconds": {}}')
    for option, value, words in (
        ("--jobs", "1,2,4", "whole number"),
        ("--policy", "best", "critical-path"),
        ("--durations", str(durations), "version 9"),
    ):
        done = trioflow("simulate", file, option, value)
        assert done.exit_code == 2
        assert words in done.stderr
        assert "trioflow check" not in done.stderr  # the scenario is all right


def test_durations_nested_too_deeply_are_rejected(tmp_path: Path) -> None:
    """A file of deep JSON as `--durations` is no file of durations; the error is one line with its name."""
    durations = tmp_path / "durations"
    durations.write_text('{"a":' + "[" * 200_000)
    done = trioflow("simulate", written(tmp_path, CODE), "--durations", str(durations))
    assert done.exit_code == 2
    assert "is not a durations file" in done.stderr
