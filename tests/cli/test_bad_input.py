"""Bad files, names, outputs and terminals: each has its message and its exit code."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from trioflow.cli import main

from ..places import PATIENCE
from ..pythons import Python
from .command_line import COMMAND, ENVIRONMENT, WORDS, process, run, trioflow, written

FINE = "scenario = Scheduler(Job(work, label='a'))"
MANY = "scenario = Scheduler(Job(work, label=f'{n}' * 20) for n in range(5000))"
COMMANDS = ["run", "list", "graph", "check"]


# --- files and names


@pytest.mark.parametrize("command", COMMANDS)
def test_no_such_file(tmp_path: Path, command: str) -> None:
    """A missing file is a usage error that names it."""
    done = trioflow(command, tmp_path / "nowhere.py")
    assert done.exit_code == 2
    assert re.search("there is no file .*nowhere.py", done.stderr)


def test_a_directory(tmp_path: Path) -> None:
    """A directory is not a file."""
    done = trioflow("list", tmp_path)
    assert done.exit_code == 2
    assert "is a directory" in done.stderr


def test_no_such_name(tmp_path: Path) -> None:
    """An unknown name is a usage error that suggests a similar one."""
    done = trioflow("list", written(tmp_path, FINE) + ":scenaro")
    assert done.exit_code == 2
    assert "has no 'scenaro'; do you mean 'scenario'?" in done.stderr


def test_no_such_name_and_none_like_it(tmp_path: Path) -> None:
    """The error lists the schedulers, and the functions that the file itself defines."""
    code = "def make(size=1):\n    return Scheduler()\ndef _part(): ...\nother = Scheduler()"
    done = trioflow("list", written(tmp_path, code) + ":x")
    assert done.exit_code == 2
    assert "has no 'x'; its schedulers and functions: other, work, fail, make" in done.stderr


def test_no_name_at_all(tmp_path: Path) -> None:
    """The text behind the colon must be a name."""
    for name in ("", "a.b", "\x1b"):
        done = trioflow("list", f"{written(tmp_path, FINE)}:{name}")
        assert done.exit_code == 2
        assert "is not a Python name" in done.stderr
        assert "\x1b" not in done.stderr


@pytest.mark.parametrize("text", ["", "def other():\n    return Scheduler()"])
def test_no_scheduler_in_the_file(tmp_path: Path, text: str) -> None:
    """The error shows what to write into the file."""
    done = trioflow("list", written(tmp_path, text))
    assert done.exit_code == 2
    assert "has no global Scheduler" in done.stderr
    assert "flow.py:NAME" in done.stderr


OBJECTS = {
    "x = 5": "'x' in .* is neither a Scheduler nor a function that returns one: it is of type int",
    "x = Job(work)": "'x' in .* is neither a Scheduler .* of type Job",
    "def x():\n    return 5": r"x\(\) of .* returned int, not a Scheduler: return one",
    "def x():\n    pass": r"x\(\) of .* returned NoneType, not a Scheduler: return one",
    "async def x():\n    pass": r"x\(\) of .* is async: make it a plain function",
}


@pytest.mark.parametrize("text", OBJECTS)
def test_an_object_that_is_no_scheduler(tmp_path: Path, text: str) -> None:
    """The error names an object that neither is a scheduler nor returns one."""
    done = trioflow("list", written(tmp_path, text) + ":x")
    assert done.exit_code == 2
    assert re.search(OBJECTS[text], done.stderr), done.stderr


RAISING = {
    "in a function": ("def f():\n    1 / 0\nf()", ["<module>", "f"], "ZeroDivisionError: division by zero"),
    "in trioflow": ("Job(len)", ["<module>"], "TypeError: Job"),
    "while it is called": ("def scenario():\n    Job(len)", ["scenario"], "TypeError: Job"),
    "syntax": ("def", [], "SyntaxError: invalid syntax"),
    "null": ("\0", [], "null bytes"),
    "import": ("import nowhere", ["<module>"], "ModuleNotFoundError: No module named 'nowhere'"),
    "exit": ("import sys\nsys.exit('no')", ["<module>"], "SystemExit: no"),
    "cause": ("try:\n    1 / 0\nexcept Exception as e:\n    Job(len)", ["<module>", "<module>"], "TypeError: Job"),
    "recursion": ("def f():\n    f()\nf()", None, "RecursionError"),
}


@pytest.mark.parametrize("case", RAISING)
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_file_that_raises(tmp_path: Path, command: str, case: str) -> None:
    """A file that raises when loaded or called shows its own traceback, without trioflow's frames; exit code 2."""
    text, functions, message = RAISING[case]
    file = written(tmp_path, text)
    done = trioflow(command, file)
    assert done.exit_code == 2
    assert message in done.stderr
    assert re.search(rf"Error: .*{re.escape(file)} raised", done.stderr)
    frames = re.findall(r'^ +File "(.*)", line \d+, in (.*)$', done.stderr, re.MULTILINE)
    assert {name for name, _ in frames} <= {file}
    assert functions is None or [function for _, function in frames] == functions


