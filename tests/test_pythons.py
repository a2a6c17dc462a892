"""Forked Python processes behave like those that Python starts: arguments, streams, exit codes, signals, terminals."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final
import pytest
from .mutation.__main__ import alone
from .places import PATIENCE, ROOT
from .pythons import Python, make_program, python

PROGRAM = "import os, sys; print(sys.argv, os.getcwd(), os.environ['A'], __name__, sys.path[0], sys.stdin.read())"


def started(*words: Any, **options: Any) -> subprocess.CompletedProcess[Any]:
    return subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, check=False, **options
    )


ASKS: Final = "import sys; from tests.pythons import door, owner; print(owner(), door(), flush=True); sys.stdin.read()"


@pytest.mark.skipif(not alone(), reason="only root may hide processes")
def test_runs_that_are_hidden_from_each_other_have_servers_of_their_own() -> None:
    """A fault that was planted into one tree was met by none of its programs, which a server of another tree forked."""
    words = [*alone(), sys.executable, "-c", ASKS]
    with (
        subprocess.Popen(
            words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as one,
        subprocess.Popen(
            words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other,
    ):
        assert one.stdout is not None
        assert other.stdout is not None
        (number, _, *door), (other_number, _, *other_door) = (
            one.stdout.readline().split(),
            other.stdout.readline().split(),
        )
        one.communicate("")
        other.communicate("")
    assert number == other_number
    assert door != other_door


@pytest.mark.parametrize("kind", ["-c", "-m", "a file"])
def test_a_forked_program_sees_the_same_as_a_started_one(
    tmp_path: Path, kind: str
) -> None:
    """A forked program has the same arguments, directory, variables, name, input and module paths as a started one."""
    (tmp_path / "program.py").write_text(PROGRAM)
    words = {"-c": ["-c", PROGRAM], "-m": ["-m", "program"], "a file": ["program.py"]}[
        kind
    ]
    options: dict[str, Any] = {
        "cwd": tmp_path,
        "env": {**os.environ, "A": "ä", "PYTHONUTF8": "1"},
        "text": True,
    }
    with open(tmp_path / "program.py") as file:
        real = started(*words, "x", "-y", stdin=file, **options)
    with open(tmp_path / "program.py") as file:
        forked = python(*words, "x", "-y", stdin=file, **options)
    assert "'x', '-y']" in real.stdout
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        real.returncode,
        real.stdout,
        real.stderr,
    )


@pytest.mark.sampled
@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.exit(3)",
        "import sys; sys.exit('so')",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "import atexit; atexit.register(print, 'at exit'); raise KeyboardInterrupt",
        "import threading, time; threading.Thread(target=lambda: print(time.sleep(0.01))).start()",
        "def f():\n    raise OSError('broken')\nf()",
        "import sys; sys.exit(sys.excepthook is not sys.__excepthook__)",
        "import atexit, logging; atexit.register(print, 'at exit'); logging.basicConfig(); logging.warning('a')",
        "class A:\n    def __del__(self):\n        print('gone')\na = A()\na.a = a",
        "import sys; sys.exit(-1)",
        "import sys; print('lost'); sys.stdout = open('/dev/full', 'w'); print('a')",
        "import trioflow.cli; trioflow.cli.main()",
    ],
)
def test_a_forked_program_ends_in_the_same_way_as_a_started_one(
    tmp_path: Path, code: str
) -> None:
    """Exit codes, signals and exceptions of forked and started programs are the same, and exit handlers run."""
    (file := tmp_path / "program.py").write_text(code)
    environment = {**os.environ, "PYTHONUTF8": "1"}
    real, forked = started(file, env=environment), python(file, env=environment)
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        real.returncode,
        real.stdout,
        real.stderr,
    )


def test_a_coroutine_never_awaited_is_reported_by_a_forked_program(
    tmp_path: Path,
) -> None:
    (file := tmp_path / "program.py").write_text("async def work(): ...\nx = work()")
    for done in (started(file), python(file)):
        assert b"RuntimeWarning: coroutine 'work' was never awaited" in done.stderr


@pytest.mark.parametrize(
    ("ending", "code"),
    [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 128 + 9), ("[]", 0)],
)
def test_a_shell_can_call_a_fork(tmp_path: Path, ending: str, code: int) -> None:
    """A shell passes words, directory, variables and streams to a forked program, and gets its exit code."""
    text = "import os, sys; print(sys.argv[1:], os.getcwd(), os.environ['A'], input(), flush=True); eval(sys.argv[2])"
    make_program(tmp_path / "a program", "-c", text)
    done = subprocess.run(
        ["/bin/sh", "-c", f"echo c | A=b './a program' 'x  y' '{ending}'; echo $?"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (
        f"['x  y', {ending!r}] {tmp_path} b c\n{code}\n",
        "",
    )


NAPS = "import time\nwhile True: time.sleep(0.01)"
"""What to do until a signal comes. Python would handle one that comes just before a long sleep only after that."""


def test_a_forked_program_receives_signals() -> None:
    """Ctrl-C raises an exception in a forked program, whose exit code is that of the signal."""
    code = f"print(flush=True)\n{NAPS}"
    with Python(
        ["-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.poll() is None
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=PATIENCE)
    assert process.poll() == process.returncode == -signal.SIGINT
    assert told.endswith(b"\nKeyboardInterrupt\n")


@pytest.mark.parametrize("controls", [False, True])
def test_a_forked_program_can_use_a_terminal(controls: bool) -> None:
    """A forked program can use a terminal; in a session of its own, Ctrl-C at the terminal sends it a signal."""
    ours, theirs = pty.openpty()
    code = "import os; print(os.isatty(0), os.isatty(1), os.isatty(2), flush=True)\n"
    words = ["-c", code + NAPS if controls else code]
    with Python(
        words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=controls
    ) as process:
        os.close(theirs)
        with open(ours, closefd=False) as screen:
            assert screen.readline() == "True True True\n"
        os.write(ours, b"\x03")
        assert process.wait(PATIENCE) == (-signal.SIGINT if controls else 0)
    os.close(ours)
