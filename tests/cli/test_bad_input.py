"""Bad files, names, outputs and terminals: each has its message and its exit code."""

import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
import pytest
from trioflow.cli import main
from ..pythons import python
from .command_line import (
    ENVIRONMENT,
    on_a_terminal,
    process,
    refused,
    run,
    trioflow,
    written,
)

FINE = "scenario = Scheduler(Job(work, label='a'))"
MANY = "scenario = Scheduler(Job(work, label=f'{n}' * 20) for n in range(1000))"


# --- files and names
@pytest.mark.parametrize("command", ["run", "list", "graph", "check"])
def test_missing_file_is_a_usage_error(tmp_path: Path, command: str) -> None:
    assert re.search(
        "there is no file .*nowhere.py", refused(command, tmp_path / "nowhere.py")
    )


@pytest.mark.parametrize("words", [["compare", "none", "none"], ["report", "none"]])
def test_missing_input_file_is_a_usage_error(tmp_path: Path, words: list[str]) -> None:
    file = written(tmp_path, FINE)
    assert "there is no file 'none'" in refused(
        *(word.format(file=file) for word in words)
    )


def test_directory_in_place_of_a_file_is_a_usage_error(tmp_path: Path) -> None:
    assert "is a directory" in refused("list", tmp_path)


def test_unknown_scheduler_name_gets_a_suggestion(tmp_path: Path) -> None:
    assert "has no 'scenaro'; do you mean 'scenario'?" in refused(
        "list", written(tmp_path, FINE) + ":scenaro"
    )


def test_unknown_scheduler_name_without_a_similar_one_lists_all_names(
    tmp_path: Path,
) -> None:
    code = "def make(size=1):\n    return Scheduler()\ndef _part(): ...\nother = Scheduler()"
    said = refused("list", written(tmp_path, code) + ":x")
    assert "has no 'x'; its schedulers and functions: other, work, fail, make" in said


def test_invalid_name_after_the_colon_is_rejected(tmp_path: Path) -> None:
    """After `FILE:`, only a Python name is accepted; a control character in the rejected text is not printed."""
    for name in ("", "a.b", "\x1b"):
        said = refused("list", f"{written(tmp_path, FINE)}:{name}")
        assert "is not a Python name" in said
        assert "\x1b" not in said


@pytest.mark.parametrize("text", ["", "def other():\n    return Scheduler()"])
def test_file_without_a_scheduler_is_a_usage_error_with_a_remedy(
    tmp_path: Path, text: str
) -> None:
    said = refused("list", written(tmp_path, text))
    assert "has no global Scheduler" in said
    assert "flow.py:NAME" in said


FOREIGN = "from trioflow.compat import asynciojobs\n"


def test_the_scheduler_of_asynciojobs_is_told_from_trioflows_own(
    tmp_path: Path,
) -> None:
    """A file with a Scheduler was once said to have none, and the Scheduler to be of the wrong type `Scheduler`."""
    file = written(tmp_path, f"{FOREIGN}s = asynciojobs.Scheduler()")
    kind = "of type trioflow.compat.asynciojobs.Scheduler"
    for command in ("list", "run"):
        said = refused(command, file)
        assert f"{kind}, not trioflow's own: start it by python" in said
        assert f"nor a function that returns one: it is {kind}" in refused(
            command, f"{file}:s"
        )


OBJECTS = {
    "x = 5": "'x' in .* is neither a Scheduler nor a function that returns one: it is of type int",
    "x = Job(work)": "'x' in .* is neither a Scheduler .* of type Job",
    "def x():\n    return 5": r"x\(\) of .* returned int, not a Scheduler: return one",
    "def x():\n    pass": r"x\(\) of .* returned NoneType, not a Scheduler: return one",
    f"{FOREIGN}def x():\n    return asynciojobs.Scheduler()": "returned trioflow.compat.asynciojobs.Scheduler, not",
    "async def x():\n    pass": r"x\(\) of .* is async: make it a plain function",
}


@pytest.mark.parametrize("text", OBJECTS)
def test_object_that_neither_is_nor_returns_a_scheduler_is_rejected(
    tmp_path: Path, text: str
) -> None:
    said = refused("list", written(tmp_path, text) + ":x")
    assert re.search(OBJECTS[text], said), said


RAISING = {
    "in a function": (
        "def f():\n    1 / 0\nf()",
        ["<module>", "f"],
        "ZeroDivisionError: division by zero",
    ),
    "in a constructor of trioflow": ("Job(len)", ["<module>"], "TypeError: Job"),
    "in the called function": (
        "def scenario():\n    Job(len)",
        ["scenario"],
        "TypeError: Job",
    ),
    "syntax error": ("def", [], "SyntaxError: invalid syntax"),
    "null byte": ("\0", [], "null bytes"),
    "import of a missing module": (
        "import nowhere",
        ["<module>"],
        "ModuleNotFoundError: No module named 'nowhere'",
    ),
    "sys.exit": ("import sys\nsys.exit('no')", ["<module>"], "SystemExit: no"),
    "exception with a context": (
        "try:\n    1 / 0\nexcept Exception as e:\n    Job(len)",
        ["<module>", "<module>"],
        "TypeError: Job",
    ),
    "endless recursion": ("def f():\n    f()\nf()", None, "RecursionError"),
}


