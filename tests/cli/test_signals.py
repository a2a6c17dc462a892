"""Signals to the command: the first ends the run cleanly, and the second ends the command immediately."""

import os
import pty
import re
import signal
import subprocess
import threading
from pathlib import Path
import pytest
from ..places import PATIENCE
from ..pythons import Python
from .command_line import ENVIRONMENT, WORDS, written

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]

ACTOR = """
import time
def say(word):
    print(word, flush=True)
class Actor(AbstractJob):
    async def co_run(self):
        say("runs")
        try:
            await anyio.sleep(60)
        finally:
            say("unwinds")
    async def co_shutdown(self):
        say("begins")
        await anyio.sleep({shutdown})
        say("shut down")
scenario = Scheduler(Actor(label="actor"), shutdown_timeout=30)
"""
BLOCKS = """
import time
async def block():
    print("blocks", flush=True)
    while True:
        time.sleep(0.001)
scenario = Scheduler(Job(block))
"""


DRAINS = """
from trioflow.abc import current_run
class Actor(AbstractJob):
    async def co_run(self):
        print("runs", flush=True)
        while not ({is_over}):
            await anyio.sleep(0.001)
        print("ended", flush=True)
scenario = Scheduler(Sequence(Actor(label="first"), Actor(label="second")))
"""


def signalled(
    *arguments: str, sends: dict[str, signal.Signals]
) -> tuple[int, list[str]]:
    """Run the command and send it each signal at its line; return its exit code and its lines."""
    words = [*WORDS, "run", "--no-monitor", *arguments]
    lines: list[str] = []
    with Python(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        timer = threading.Timer(PATIENCE, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line.rstrip("\n"))
                number = next(
                    (sends[key] for key in sends if lines[-1].endswith(key)), None
                )
                if number is not None:
                    process.send_signal(number)
        finally:
            timer.cancel()
            timer.join()
    lines = [
        line for line in lines if not line.startswith("slowest chain")
    ]  # there only where the machine is slow
    return process.returncode, lines


@pytest.mark.parametrize("number", SIGNALS)
def test_first_signal_ends_the_run_cleanly(
    tmp_path: Path, backend: str, number: signal.Signals
) -> None:
    """At the first signal, jobs unwind and are shut down, the verdict is printed; shells report such exit codes."""
    file = written(tmp_path, ACTOR.format(shutdown=0))
    code, lines = signalled(file, "--backend", backend, sends={"runs": number})
    assert code == 128 + number
    assert lines[:5] == [
        "runs", f"{number.name}: shutting down; a second one quits at once", "unwinds", "begins", "shut down"
    ]  # fmt: skip
    assert re.fullmatch(
        r"Scheduler  ✗ interrupted, 0 of 1 job succeeded, 1 cancelled, [\d.]+ [mµ]?s",
        lines[-3],
    )
    assert lines[-2] == "1 job: 1 cancelled"


def test_a_file_that_cannot_be_written_does_not_hide_the_signal(tmp_path: Path) -> None:
    """The exit code is that of the signal, and the message says what is missing."""
    (gone := tmp_path / "gone").mkdir()
    code = ACTOR.format(shutdown=0).replace(
        'say("shut down")', f'__import__("os").rmdir({str(gone)!r})'
    )
    code, lines = signalled(
        written(tmp_path, code),
        "--junit",
        str(gone / "x"),
        sends={"runs": signal.SIGTERM},
    )
    assert code == 128 + signal.SIGTERM
    assert any("cannot be written" in line for line in lines)


@pytest.mark.parametrize(
    ("first", "second"), [(SIGNALS[0], SIGNALS[0]), (SIGNALS[2], SIGNALS[1])]
)
def test_second_signal_ends_the_command_at_once(
    tmp_path: Path, first: signal.Signals, second: signal.Signals
) -> None:
    file = written(tmp_path, ACTOR.format(shutdown=60))
    code, lines = signalled(file, sends={"runs": first, "begins": second})
    assert code == 128 + second
    assert lines[-1] == "begins"


def test_second_signal_ends_the_command_while_a_job_blocks_the_loop(
    tmp_path: Path, backend: str
) -> None:
    sends = {"blocks": signal.SIGTERM, "a second one quits at once": signal.SIGTERM}
    code, lines = signalled(
        written(tmp_path, BLOCKS), "--backend", backend, sends=sends
    )
    assert code == 128 + signal.SIGTERM
    assert len(lines) == 2


def test_ctrl_c_while_the_file_is_loaded_ends_the_command_without_a_traceback(
    tmp_path: Path,
) -> None:
    """Ctrl-C while the user's file is loaded gives exit code 130 and no output."""
    file = written(
        tmp_path,
        "import time\nprint('loads', flush=True)\nwhile True: time.sleep(0.01)",
    )
    code, lines = signalled(file, sends={"loads": signal.SIGINT})
    assert code == 130
    assert "".join(lines[1:]).strip() == ""


def test_second_signal_makes_the_cursor_visible_again(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    words = [
        *WORDS,
        "run",
        "--no-monitor",
        written(tmp_path, ACTOR.format(shutdown=60)),
    ]
    with Python(
        words, stdin=theirs, stdout=theirs, stderr=theirs, env=ENVIRONMENT
    ) as process:
        os.close(theirs)
        text = b""
        left = [b"runs", b"begins"]
        try:
            while chunk := os.read(ours, 4096):
                text += chunk
                if left and left[0] in text:
                    left.pop(0)
                    process.send_signal(signal.SIGINT)
        except OSError:  # Linux raises it when the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 130
    assert text.endswith(b"\x1b[?25h\r\n")


def test_sigterm_with_drain_on_term_starts_no_more_jobs(tmp_path: Path) -> None:
    file = written(tmp_path, DRAINS.format(is_over="current_run(scenario).reason"))
    code, lines = signalled(file, "--drain-on-term", sends={"runs": signal.SIGTERM})
    assert code == 1
    assert lines.count("runs") == lines.count("ended") == 1
    assert [line for line in lines if "no more jobs start" in line] == [
        "SIGTERM: no more jobs start; a second one shuts down"
    ]
    assert re.fullmatch(
        r"Scheduler  ✗ drained, 1 of 2 jobs succeeded, 1 never started, [\d.]+ [mµ]?s",
        lines[-3],
    )
    assert lines[-2] == "2 jobs: 1 succeeded, 1 idle"


def test_second_sigterm_cancels_the_running_jobs_of_a_draining_run(
    tmp_path: Path,
) -> None:
    sends = {"runs": signal.SIGTERM, "a second one shuts down": signal.SIGTERM}
    code, lines = signalled(
        written(tmp_path, DRAINS.format(is_over="False")),
        "--drain-on-term",
        sends=sends,
    )
    assert code == 1
    assert "ended" not in lines
    assert re.fullmatch(
        r"Scheduler  ✗ drained, 0 of 2 jobs succeeded, 1 cancelled, 1 never started, [\d.]+ [mµ]?s",
        lines[-3],
    )
    assert lines[-2] == "2 jobs: 1 cancelled, 1 idle"
