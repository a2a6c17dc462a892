"""Text for terminals and CI logs: what anybody may have written into it does nothing there."""

import ast
import io
import json
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
import pytest
from trioflow import CommandJob, Events, Job, Pool, Rate, Scheduler
from trioflow.journal import _lock
from trioflow.view.text._symbols import terminal_text
from ...bodies import fail, fail_now, nothing
from ...cli.command_line import on_a_terminal
from ...places import PACKAGE

HOSTILE = "\x1b]0;PWNED\x07\x1b[2J\x9b2J\u202e\x7f"
"""A name that sets the title of a terminal, clears it, and turns the direction of its text."""
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def test_control_characters_are_escaped_but_not_newlines_and_colors() -> None:
    """Escape sequences are shown as text, except those of colors and bold text; a tab becomes blanks."""
    text = terminal_text(f"a\tb\n\x1b[31m\x1b[1m{HOSTILE}\x1b[0m\x1b[8m", io.StringIO())
    assert text == (
        "a       b\n\x1b[31m\x1b[1m\\x1b]0;PWNED\\x07\\x1b[2J\\x9b2J\\u202e\\x7f\x1b[0m\\x1b[8m"
    )


@pytest.mark.parametrize(
    "line", ["::error::x", "  ::add-mask::x", "##[error]x", "a ##[group]x"]
)
def test_lines_that_are_commands_of_github_have_no_effect(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In GitHub Actions, text with a line that would be a command is between lines that stop commands."""
    assert terminal_text(line, sys.stdout) == line
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    begin, *lines, end = terminal_text(f"a\n{line}", sys.stdout).split("\n")
    token = begin.removeprefix("::stop-commands::")
    assert (lines, end) == (["a", line], f"::{token}::")
    assert len(token) == 32
    assert terminal_text("a :: b", sys.stdout) == "a :: b"


def test_debrief_has_no_command_of_github(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message of an exception may have lines that begin with `::`, which the debrief prints in full."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    scheduler = Scheduler(Job(fail_now, ValueError("first\n::error::PWNED")))
    scheduler.run()
    scheduler.debrief()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("::stop-commands::")
    assert lines[-1] == f"::{lines[0].removeprefix('::stop-commands::')}::"
    assert "::error::PWNED" in [line.strip() for line in lines[1:-1]]


def test_the_note_about_a_job_is_printable() -> None:
    """The note that names the job of an exception, which Python prints in tracebacks, has no control character."""
    scheduler = Scheduler(
        Job(fail, label=HOSTILE), Scheduler(Job(fail, label="x"), label=HOSTILE)
    )
    scheduler.run()
    with pytest.raises(ExceptionGroup) as raised:
        scheduler.raise_for_failures()
    assert OBEYED.search("".join(traceback.format_exception(raised.value))) is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: Scheduler(Job(nothing, needs={HOSTILE: 1}), label=HOSTILE),
        lambda: Scheduler(Job(nothing, needs={"a": 1}), pool=Pool(**{HOSTILE: 1})),
        lambda: Scheduler(
            Job(nothing, label=HOSTILE, needs={HOSTILE: 5}), pool=Pool(**{HOSTILE: 1})
        ),
        lambda: Scheduler(
            Job(nothing, needs={HOSTILE: 5}), pool=Pool(**{HOSTILE: Rate(per=1, x=1)})
        ),
        lambda: Scheduler(pool=Pool(**{HOSTILE: -1})),
        lambda: Scheduler(pool=Pool(**{HOSTILE: ["a", "a"]})),
        lambda: Scheduler(CommandJob(["false", HOSTILE])),
        lambda: Scheduler(CommandJob([HOSTILE])),
    ],
)
def test_errors_about_needs_and_commands_are_printable(
    make: Callable[[], Scheduler],
) -> None:
    """Names of resources and of files in errors, which Python prints in tracebacks, have no control character."""
    with pytest.raises((ValueError, ExceptionGroup)) as raised:
        make().run(check=True)
    errors = getattr(raised.value, "exceptions", [raised.value])
    assert [error for error in errors if OBEYED.search(str(error))] == []


def test_lines_of_events_have_no_character_that_a_terminal_obeys(
    tmp_path: Path,
) -> None:
    """JSON may contain U+009B, U+202E and U+007F, which `--events -` would write to a terminal: they are escaped."""
    lines = io.StringIO()
    Scheduler(Job(nothing, label=HOSTILE + "\U000e0001é☉")).run(
        instruments=[Events(lines)]
    )
    assert OBEYED.search(lines.getvalue()) is None
    labels = [json.loads(line).get("label") for line in lines.getvalue().splitlines()]
    assert HOSTILE + "\U000e0001é☉" in labels


BATCHES = [
    ["--dry-run", "echo"], ["--tag", "--line-buffer", "echo x; : "], ["--halt", "soon,fail=1", "false"],
    ["--needs", f"{HOSTILE}=1", "echo"], ["--needs", "gpu=1", "--needs", f"gpu=1,{HOSTILE}=1", "echo"],
    [f"--{HOSTILE}"],
]  # fmt: skip


@pytest.mark.parametrize("words", BATCHES, ids=lambda words: words[0])
def test_a_batch_on_a_terminal_prints_names_as_text(words: list[str]) -> None:
    """Names of files reach a terminal by dry runs, command lines, tags, messages and errors of a batch: as text."""
    assert OBEYED.search(printed("batch", *words, ":::", HOSTILE)) is None


def test_a_run_on_a_terminal_prints_a_foreign_lock_as_text(tmp_path: Path) -> None:
    """The text of who holds a journal is written by another process: the error about it has no escape sequence."""
    program = tmp_path / "s.py"
    program.write_text(
        "from trioflow import *\nasync def f(): pass\ndef scenario(): return Scheduler(Job(f))\n"
    )
    file = os.open(tmp_path / "run.db-lock", os.O_RDWR | os.O_CREAT)
    try:
        _lock.set_lock(file, 0, 1)
        os.write(file, f"process 1 on {HOSTILE}".encode())
        said = printed(
            "run", "--no-monitor", "--journal", str(tmp_path / "run.db"), str(program)
        )
    finally:
        os.close(file)
    assert "another run is using it" in said
    assert OBEYED.search(said) is None


def printed(*words: str) -> str:
    """Return what the command prints to a terminal, without colors and carriage returns."""
    _, text = on_a_terminal(*words)
    assert text
    return re.sub(r"\x1b\[(0|1|31)m", "", text.replace("\r\n", "\n"))


ALLOWED = {
    (
        "cli/_outputs.py",
        "click.echo",
    ): "the functions through which all subcommands print",
    (
        "cli/_signals.py",
        "print",
    ): "a constant text, in a handler of signals, where nothing may be imported",
    ("cli/__init__.py", "print"): "a constant text, without click",
    ("_core/scheduler/_sync_run.py", "print"): "the repr of a label",
    (
        "jobs/command/_output_sinks.py",
        "print",
    ): "the output of a command, with an escaped tag",
    ("jobs/command/_program_service.py", "print"): "the output of a command",
    ("jobs/ssh/_local_copier.py", "print"): "for the program that runs this one",
    (
        "view/look/_page.py",
        "print",
    ): "the address of the page, for the program that runs this one",
}
"""Calls that write text in another way, and what they write. The monitor, which draws, escapes each of its cells."""


def test_text_is_printed_in_one_way() -> None:
    found: set[tuple[str, str]] = set()
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        text = path.read_text(encoding="utf-8")
        if name.startswith("compat/") or not re.search(
            r"\b(print|echo|secho)\(|print_exc|std(out|err)(__)?\.", text
        ):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and is_print(ast.unparse(node.func)):
                is_safe = bool(node.args) and ast.unparse(node.args[0]).startswith(
                    ("_symbols.terminal_text(",)
                )
                if not is_safe:
                    found.add((name, ast.unparse(node.func)))
    assert found == ALLOWED.keys()


def is_print(function: str) -> bool:
    """Return whether a call of this function prints text, as far as the name tells."""
    return function in (
        "print",
        "click.echo",
        "click.secho",
        "traceback.print_exc",
        "traceback.print_exception",
    ) or (
        re.fullmatch(
            r"sys\.(__)?std(out|err)(__)?\.(write|writelines|buffer\.write)", function
        )
        is not None
    )