@pytest.mark.parametrize("case", RAISING)
@pytest.mark.parametrize("command", ["run", "check"])
def test_exception_in_users_file_is_shown_without_frames_of_trioflow(
    tmp_path: Path, command: str, case: str
) -> None:
    """An exception in the user's file gives exit code 2 and a traceback that has only the user's frames."""
    text, functions, message = RAISING[case]
    file = written(tmp_path, text)
    said = refused(command, file)
    assert message in said
    assert re.search(rf"Error: .*{re.escape(file)} raised", said)
    frames = re.findall(r'^ +File "(.*)", line \d+, in (.*)$', said, re.MULTILINE)
    assert {name for name, _ in frames} <= {file}
    assert functions is None or [function for _, function in frames] == functions


def test_existing_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    loop = tmp_path / "memory"
    loop.symlink_to("/proc/self/mem")
    assert "cannot read" in refused("list", loop)


def test_control_characters_of_a_label_are_escaped(tmp_path: Path) -> None:
    code = r"""
    a = Job(fail, label="a\x1b[2J\r\n\u202e")
    scenario = Scheduler(a, Job(work, label="b\x07", required=Job(work, label="stray\x9b")), label="s\x1b[2J")
    """
    file = written(tmp_path, code)
    outputs = [
        trioflow("list", file),
        trioflow("list", "--paths", file),
        trioflow("check", file),
    ]
    outputs += [run(file), run(file, "--only", "c\x1b")]
    for done in outputs:
        assert not re.search("[^\n -~·◦▸✓✗∞⊗⊘⤼]", done.output), repr(done.output)
    assert r"a\x1b[2J\r\n\u202e" in outputs[0].output


# --- missing packages
@pytest.mark.parametrize("missing", ["click", "rich"])
def test_missing_package_gives_an_error_with_the_pip_command(
    tmp_path: Path, missing: str
) -> None:
    """Without click or rich, the command exits with code 2 and prints how to install the missing package by pip."""
    loaded = (
        f"[name for name in sys.modules if name.startswith(('trioflow.', {missing!r}))]"
    )
    code = f"import sys; [sys.modules.pop(name) for name in {loaded}]; sys.modules[{missing!r}] = None"
    words = [
        "-c",
        f"{code}; import trioflow.cli; trioflow.cli.main()",
        "run",
        written(tmp_path, FINE),
    ]
    done = python(*words, env=ENVIRONMENT, text=True)
    assert done.returncode == 2
    assert (
        f"needs {'the package ' if missing == 'click' else ''}{missing}: pip install 'trioflow[cli]'"
        in done.stderr
    )
    assert "Traceback" not in done.stderr
    assert "works" not in done.stdout


# --- outputs

UNWRITABLE = {
    "nowhere/out.svg": "there is no directory",
    "flow.py/out.svg": "there is no directory",
    "directory.svg": "is a directory",
}


@pytest.mark.parametrize("name", UNWRITABLE)
@pytest.mark.parametrize("option", ["run --trace", "run --events", "graph --output"])
def test_output_that_cannot_be_written_is_rejected_before_loading(
    tmp_path: Path, option: str, name: str
) -> None:
    """For an unwritable output, the usage error has the option and the reason, and the user's file is not executed."""
    (tmp_path / "directory.svg").mkdir()
    file = written(tmp_path, "print('loaded')\n" + FINE)
    command, option = option.split()
    done = trioflow(command, file, option, tmp_path / name)
    assert done.exit_code == 2
    assert option in done.stderr
    assert UNWRITABLE[name] in done.stderr
    assert "loaded" not in done.stdout


def test_graph_output_with_an_unknown_suffix_is_a_usage_error(tmp_path: Path) -> None:
    assert ".svg, .png, .dot or .mmd" in refused(
        "graph", written(tmp_path, FINE), "-o", tmp_path / "x.pdf"
    )


@pytest.mark.parametrize("command", [["--help"], ["list"], ["run", "--no-monitor"]])
def test_full_disk_at_standard_output_gives_an_error_without_a_traceback(
    tmp_path: Path, command: list[str]
) -> None:
    """If standard output is on a full disk, a command prints one line of error and exits with code 1."""
    with open("/dev/full", "w") as full:
        done = process(
            *command,
            written(tmp_path, FINE.replace("work", "anyio.sleep, 0")),
            stdout=full,
        )
    assert done.returncode == 1
    assert done.stderr == "Error: cannot write the output: No space left on device\n"


