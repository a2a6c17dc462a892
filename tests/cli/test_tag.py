"""`trioflow run --tag`: each printed line has the label of its job."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .command_line import process, trioflow, written

SCENARIO = """
import sys

async def halves(name):
    for end in (" ", "\\n"):
        print(name, end=end)
        await anyio.sleep(0.01)
    print("error", file=sys.stderr)

x = Scheduler(
    Job(halves, "a", label="job a"), Job(halves, "b", label="job b"), CommandJob("echo c", shell=True, label="program"),
    ProcessJob(print, "p", kwargs={"end": ""}, label="process"), label="run",
)
"""


def test_lines_in_a_log_have_tags(tmp_path: Path) -> None:
    """Without a terminal, each stream has whole lines of its jobs, with their labels."""
    done = process("run", "--tag", written(tmp_path, SCENARIO))
    assert done.returncode == 0, done.stderr
    tagged = {"job a: a a", "job b: b b", "program: c", "process: p"}
    assert tagged <= set(done.stdout.splitlines())
    assert sorted(done.stderr.splitlines()) == ["job a: error", "job b: error"]


def test_a_process_that_prints_into_a_pipe_loses_nothing(tmp_path: Path) -> None:
    """Prints in the function of a `ProcessJob` are flushed before it returns."""
    code = "x = Scheduler(ProcessJob(print, 'from the process', label='p'))"
    done = process("run", "--no-monitor", written(tmp_path, code), stdin=subprocess.DEVNULL)
    assert done.stdout.splitlines()[0] == "from the process"


def test_a_tag_needs_the_monitor_of_the_run(tmp_path: Path) -> None:
    """Without a monitor, or with the scenario's own, the option is rejected with advice."""
    done = trioflow("run", "--tag", "--no-monitor", written(tmp_path, SCENARIO))
    assert done.exit_code == 2
    assert "leave out --no-monitor" in done.stderr
    done = trioflow("run", "--tag", written(tmp_path, "x = Scheduler(instruments=[Monitor()])"))
    assert done.exit_code == 2
    assert "give its own Monitor tag=True" in done.stderr
