"""The summary of a batch: nothing after a success, else how many commands failed, which, and why."""

import json
import re
import signal
from pathlib import Path

import pytest
from ..jobs.posix.process_trees import until_there
from ..places import PATIENCE, patiently
from .process import batch, meanwhile, running

pytestmark = pytest.mark.usefixtures("plain_shell")


def summary_lines(stderr: str) -> list[str]:
    return re.sub(r", [\d.]+ m?s\n", "\n", stderr.removeprefix(meanwhile(stderr))).splitlines()


@patiently(0.3, 3, 30)
def test_the_end_of_a_batch_counts_and_shows_failures(unit: float) -> None:
    lines = ["exit 3", "sleep 900", "kill -9 $$", "./script", "true"]
    Path("script").write_text("#!/no/such/interpreter\n")
    Path("script").chmod(0o755)
    done = batch("-j1", "--timeout", unit, ":::", *lines)
    assert summary_lines(done.stderr) == [
        "batch  ✗ 4 failed of 5",
        "  kill -9 $$: ended by signal SIGKILL",
        "  exit 3: exit code 3",
        "  sleep 900: ended by --timeout",
        "  ./script: not started: './script' exists, but the interpreter in its first line (#!) does not. "
        "The command: ./script",
    ]


def test_end_of_a_batch_has_a_line_for_each_kind_of_failure() -> None:
    """The summary counts failures of one kind in one line; long or multi-line commands are shortened."""
    done = batch("-j1", ":::", "exit 2 #\n\x1b[31m", "exit 3 #" + "x" * 500, *["exit 4"] * 6)
    head, first, second, *others = summary_lines(done.stderr)
    assert head == "batch  ✗ 8 failed of 8"
    assert first == r"  exit 2 #\n\x1b[31m: exit code 2"
    assert re.fullmatch(r"  exit 3 #x+…x+: exit code 3", second)
    assert len(second) < 125
    assert others == ["  exit 4, exit 4, exit 4 and 3 more: exit code 4"]


def test_no_crash_is_hidden_behind_other_failures() -> None:
    done = batch("-j1", ":::", *[f"exit {code}" for code in range(1, 13)], "kill -9 $$")
    _, crash, *_, others = summary_lines(done.stderr)
    assert crash == "  kill -9 $$: ended by signal SIGKILL"
    assert others == "  and 3 more"


def test_of_many_timeouts_the_first_is_reported_at_once() -> None:
    """Each timeout once had a line when it happened, and another one at the end."""
    done = batch("--timeout", "0.2", "-j3", "sleep", ":::", 7, 8, 9)
    assert len(meanwhile(done.stderr).splitlines()) == 1
    assert meanwhile(done.stderr).startswith("trioflow batch: ended by --timeout: sleep ")
    (line,) = summary_lines(done.stderr)[1:]
    assert sorted(re.findall(r"sleep \d", line)) == ["sleep 7", "sleep 8", "sleep 9"]
    assert line.endswith(": ended by --timeout")


def test_restored_timeouts_are_not_reported_as_new() -> None:
    """A resumed batch once printed the timeouts of the first one again, as if they had just happened."""
    words = ["--journal", "run.db", "--keep", "all", "--timeout", "0.2", "sleep", ":::", 7]
    batch(*words)
    done = batch(*words)
    assert meanwhile(done.stderr) == ""
    assert summary_lines(done.stderr)[1:] == ["  sleep 7: ended by --timeout"]


def test_nothing_is_advised_when_nothing_is_left_to_do() -> None:
    """A batch whose failures are all kept once advised to run the same command again."""
    words = ["--journal", "run.db", "exit", ":::", 0, 3]
    assert batch(*words).stderr.splitlines()[-1] == "  run again  the same command  (1 of 2 commands kept)"
    assert batch("--keep", "all", *words).stderr.splitlines()[-1] == "  exit 3: exit code 3"


