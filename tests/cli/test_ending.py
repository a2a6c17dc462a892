"""The end of `trioflow run` on a terminal: a verdict, the counts, and each kind of failure once."""

from __future__ import annotations

import os
import pty
from pathlib import Path

import pyte

from ..pythons import Python
from .command_line import ENVIRONMENT, WORDS, process, written

CODE = """
def broken(name):
    raise KeyError(name)

build = Job(fail, label="build", retry=1)
tests = Scheduler(*(Job(work, label=f"test {n}") for n in range(3)), label="tests", required=build, run_if="succeeded")
nodes = [Job(fail, label=f"node {number}") for number in range(7)]
x = Scheduler(build, tests, nodes, ProcessJob(broken, "x", label="process"), label="release")
"""


def on_a_terminal(*arguments: str) -> list[str]:
    """Run the command on a terminal of its own, and return the lines that are left on it."""
    ours, theirs = pty.openpty()
    screen = pyte.HistoryScreen(100, 80)
    stream = pyte.ByteStream(screen)
    environment = {name: value for name, value in ENVIRONMENT.items() if name not in ("COLUMNS", "LINES")}
    with Python([*WORDS, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as running:
        os.close(theirs)
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # Linux says so when the other end is closed
                break
            stream.feed(data)
        assert running.wait() == 3
    os.close(ours)
    return "\n".join(line.rstrip() for line in screen.display).rstrip().splitlines()


def test_on_a_terminal_each_failure_is_told_once(tmp_path: Path) -> None:
    """The verdict is one line, counts and jobs follow, then each kind with the user's frames; nothing is told twice."""
    shown = on_a_terminal("run", written(tmp_path, CODE))
    text = "\n".join(shown)
    assert shown[0].startswith(" release  ✗ 9 of 12 jobs failed, ")
    assert "✗  9 failed" in shown[1]
    assert text.count("OSError: broken") == 1
    assert text.count("KeyError: 'x'") == 2  # the second is where it was raised in the process
    assert "debrief" not in text
    assert "stop reason" not in text
    assert "_child.py" not in text
    assert shown[-1] == "not run: tests (3 jobs), because build failed"


def test_a_log_has_a_line_for_each_kind(tmp_path: Path) -> None:
    """Where there is no terminal, the first failure of a kind is a line at once, the others one, with names."""
    done = process("run", written(tmp_path, CODE))
    assert done.returncode == 3
    lines = [line for line in done.stderr.splitlines() if " failed" in line and line.startswith("'")]
    assert len(lines) == 2
    assert not any("debrief" in line for line in lines)
    counted = next(line for line in done.stderr.splitlines() if "more jobs failed with OSError" in line)
    assert counted.endswith(" and 2 more")
    assert counted.count("'") == 2 * 6
    assert done.stderr.count("Traceback") == 2
    assert "again     build  attempt 2 of 2" in done.stdout
    assert "  ✗ 9 of 12 jobs failed, " in done.stdout.splitlines()[-1]
    assert "OSError" not in done.stdout


def test_logging_of_the_users_own_gets_all(tmp_path: Path) -> None:
    """A file that has set up logging has each line in its form, and the command prints none of its own."""
    code = "import logging\nlogging.basicConfig(format='LOG %(message)s')\nx = Scheduler(Job(fail, label='b'))"
    done = process("run", written(tmp_path, code))
    assert done.stderr.count("LOG 'b' failed: OSError: broken; the run goes on; debrief() shows the traceback") == 1
    assert done.stderr.count("'b' failed") == 1
