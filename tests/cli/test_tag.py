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


def test_tag_option_puts_the_label_of_the_job_before_each_line_of_a_log(tmp_path: Path) -> None:
    done = process("run", "--tag", written(tmp_path, SCENARIO))
    assert done.returncode == 0, done.stderr
    tagged = {"job a: a a", "job b: b b", "program: c", "process: p"}
    assert tagged <= set(done.stdout.splitlines())
    assert sorted(done.stderr.splitlines()) == ["job a: error", "job b: error"]


def test_output_of_a_process_job_into_a_pipe_is_complete(tmp_path: Path) -> None:
    code = "x = Scheduler(ProcessJob(print, 'from the process', label='p'))"
    done = process("run", "--no-monitor", written(tmp_path, code), stdin=subprocess.DEVNULL)
    assert done.stdout.splitlines()[0] == "from the process"


def test_tag_option_without_the_monitor_of_the_command_is_rejected(tmp_path: Path) -> None:
    done = trioflow("run", "--tag", "--no-monitor", written(tmp_path, SCENARIO))
    assert done.exit_code == 2
    assert "leave out --no-monitor" in done.stderr
    done = trioflow("run", "--tag", written(tmp_path, "x = Scheduler(instruments=[Monitor()])"))
    assert done.exit_code == 2
    assert "--tag does not change the scheduler's own Monitor" in done.stderr