@patiently(0.5, 5, 50)
def test_a_command_that_leaves_processes_has_its_own_exit_code(unit: float) -> None:
    """A timeout that only ends what a failed command has left once hid its exit code: -1, and no signal."""
    log, table = Path(f"log{unit}"), Path(f"{unit}.jsonl")
    done = batch("--timeout", unit, "--joblog", log, "--results", table, ":::", "sleep 100 & exit 3")
    row = json.loads(table.read_text())
    reason = "exit code 3; what it left running was ended by --timeout"
    assert (row["exit_code"], row["signal"], row["failure"]) == (3, 0, reason)
    assert log.read_text().splitlines()[1].split("\t")[6:8] == ["3", "0"]
    assert summary_lines(done.stderr)[1:] == [f"  sleep 100 & exit 3: {reason}"]


@patiently(0.3, 3, 30)
def test_only_a_command_that_has_exited_has_an_exit_code_in_a_table(unit: float) -> None:
    """A crash once had the exit code 0 in a table, as in a job log, so that it seemed a success."""
    lines, table = ["exit 0", "exit 3", "kill -9 $$", "sleep 900"], Path(f"{unit}.jsonl")
    batch("-j1", "--timeout", unit, "--results", table, ":::", *lines)
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    assert [(row["exit_code"], row["signal"], row["failure"]) for row in rows] == [
        (0, 0, None), (3, 0, "exit code 3"), (None, 9, "ended by signal SIGKILL"), (None, 15, "ended by --timeout"),
    ]  # fmt: skip


def test_commands_that_were_not_run_count_in_the_total() -> None:
    words = ["-j1", "--halt", "soon,fail=1", "exit"]
    assert summary_lines(batch(*words, ":::", 0, 5, 6, 7).stderr)[0] == "batch  ✗ 1 failed, 2 never started of 4"
    Path("arguments").write_text("0\n5\n6\n7\n")
    assert summary_lines(batch(*words, "::::", "arguments").stderr)[0] == "batch  ✗ 1 failed, 2 never started of 4"


def test_batch_that_a_success_rule_ended_prints_no_summary() -> None:
    """A batch that a success rule ended exits with 0 in spite of earlier failures, and prints no summary."""
    done = batch("-j1", "--halt", "soon,success=1", "exit", ":::", 5, 0, 7)
    assert (done.exit_code, summary_lines(done.stderr)) == (0, [])


def test_summary_of_an_interrupted_batch_advises_how_to_continue(tmp_path: Path) -> None:
    """The summary of an interrupted batch once advised to call a Python function."""
    here = tmp_path / "here"
    with running("-j1", ":::", "true", "exit 3", f"touch {here}; sleep 1000", "true", cwd=tmp_path) as process:
        until_there(here)
        process.send_signal(signal.SIGTERM)
        stderr = process.communicate(timeout=PATIENCE)[1].decode()
    assert process.returncode == 143
    assert meanwhile(stderr) == "SIGTERM: shutting down; a second one quits at once\n"
    assert summary_lines(stderr) == [
        "batch  ✗ interrupted, 1 failed, 1 cancelled, 1 never started of 4, 1 succeeded",
        "  exit 3: exit code 3",
        "  run again  the same command  (--journal FILE keeps what succeeds)",
    ]


def test_a_command_that_fails_and_runs_again_is_cancelled_by_a_signal(tmp_path: Path) -> None:
    """A command that has been attempted once was among those that never started."""
    began = tmp_path / "began"
    words = ("-j1", "--retries", "0", ":::", f"echo >> {began}; exit 3", "true")
    with running(*words) as process:
        until_there(began)
        process.send_signal(signal.SIGTERM)
        stderr = process.communicate(timeout=PATIENCE)[1].decode()
    assert summary_lines(stderr)[0] == "batch  ✗ interrupted, 0 of 2 commands succeeded, 1 cancelled, 1 never started"


def test_summary_of_a_batch_interrupted_while_it_reads_arguments_has_no_total(tmp_path: Path) -> None:
    """A batch interrupted while it read arguments once claimed that all commands had succeeded."""
    here = tmp_path / "here"
    with running("-j1", cwd=tmp_path) as process:
        assert process.stdin is not None
        process.stdin.write(f"true\ntrue\ntouch {here}; sleep 1000\n".encode())
        process.stdin.flush()
        until_there(here)
        process.send_signal(signal.SIGTERM)
        stderr = process.communicate(timeout=PATIENCE)[1].decode()
    assert summary_lines(stderr)[0] == "batch  ✗ interrupted, 2 commands succeeded, 1 cancelled"
