"""What a command asks of a program, and what it prints of the answer: without that program, and without a signal."""

import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any
import click
import pytest
from trioflow import Scheduler, StopReason
from trioflow.cli import _declared_options, _outputs, _run, _signals
from trioflow.view.look import _client
from trioflow.view.trace import _compare, _trace_file
from .command_line import trioflow

# ---- trioflow steer
Words = list[str]
REQUESTS: list[tuple[Words, str, Any, str | None]] = [
    (["pause"], "pause", None, None),
    (["resume", "--run", "b"], "resume", None, "b"),
    (["drain"], "drain", None, None),
    (["reload"], "reload", None, None),
    (["window", "8", "--run", "a/b"], "window", 8, "a/b"),
    (["cancel"], "cancel", None, None),
    (["cancel", "a b"], "cancel", "a b", None),
    (["try-again"], "try-again", None, None),
    (["try-again", "x", "--run", "b"], "try-again", "x", "b"),
    (["try-again", "--cancel", "x"], "try-again --cancel", "x", None),
    (["try-again", "--reload"], "reload and try-again", None, None),
    (["try-again", "x", "--cancel", "--reload"], "reload and try-again --cancel", "x", None),
    (["answer", "x", "-5"], "answer", ["x", "-5", None], None),
    (["answer", "x", "y", "--asked", "2", "--run", "b"], "answer", ["x", "y", 2], "b"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "word", "value", "label"),
    REQUESTS,
    ids=[" ".join(r[0]) for r in REQUESTS],
)
def test_each_word_of_steer_is_said_to_the_program(
    monkeypatch: pytest.MonkeyPatch, words: Words, word: str, value: Any, label: Any
) -> None:
    said: list[Any] = []

    def ask(pid: int, request: dict[str, Any]) -> dict[str, Any]:
        said.append((pid, json.loads(json.dumps(request))))
        return {"done": "it is done"}

    monkeypatch.setattr(_client, "ask", ask)
    done = trioflow("steer", "42", *words)
    assert (done.exit_code, done.output) == (0, "it is done\n")
    assert said == [(42, {"do": word, "value": value, "run": label})]


@pytest.mark.parametrize("number", ["0", "00", "-1", "x", "1.5", ""])
@pytest.mark.parametrize("place", ["pid", "window"])
def test_steer_takes_whole_numbers_from_one_up(
    monkeypatch: pytest.MonkeyPatch, number: str, place: str
) -> None:
    monkeypatch.delattr(_client, "ask")
    words = ["42", "window", number]
    if place == "pid":
        words = ["--", number, "pause"]
    done = trioflow("steer", *words)
    advice = "a whole number from 1 up"
    if place == "pid":
        advice = "the PID of the program, which trioflow look lists"
    assert done.exit_code == 2
    assert f"found {number!r}; give {advice}" in done.stderr


# ---- trioflow look
def test_look_shows_the_runs_of_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [{"label": label, "n": n} for n, label in enumerate("abab")]
    monkeypatch.setattr(_client, "ask", lambda pid: {"pid": pid, "runs": runs})
    lines = lambda pid, record, columns, height: [str((pid, record, columns, height))]  # noqa: E731
    monkeypatch.setattr(_client, "text_lines", lines)
    for words, chosen in (([], runs), (["--run", "b"], runs[1::2])):
        record = {"pid": 7, "runs": chosen}
        found = trioflow("look", "7", *words, "--json")
        assert (found.exit_code, found.stderr) == (0, "")
        assert found.stdout == json.dumps(record, indent=1) + "\n"
        shown = trioflow("look", "7", *words)
        assert shown.stdout == f"{(7, record, None, float('inf'))}\n"
    wrong = trioflow("look", "7", "--run", "c")
    assert wrong.exit_code == 2
    assert wrong.stderr == "Error: process 7: no run 'c' is in progress\n"


