"""Colours and escape sequences of commands, on terminals and in pipes, with NO_COLOR, FORCE_COLOR and TERM=dumb."""

import re
import subprocess
from pathlib import Path
import pytest
from ..pythons import python
from .command_line import ENVIRONMENT, WORDS, on_a_terminal, run, written

CODE = "scenario = Scheduler(Job(work, label='a'), Job(fail, label='broken'))"
COLOUR = re.compile(r"\x1b\[[0-9;]*[34][0-8][0-9;]*m")
"""An escape sequence that sets a colour: 30 to 38, and 40 to 48."""
SHOWING = {
    "run": ["run", "FILE"],
    "run without a monitor": ["run", "--no-monitor", "FILE"],
    "list": ["list", "FILE"],
    "check": ["check", "FILE"],
    "graph": ["graph", "FILE"],
    "journal": ["journal", "JOURNAL"],
    "ssh": ["ssh", "--connect-timeout", "0.2s", "-H", "nobody@127.0.0.1:1", "true"],
    "batch": ["batch", "--bar", "false", ":::", "1", "2"],
}


WATCHED = ["run", "run without a monitor", "batch"]
"""The commands that have colours."""


def shown(tmp_path: Path, name: str, on_terminal: bool, **variables: str) -> str:
    """Run a command, on a terminal or not, and return all that it writes."""
    file = written(tmp_path, CODE)
    if "JOURNAL" in SHOWING[name]:
        run(file, "--journal", tmp_path / "run.db")
    given = {"FILE": file, "JOURNAL": str(tmp_path / "run.db")}
    words = [given.get(word, word) for word in SHOWING[name]]
    variables = {"TERM": "xterm-256color", **variables}
    if on_terminal:
        return on_a_terminal(*words, **variables)[1]
    done = python(
        *WORDS, *words, env={**ENVIRONMENT, **variables}, stdin=subprocess.DEVNULL
    )
    return (done.stdout + done.stderr).decode()


@pytest.fixture(autouse=True)
def without_colour_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delitem(ENVIRONMENT, name, raising=False)


@pytest.mark.sampled
@pytest.mark.parametrize("name", SHOWING)
def test_commands_without_a_monitor_and_dumb_terminals_have_no_escape_sequences(
    tmp_path: Path, name: str
) -> None:
    said = shown(
        tmp_path,
        name,
        True,
        **({"TERM": "dumb"} if name in WATCHED else {"FORCE_COLOR": "1"}),
    )
    assert said
    assert "\x1b" not in said


@pytest.mark.parametrize("name", WATCHED)
def test_commands_with_a_monitor_have_colours_on_a_terminal(
    tmp_path: Path, name: str
) -> None:
    """`run` and `batch` print colours on a terminal; otherwise the other tests of this file would prove nothing."""
    assert COLOUR.search(shown(tmp_path, name, True))


@pytest.mark.parametrize("name", WATCHED)
def test_variable_no_color_removes_all_colours_on_a_terminal(
    tmp_path: Path, name: str
) -> None:
    said = shown(tmp_path, name, True, NO_COLOR="1", FORCE_COLOR="1")
    assert said
    assert not COLOUR.search(said)


@pytest.mark.parametrize("name", WATCHED)
def test_variable_force_color_writes_colours_into_a_pipe(
    tmp_path: Path, name: str
) -> None:
    """FORCE_COLOR writes colours, but nothing that moves a cursor, into a pipe, which has no escape sequence else."""
    said = shown(tmp_path, name, False, FORCE_COLOR="1")
    assert COLOUR.search(said)
    assert "\x1b" not in re.sub(r"\x1b\[[\d;]*m", "", said)
    assert "\x1b" not in shown(tmp_path, name, False)