def run_into_broken_pipe(*arguments: Any) -> tuple[int, str]:
    """Return the exit code and the standard error of the command when its output is closed."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = process(*arguments, stdout=writing)
    finally:
        os.close(writing)
    return done.returncode, done.stderr


@pytest.mark.parametrize("command", ["list", "list --paths"])
def test_list_ends_silently_at_a_broken_pipe(tmp_path: Path, command: str) -> None:
    """`trioflow list flow.py | head` exits with code 1, and prints no error."""
    assert run_into_broken_pipe(*command.split(), written(tmp_path, MANY)) == (1, "")


def test_broken_pipe_at_standard_output_does_not_stop_a_run(tmp_path: Path) -> None:
    """A broken pipe changes neither the outcome of a run nor its exit code; failures are still on standard error."""
    code = "from pathlib import Path\nasync def note():\n    Path(__file__).with_name('noted').touch()\n"
    file = written(tmp_path, f"{code}x = Scheduler(Job(note), Job(fail))")
    exit_code, errors = run_into_broken_pipe("run", "--no-monitor", file)
    assert exit_code == 3
    assert "OSError: broken" in errors
    assert (tmp_path / "noted").exists()


def test_run_keeps_its_exit_code_if_both_output_streams_are_a_broken_pipe(
    tmp_path: Path,
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = process(
        "run",
        "--no-monitor",
        written(tmp_path, "x = Scheduler(Job(fail))"),
        stdout=writing,
        stderr=writing,
    )
    os.close(writing)
    assert done.returncode == 3


def test_run_works_if_both_output_streams_are_closed(tmp_path: Path) -> None:
    """A run whose standard output and standard error are closed keeps its exit code, but its output is lost."""
    closed = "import os, sys; os.close(1); os.close(2); sys.stdout = sys.stderr = None"
    words = ["run", "--no-monitor", written(tmp_path, "x = Scheduler(Job(fail))")]
    assert (
        python(
            "-c",
            f"{closed}; from trioflow.cli import main; main()",
            *words,
            env=ENVIRONMENT,
        ).returncode
        == 3
    )


@pytest.mark.ci
@pytest.mark.parametrize(
    "command", ["ssh -H : true", "batch --bar echo", "answer no.db x -"]
)
def test_no_command_has_a_traceback_if_its_streams_are_closed(
    tmp_path: Path, command: str
) -> None:
    for closed in ("<&- >&-", "2>&-"):
        line = f"exec {shlex.quote(sys.executable)} -m trioflow {command} {closed}"
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=tmp_path,
            env=ENVIRONMENT,
            capture_output=True,
            check=False,
        )
        assert b"Traceback" not in done.stderr + done.stdout
        assert done.returncode in (0, 1, 2, 255)


def test_symbols_and_labels_are_printed_in_ascii_on_an_ascii_stream(
    tmp_path: Path,
) -> None:
    file = written(
        tmp_path,
        "x = Scheduler(Job(fail, label='漢'), Job(work, run_if='failed', label='é'))",
    )
    code = f"""
import sys
from trioflow.cli._commands import command
sys.stdout = open(1, "w", encoding="ascii", closefd=False)
sys.stderr = open(2, "w", encoding="ascii", errors="backslashreplace", closefd=False)
for words in (["list"], ["list", "--paths"], ["check"], ["run", "--no-monitor"]):
    try:
        command([*words, {file!r}])
    except SystemExit as end:
        print("exit code", end.code)
"""
    done = python("-c", code, env=ENVIRONMENT, text=True)
    assert re.findall("exit code (.*)", done.stdout) == ["0", "0", "0", "3"], (
        done.stderr
    )
    assert (done.stdout + done.stderr).isascii()


# --- terminals
@pytest.mark.parametrize("command", ["list", "check", "run --no-monitor", "run"])
def test_commands_work_on_a_terminal_of_twenty_columns(
    tmp_path: Path, command: str
) -> None:
    code, text = on_a_terminal(*command.split(), written(tmp_path, FINE), columns=20)
    assert code == 0, text
    assert {"list": "<Job a>", "check": "nothing found"}.get(
        command, "1 job succeeded"
    ) in text


@pytest.mark.parametrize("number", ["x", "-1", "1.5", "50%", ""])
def test_invalid_value_of_the_jobs_option_is_rejected(
    tmp_path: Path, number: str
) -> None:
    """The error for an invalid `-j` lists the accepted values; click's default message mentions an integer range."""
    said = refused("run", "--no-monitor", written(tmp_path, FINE), "-j", number)
    assert "is not a number: give a whole number, 0 or more" in said


def test_help_is_readable_on_a_terminal_of_twenty_columns() -> None:
    """On a terminal of 20 columns, `run --help` does not break the names of options into pieces."""
    code, text = on_a_terminal("run", "--help", columns=20)
    assert code == 0
    assert "--jobs" in text


@pytest.mark.parametrize(
    "name", ["run", "list", "graph", "check", "batch", "ssh", "journal"]
)
def test_tables_in_help_texts_keep_their_line_breaks(name: str) -> None:
    """Help texts once contained click's mark against rewrapping, a backspace, and the table of `batch` ran together."""
    text = trioflow(name, "--help").output
    assert "\\b" not in text
    assert "\b" not in text
    if name == "batch":
        assert re.search(
            r"^ +{/} +its base name +{/\.} base name without extension$",
            text,
            re.MULTILINE,
        )


def test_script_installed_by_pip_calls_the_same_function_as_python_m() -> None:
    (script,) = entry_points(group="console_scripts", name="trioflow")
    assert script.load() is main