def test_look_lists_the_programs_with_their_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    programs = [
        (12, {"runs": [{"label": name} for name in "abcde"], "command": ["x", "y"]}),
        (9, {"runs": [], "command": ["z"]}),
    ]
    monkeypatch.setattr(_client, "command_text", lambda record: record["command"][0])
    for found in (programs, []):
        monkeypatch.setattr(_client, "answering_programs", lambda found=found: found)
        done = trioflow("look")
        if found:
            assert done.exit_code == 0
            assert done.output == "12  a, b, c and 2 more: x\n9  no run: z\n"
        else:
            assert (done.exit_code, done.stdout) == (2, "")
            assert "no program that answers runs: start it" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["7", "--json", "--web"], "give only one of --json, --web"),
        (["--json"], "give the PID of the program"),
        (["--web"], "give the PID of the program"),
        (["0"], "0 is not in the range x>=1"),
        (
            [__file__],
            f"a trace is shown by --web alone: trioflow look {__file__} --web",
        ),
        (["nothing"], "there is neither a process nor a trace file 'nothing'"),
    ],
)
def test_look_says_what_is_wrong_with_its_words(words: Words, said: str) -> None:
    done = trioflow("look", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr


# ---- trioflow compare, trioflow report
def test_compare_takes_the_earlier_run_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("before", "after"):
        (tmp_path / name).touch()
    monkeypatch.setattr(_trace_file, "read_record", lambda path: path.name)
    monkeypatch.setattr(_compare, "run_times", str.upper)
    monkeypatch.setattr(_compare, "compare", lambda *runs: " then ".join(runs))
    monkeypatch.setattr(_compare, "comparison_lines", lambda text, symbols: [text])
    done = trioflow("compare", tmp_path / "before", tmp_path / "after")
    assert (done.exit_code, done.output) == (0, "BEFORE then AFTER\n")


# ---- what all commands share
@pytest.mark.parametrize(
    ("connection", "forward"),
    [
        ("", ""),
        ("192.0.2.1 50000 192.0.2.9", ""),
        ("192.0.2.1 50000 192.0.2.9 22", "ann@192.0.2.9"),
        ("192.0.2.1 50000 192.0.2.9 2222", "-p 2222 ann@192.0.2.9"),
    ],
)
def test_in_a_session_of_ssh_an_address_comes_with_the_command_that_forwards_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    connection: str,
    forward: str,
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", connection)
    monkeypatch.setenv("LOGNAME", "ann")
    url = "http://127.0.0.1:8123/key/"
    for err in (False, True):
        _outputs.echo_address(url, err=err)
        captured = capsys.readouterr()
        shown, other = (captured.err, captured.out)[:: 1 if err else -1]
        line = f"From your own machine, first: ssh -L 8123:127.0.0.1:8123 {forward}\n"
        assert shown == f"{url}\n{line if forward else ''}"
        assert other == ""


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (
            OSError(28, "No space left"),
            "Error: cannot write the output: No space left\n",
        ),
        (OSError("odd"), "Error: cannot write the output: odd\n"),
        (BrokenPipeError(32, "Broken pipe"), ""),
    ],
)
def test_an_output_that_cannot_be_written_is_said_once_on_standard_error(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: OSError,
    shown: str,
) -> None:
    """A reader that has exited is no error, and neither gives the exit code of a wrong command line."""
    assert _outputs.report_output_error(error) == 1
    assert capsys.readouterr() == ("", shown)
    echo = _outputs.echo

    def break_stdout(text: str, *, err: bool = False, nl: bool = True) -> None:
        if not err:
            raise error
        echo(text, err=err, nl=nl)

    monkeypatch.setattr(_outputs, "echo", break_stdout)
    assert _outputs.try_echo("x") is isinstance(error, BrokenPipeError)
    assert capsys.readouterr() == ("", shown)
    assert _outputs.try_echo("x", err=True)


def test_colours_are_forced_unless_they_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    colour = click.style("x", fg="red")
    for force, refuse in (("", ""), ("1", ""), ("1", "1"), ("", "1")):
        monkeypatch.setenv("FORCE_COLOR", force)
        monkeypatch.setenv("NO_COLOR", refuse)
        _outputs.echo(colour)
        expected = colour if force and not refuse else "x"
        assert capsys.readouterr().out == f"{expected}\n"


def test_of_an_option_that_names_a_place_there_is_one_value() -> None:
    context: Any = None
    assert _declared_options.single_value(context, context, []) is None
    assert _declared_options.single_value(context, context, ["a"]) == "a"
    with pytest.raises(click.BadParameter, match="several are given"):
        _declared_options.single_value(context, context, ["a", "b"])
    merge = _declared_options.merge_values
    assert [*merge(context, context, [{"b": 1}, {"a": 2, "c": 3}])] == ["b", "a", "c"]
    with pytest.raises(click.BadParameter, match="b is given twice"):
        merge(context, context, [{"a": 1, "b": 1}, {"b": 1}])