def test_a_file_that_runs_its_scheduler(tmp_path: Path) -> None:
    """If a script runs its scheduler while it is loaded, the error explains where to put that call."""
    done = trioflow("list", written(tmp_path, "x = Scheduler(Job(work))\nx.run()"))
    assert done.exit_code == 2
    assert 'below if __name__ == "__main__":' in done.stderr


def test_an_unreadable_file(tmp_path: Path) -> None:
    """The error has the reason why an existing file cannot be read."""
    loop = tmp_path / "memory"
    loop.symlink_to("/proc/self/mem")
    done = trioflow("list", loop)
    assert done.exit_code == 2
    assert "cannot read" in done.stderr


def test_control_characters_of_a_label_are_escaped(tmp_path: Path) -> None:
    """Control characters in a label do not reach the terminal."""
    code = r"""
    a = Job(fail, label="a\x1b[2J\r\n\u202e")
    scenario = Scheduler(a, Job(work, label="b\x07", required=Job(work, label="stray\x9b")), label="s\x1b[2J")
    """
    file = written(tmp_path, code)
    outputs = [trioflow("list", file), trioflow("list", "--paths", file), trioflow("check", file)]
    outputs += [run(file), run(file, "--only", "c\x1b")]
    for done in outputs:
        assert not re.search("[^\n -~·◦▸✓✗∞⊗⊘⤼]", done.output), repr(done.output)
    assert r"a\x1b[2J\r\n\u202e" in outputs[0].output


