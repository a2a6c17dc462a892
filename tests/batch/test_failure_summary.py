"""The summary of a batch: nothing after a success, else how many commands failed, which, and why."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from ..jobs.posix.process_trees import until_there
from ..places import PATIENCE
from .process import batch, meanwhile, running

pytestmark = pytest.mark.usefixtures("plain_shell")


def summary_lines(stderr: str) -> list[str]:
    """Return the lines of the summary, without the duration."""
    return re.sub(r", [\d.]+ m?s\n", "\n", stderr.removeprefix(meanwhile(stderr))).splitlines()


def test_the_end_of_a_batch_counts_and_shows_failures() -> None:
    """A batch with failures once ended without saying so."""
    lines = ["exit 3", "kill -9 $$", "sleep 9", "./script", "true"]
    Path("script").write_text("#!/no/such/interpreter\n")
    Path("script").chmod(0o755)
    done = batch("-j1", "--timeout", "0.3", ":::", *lines)
    assert summary_lines(done.stderr) == [
        "batch  ✗ 4 of 5 commands failed",
        "  exit 3: exit code 3",
        "  kill -9 $$: ended by signal SIGKILL",
        "  sleep 9: ended by --timeout",
        "  ./script: not started: './script' exists, but the interpreter in its first line (#!) does not. "
        "The command: ./script",
    ]


def test_end_of_a_batch_lists_only_a_few_failures() -> None:
    """The summary lists five failures and counts the others; long or multi-line commands are shortened to a line."""
    done = batch("-j1", ":::", "exit 2 #\n\x1b[31m", "exit 3 #" + "x" * 500, *["exit 4"] * 6)
    head, first, second, *others = summary_lines(done.stderr)
    assert head == "batch  ✗ 8 of 8 commands failed"
    assert first == r"  exit 2 #\n\x1b[31m: exit code 2"
    assert re.fullmatch(r"  exit 3 #x+…x+: exit code 3", second)
    assert len(second) < 125
    assert others == ["  exit 4: exit code 4"] * 3 + ["  and 3 more"]


def test_commands_that_were_not_run_count_in_the_total() -> None:
    """The total of a summary has commands that were not run, also if they come from a file."""
    words = ["-j1", "--halt", "soon,fail=1", "exit"]
    assert summary_lines(batch(*words, ":::", 0, 5, 6, 7).stderr)[0] == "batch  ✗ 1 of 4 commands failed"
    Path("arguments").write_text("0\n5\n6\n7\n")
    assert summary_lines(batch(*words, "::::", "arguments").stderr)[0] == "batch  ✗ 1 of 4 commands failed"


def test_batch_that_a_success_rule_ended_prints_no_summary() -> None:
    """A batch that a success rule ended exits with 0 in spite of earlier failures, and prints no summary."""
    done = batch("-j1", "--halt", "soon,success=1", "exit", ":::", 5, 0, 7)
    assert (done.exit_code, summary_lines(done.stderr)) == (0, [])


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ([], "run again  the same command  (--journal FILE keeps what succeeds)"),
        (["--journal", "run.db"], "run again  the same command  (1 of 4 commands kept)"),
    ],
)
def test_summary_of_an_interrupted_batch_advises_how_to_continue(
    tmp_path: Path, options: list[str], advice: str
) -> None:
    """The summary of an interrupted batch once advised to call a Python function."""
    here = tmp_path / "here"
    with running(
        "-j1", *options, ":::", "true", "exit 3", f"touch {here}; sleep 1000", "true", cwd=tmp_path
    ) as process:
        until_there(here)
        process.send_signal(signal.SIGTERM)
        stderr = process.communicate(timeout=PATIENCE)[1].decode()
    assert process.returncode == 130
    assert meanwhile(stderr) == "SIGTERM: shutting down; a second one quits at once\n"
    assert summary_lines(stderr) == [
        "batch  ✗ interrupted, 1 of 4 commands failed, 1 succeeded",
        "  exit 3: exit code 3",
        f"  {advice}",
    ]


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
    assert summary_lines(stderr)[0] == "batch  ✗ interrupted, 2 commands succeeded"