REASONS = {
    StopReason.COMPLETED: 0,
    StopReason.FAILED: 3,
    StopReason.CRITICAL: 1,
    StopReason.TIMEOUT: 1,
    StopReason.CANCELLED: 1,
    StopReason.DRAINED: 1,
    StopReason.INTERRUPTED: 143,
    None: 143,
}


def test_each_reason_for_the_end_of_a_run_has_its_exit_code() -> None:
    assert {*REASONS} == {*StopReason, None}
    for reason, code in REASONS.items():
        ended: Any = type("Ended", (), {"stop_reason": reason})
        assert _run.exit_code_of_run(ended, 143) == code
    assert _run.exit_code_of_run(Scheduler()) == 130


# ---- signals
INT, TERM = signal.SIGINT, signal.SIGTERM
ENDS = "SIG{}: shutting down; a second one quits at once\n"
DRAINS = "SIGTERM: no more jobs start; a second one shuts down\n"


@pytest.mark.parametrize(
    ("drains", "signals", "said", "code", "exited"),
    [
        (False, [INT], ENDS.format("INT"), 130, []),
        (False, [TERM], ENDS.format("TERM"), 143, []),
        (False, [INT, TERM], ENDS.format("INT"), 130, [143]),
        (False, [TERM, INT], ENDS.format("TERM"), 143, [130]),
        (True, [TERM], DRAINS, 130, []),
        (True, [TERM, TERM], DRAINS + ENDS.format("TERM"), 143, []),
        (True, [TERM, INT], DRAINS + ENDS.format("INT"), 130, []),
        (True, [TERM, TERM, INT], DRAINS + ENDS.format("TERM"), 143, [130]),
        (True, [INT], ENDS.format("INT"), 130, []),
        (True, [INT, TERM], ENDS.format("INT"), 130, [143]),
    ],
)
def test_signals_end_a_command_one_step_further_each(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    drains: bool,
    signals: list[signal.Signals],
    said: str,
    code: int,
    exited: list[int],
) -> None:
    monkeypatch.setattr(_signals, "exit_at_once", sys.exit)
    words = ["drain"]
    on_signal = _signals.ExitOnSecondSignal(words.pop if drains else None)
    answers: list[object] = []
    exits: list[object] = []
    for number in signals:
        try:
            answers.append(on_signal(number))
        except SystemExit as exit_at_once:
            exits.append(exit_at_once.code)
    assert (on_signal.exit_code, exits) == (code, exited)
    assert capsys.readouterr() == ("", said)
    is_drained = drains and signals[0] is TERM
    assert answers[0] == (words.pop if is_drained else None)
    assert answers[1:] == [None] * (len(signals) - len(exited) - 1)


@pytest.mark.parametrize(
    ("terminals", "shown"),
    [([0, 1, 2], 1), ([0, 2], 2), ([0], 0), ([], None)],
)
def test_the_cursor_is_shown_on_the_first_terminal(
    monkeypatch: pytest.MonkeyPatch, terminals: list[int], shown: int | None
) -> None:
    done: list[Any] = []
    monkeypatch.setattr(os, "isatty", terminals.__contains__)
    monkeypatch.setattr(os, "write", lambda *written: done.append(written))
    monkeypatch.setattr(os, "_exit", done.append)
    _signals.exit_at_once(143)
    monkeypatch.undo()
    cursor = [] if shown is None else [(shown, b"\x1b[?25h\n")]
    assert done == [*cursor, 143]


# ---- the log of the engine
def test_the_command_prints_the_log_of_the_engine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error, without advice, and without what the command repeats or the file's own log has."""
    handlers: list[logging.Handler] = []
    monkeypatch.setattr(logging.root, "handlers", handlers)
    log = logging.getLogger("trioflow")
    hidden = {"end"}
    with _run.show_engine_log(hidden):
        log.info("an info")
        log.warning("%s%s", "a {b} %s", "; advice for programs")
        log.warning("three %s%s%s", 1, 2, 3)
        log.warning("the end", extra={"about": "end"})
        log.error("a failure", extra={"about": "failure"})
        hidden.add("failure")
        log.error("another", extra={"about": "failure"})
        handlers.append(logging.NullHandler())
        log.warning("by its own logging")
    assert capsys.readouterr() == ("", "a {b} %s\nthree 123\na failure\n")
    assert log.handlers == []
    with _run.show_engine_log(()):
        assert log.handlers == []