# --- what is missing


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_a_missing_package_says_how_to_install_it(tmp_path: Path, missing: str) -> None:
    """Without click or rich, the command names the package to install, with exit code 2."""
    code = f"import sys; sys.modules[{missing!r}] = None; import trioflow.cli; trioflow.cli.main()"
    command = [sys.executable, "-c", code, "run", written(tmp_path, FINE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2
    assert f"needs {'the package ' if missing == 'click' else ''}{missing}: pip install 'trioflow[cli]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert "works" not in done.stdout


# --- outputs

UNWRITABLE = {
    "nowhere/out.svg": "there is no directory",
    "flow.py/out.svg": "there is no directory",
    "directory.svg": "is a directory",
}


@pytest.mark.parametrize("name", UNWRITABLE)
@pytest.mark.parametrize("option", ["run --trace", "run --report", "graph --output"])
def test_an_unwritable_output_is_told_before_the_run(tmp_path: Path, option: str, name: str) -> None:
    """The usage error comes before the user's file is loaded."""
    (tmp_path / "directory.svg").mkdir()
    file = written(tmp_path, "print('loaded')\n" + FINE)
    command, option = option.split()
    done = trioflow(command, file, option, tmp_path / name)
    assert done.exit_code == 2
    assert option in done.stderr
    assert UNWRITABLE[name] in done.stderr
    assert "loaded" not in done.stdout


def test_a_graph_of_an_unknown_kind(tmp_path: Path) -> None:
    """The suffix of the file decides on the kind."""
    done = trioflow("graph", written(tmp_path, FINE), "-o", tmp_path / "x.pdf")
    assert done.exit_code == 2
    assert ".svg or .png or .dot or .mmd" in done.stderr


@pytest.mark.parametrize("command", [["list"], ["run", "--no-monitor"]])
def test_a_full_disk(tmp_path: Path, command: list[str]) -> None:
    """A full standard output gives an error message without a traceback."""
    with open("/dev/full", "w") as full:
        done = process(*command, written(tmp_path, FINE.replace("work", "anyio.sleep, 0")), stdout=full)
    assert done.returncode == 1
    assert done.stderr == "Error: cannot write the output: No space left on device\n"


def test_help_on_a_full_disk() -> None:
    """The same error ends --help."""
    with open("/dev/full", "w") as full:
        done = process("--help", stdout=full)
    assert done.returncode == 1
    assert done.stderr == "Error: cannot write the output: No space left on device\n"


def into_nothing(*arguments: Any) -> tuple[int, str]:
    """Return the exit code and the standard error of the command when its output is closed."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = process(*arguments, stdout=writing)
    finally:
        os.close(writing)
    return done.returncode, done.stderr


@pytest.mark.parametrize("command", ["list", "list --paths"])
def test_a_broken_pipe(tmp_path: Path, command: str) -> None:
    """In `trioflow list x.py | head` the command ends silently."""
    assert into_nothing(*command.split(), written(tmp_path, MANY)) == (1, "")


def test_a_run_goes_on_when_nobody_reads_its_output(tmp_path: Path) -> None:
    """A broken pipe changes neither the outcome of a run nor its exit code."""
    code = "from pathlib import Path\nasync def note():\n    Path(__file__).with_name('noted').touch()\n"
    assert into_nothing("run", "--no-monitor", written(tmp_path, f"{code}x = Scheduler(Job(note))")) == (0, "")
    assert (tmp_path / "noted").exists()


def test_both_streams_to_nowhere(tmp_path: Path) -> None:
    """A run whose errors go into the same broken pipe keeps its exit code."""
    reading, writing = os.pipe()
    os.close(reading)
    done = process("run", "--no-monitor", written(tmp_path, "x = Scheduler(Job(fail))"), stdout=writing, stderr=writing)
    os.close(writing)
    assert done.returncode == 3


def test_failures_are_printed_though_the_standard_output_is_broken(tmp_path: Path) -> None:
    """The standard error has the failures even if standard output is a broken pipe."""
    assert "OSError: broken" in into_nothing("run", "--no-monitor", written(tmp_path, "x = Scheduler(Job(fail))"))[1]


def test_closed_streams(tmp_path: Path) -> None:
    """Without a standard output the command works as usual."""
    shell = 'exec "$@" >&- 2>&-'
    command = ["sh", "-c", shell, "sh", *COMMAND, "run", "--no-monitor", written(tmp_path, "x = Scheduler(Job(fail))")]
    assert subprocess.run(command, env=ENVIRONMENT, timeout=PATIENCE, check=False).returncode == 3


def test_a_stream_that_is_ascii(tmp_path: Path) -> None:
    """If the output cannot encode the symbols and the labels, they become ASCII."""
    file = written(tmp_path, "x = Scheduler(Job(fail, label='漢'), Job(work, run_if='failed', label='é'))")
    for command in (["list"], ["list", "--paths"], ["check"], ["run", "--no-monitor"]):
        environment = {**ENVIRONMENT, "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
        done = subprocess.run([*COMMAND, *command, file], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == {"check": 1, "run": 3}.get(command[0], 0), done.stderr
        assert (done.stdout + done.stderr).isascii()


# --- terminals


def on_a_terminal(columns: int, *arguments: Any) -> tuple[int, str]:
    """Run the command on a terminal of this width, and return its exit code and its output."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    environment = {name: value for name, value in ENVIRONMENT.items() if name not in ("COLUMNS", "LINES")}
    with Python([*WORDS, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as started:
        os.close(theirs)
        written = b""
        try:
            while chunk := os.read(ours, 65536):
                written += chunk
        except OSError:  # Linux tells the end of a terminal so
            pass
    os.close(ours)
    return started.returncode, written.decode()


@pytest.mark.parametrize("command", ["list", "check", "run --no-monitor", "run"])
def test_a_terminal_of_twenty_columns(tmp_path: Path, command: str) -> None:
    """On a narrow terminal all commands work; long lines are wrapped."""
    code, text = on_a_terminal(20, *command.split(), written(tmp_path, FINE))
    assert code == 0, text
    assert {"list": "· a", "check": "nothing found"}.get(command, "1 job succeeded") in text


@pytest.mark.parametrize("number", ["x", "-1", "1.5", "50%", ""])
def test_a_window_is_a_whole_number(tmp_path: Path, number: str) -> None:
    """The error says what to give; click's own spoke of an integer range."""
    done = trioflow("run", "--no-monitor", written(tmp_path, FINE), "-j", number)
    assert done.exit_code == 2
    assert "is not a number of jobs: give a whole number, or 0 for no limit" in done.stderr


def test_help_on_a_terminal_of_twenty_columns() -> None:
    """The output of --help stays readable."""
    code, text = on_a_terminal(20, "run", "--help")
    assert code == 0
    assert "--jobs" in text


@pytest.mark.parametrize("name", ["run", "list", "graph", "check", "simulate", "batch", "ssh", "journal"])
def test_tables_in_a_help_keep_their_lines(name: str) -> None:
    """No --help shows the mark that keeps its lines; batch's once did, and its table ran together."""
    text = trioflow(name, "--help").output
    assert "\\b" not in text
    assert "\b" not in text
    if name == "batch":
        assert re.search(r"^ +{/} +its base name +{/\.} base name without extension$", text, re.MULTILINE)


def test_the_entry_point_is_the_command() -> None:
    """The script installed by pip calls the same function as `python -m trioflow`."""
    (script,) = entry_points(group="console_scripts", name="trioflow")
    assert script.load() is main
