"""What a batch takes from its command line, prints in which order, and says of the time left; no command runs."""

import asyncio
import contextlib
import io
import json
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any
import pytest
from trioflow import (
    CommandError,
    CommandJob,
    CommandResult,
    JobState,
    SshNode,
    Unreachable,
)
from trioflow.batch import BatchError, _batch
from trioflow.batch._batch import Batch, NodePool
from trioflow.batch._command_job import BatchCommandJob, CommandOutcome
from trioflow.batch._options import HaltRule, Options
from trioflow.batch._output import Printer
from trioflow.batch._record_files import (
    CsvFormat,
    JoblogFormat,
    JsonLinesFormat,
    OutputDirectory,
    results_directory,
)
from trioflow.batch._reporter import (
    CommandFailures,
    CommandTally,
    FailedCommand,
    Reporter,
)
from trioflow.batch._template import CommandTemplate
from trioflow.cli.batch import _batch_run
from trioflow.cli.batch._progress_bar import remaining_seconds
from trioflow.view._estimate import MIN_ENDED
from .process import batch

DEFAULTS: dict[str, Any] = {
    "words": (), "jobs": None, "nodes": (), "ssh_config": None, "timeout": None, "retries": 1, "idle_timeout": None,
    "memfree": None, "memory_limit": None, "pin": False, "needs": {}, "pool": {}, "halt": None, "joblog": None,
    "journal": None, "keep": "succeeded", "results": None, "keep_order": False, "line_buffer": False, "tag": False,
    "bar": False, "dry_run": False, "files": (), "null": False, "colsep": None, "items_per_command": None,
    "fills_lines": False,
}  # fmt: skip
GIVEN: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}),
    (["-j", "3", "-j", "2", "-k", "--tag"], {"jobs": 2, "keep_order": True, "tag": True}),
    (["-P3", "-S", "a", "-S", "b", "-F", "none"], {"jobs": 3, "nodes": ("a", "b"), "ssh_config": "none"}),
    (["--timeout", "1m", "--idle-timeout", "0", "--retries", "0"], {"timeout": 60.0, "retries": 0}),
    (["--idle-timeout", "1.5h", "--timeout", "0s"], {"idle_timeout": 5400.0}),
    (["--joblog", "+l", "--journal", "j", "--keep", "all"], {"joblog": "+l", "journal": "j", "keep": "all"}),
    (["--halt", "now,fail=5%"], {"halt": HaltRule(True, "fail", 5, True)}),
    (["--halt", "soon,success=2", "--bar"], {"halt": HaltRule(False, "success", 2, False), "bar": True}),
    (["--halt", "never", "--line-buffer"], {"line_buffer": True}),
    (["--needs", "gpu=1", "--needs", "mem=1G", "--pool", "mem=2G"], {
        "needs": {"gpu": 1, "mem": 1 << 30}, "pool": {"mem": "2G"}
    }),
    (["--memory-limit", "1k"], {"memory_limit": 1000}),
    (["-a", "f", "-a", "g", "-0", "-C", ",", "-N", "3"], {
        "files": ("f", "g"), "null": True, "colsep": re.compile(","), "items_per_command": 3
    }),
    (["-N0", "--results", "d.CSV/"], {"items_per_command": 0, "results": "d.CSV/"}),
    (["-X", "--results", "t.csv"], {"fills_lines": True, "results": "t.csv"}),
    (["-m", "--dry-run"], {"fills_lines": True, "dry_run": True}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "changed"), GIVEN, ids=[" ".join(g[0]) for g in GIVEN]
)
def test_each_option_of_a_batch_is_taken_and_changes_no_other(
    monkeypatch: pytest.MonkeyPatch, words: list[str], changed: dict[str, Any]
) -> None:
    taken: list[Options] = []

    def run(options: Options) -> int:
        taken.append(options)
        return 7

    monkeypatch.setattr(_batch_run, "run", run)
    done = batch(*words, "echo", "-k", ":::", "-j")
    assert done.exit_code == 7, done.output
    (options,) = taken
    found = {name: getattr(options, name) for name in DEFAULTS}
    assert found == {**DEFAULTS, **changed, "words": ("echo", "-k", ":::", "-j")}


# ---- what is printed, and when
class Streams:
    """The standard streams, which have no descriptor."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = {name: io.BytesIO() for name in ("stdout", "stderr")}
        for name, stream in self.bytes.items():
            monkeypatch.setattr(sys, name, io.TextIOWrapper(stream))

    def take(self) -> tuple[str, str]:
        shown = []
        for stream in self.bytes.values():
            shown.append(stream.getvalue().decode())
            stream.seek(0)
            stream.truncate()
        return shown[0], shown[1]


def files(out: str, err: str = "") -> tuple[io.BytesIO, io.BytesIO]:
    return io.BytesIO(out.encode()), io.BytesIO(err.encode())


def no_bar() -> contextlib.AbstractContextManager[bool]:
    return contextlib.nullcontext(False)


def test_outputs_in_order_are_printed_as_soon_as_it_is_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a running command writes waits for those before it, and is printed at once when its turn has come."""

    async def main() -> list[tuple[str, str]]:
        streams = Streams(monkeypatch)
        printer = Printer(in_order=True, print_guard=no_bar)
        shown = []
        printer.print_live(2, 0, b"2a\n")
        printer.print_live(3, 1, b"3a\n")
        printer.print_live(2, 0, b"")
        shown.append(streams.take())
        printer.print_live(1, 0, b"1a\n")
        shown.append(streams.take())
        printer.keep_output(3, files("3b\n3c\n", "3d"), b"t\t")
        await printer.print_kept(3)
        shown.append(streams.take())
        printer.keep_output(1, files("1b\n", "1c\n"), None)
        await printer.print_kept(1)
        shown.append(streams.take())
        printer.print_live(2, 1, b"2b\n")
        shown.append(streams.take())
        # Its first try, whose output waits, has failed.
        printer.keep_output(5, files("5a\n"), None)
        printer.keep_output(5, files("5b\n"), None)
        await printer.print_kept(5)
        printer.keep_output(2, files("2c"), None)
        await printer.print_kept(2)
        shown.append(streams.take())
        printer.print_live(7, 0, b"7a\n")
        printer.print_live(6, 1, b"6a\n")
        printer.print_live(4, 0, b"4a\n")
        printer.keep_output(6, files("6b\n"), None)
        shown.append(streams.take())
        printer.flush()
        shown.append(streams.take())
        return shown

    assert asyncio.run(main()) == [
        ("", ""),
        ("1a\n", ""),
        ("", ""),
        ("1b\n2a\n", "1c\n"),
        ("", "2b\n"),
        ("2ct\t3b\nt\t3c\n", "3a\nt\t3d"),
        ("4a\n", ""),
        ("5a\n5b\n6b\n7a\n", "6a\n"),
    ]


@pytest.mark.parametrize("is_restored", [False, True])
@pytest.mark.parametrize("is_appended", [False, True])
@pytest.mark.parametrize("in_order", [False, True])
def test_a_file_that_is_appended_to_gets_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
    is_restored: bool,
    is_appended: bool,
    in_order: bool,
) -> None:
    """Of a command that was restored, it has the output already; standard error may be another place."""

    async def main() -> tuple[str, str]:
        streams = Streams(monkeypatch)
        printer = Printer(in_order=in_order, print_guard=no_bar)
        printer.streams[0].is_appended = is_appended
        printer.keep_output(1, files("out", "err"), None, is_restored=is_restored)
        await printer.print_kept(1)
        await printer.print_message("x\x1b")
        return streams.take()

    out = "" if is_restored and is_appended else "out"
    assert asyncio.run(main()) == (out, "errtrioflow batch: x\\x1b\n")


class Command:
    """A command that was not reported."""


@pytest.mark.parametrize("only_ended", [True, False])
def test_of_an_interrupted_batch_all_that_was_written_is_printed(
    monkeypatch: pytest.MonkeyPatch, only_ended: bool
) -> None:
    """After --halt, only what commands have written that ended by themselves."""
    streams = Streams(monkeypatch)
    options: Any = SimpleNamespace(keep_order=False, halt=None, results=None)
    reporter = Reporter(
        options, None, print_guard=no_bar, records=(), directory=None, on_progress=print
    )
    for number, (text, is_done) in enumerate(
        (("a", True), ("b", False), ("", True)), 1
    ):
        result = SimpleNamespace(
            open=lambda name, text=text: io.BytesIO(f"{text}{name[3:4]}\n".encode())
        )
        command: Any = Command()
        command.sequence, command.tag = number, None
        command.last_result = result if text else None
        command.is_done = lambda is_done=is_done: is_done
        reporter.unreported[command] = None
    reporter.print_unreported(only_ended)
    texts = ("ao\n", "ae\n") if only_ended else ("ao\nbo\n", "ae\nbe\n")
    assert streams.take() == texts


def test_in_a_comment_an_argument_is_one_line() -> None:
    template = CommandTemplate(["echo {gpu} # {} {1}"], ["gpu"])
    line = template.fill(["a\nb", "c"], 1, 1, {"gpu": "0 1"})
    assert line == "echo '0 1' # 'a b' c 'a b'"


# ---- records
USAGE: Any = SimpleNamespace(ru_utime=0.5000004, ru_stime=0.25, ru_maxrss=2048)
COMMAND = CommandJob(["x"], label="x")
NAMES = "command,host,started,seconds,exit_code,signal,failure,restored,user_time,system_time,max_rss,max_rss_bound"


def row(row_format: Any, outcome: CommandOutcome, *arguments: str) -> str:
    return b"".join(row_format.encode_outcome(outcome, arguments)).decode()


def ended(code: int, **facts: Any) -> CommandOutcome:
    result = CommandResult(code, 1.25, USAGE, b'x"y\n=1', b"\xff")
    error = CommandError(COMMAND, "x", f"exit code {code}", result)
    return CommandOutcome(
        3, "echo a\nb", result, error, 1795174043.1234567, 1.2345678, **facts
    )


def test_each_record_of_a_command_has_all_columns_in_order() -> None:
    outcome = ended(7, received_bytes=4, host="n1")
    log, lines, table = JoblogFormat(), JsonLinesFormat(), CsvFormat()
    assert log.header(()).decode().split("\t") == [
        "Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal", "Command\n"
    ]  # fmt: skip
    assert (
        row(log, outcome)
        == "3\tn1\t1795174043.123\t     1.235\t0\t4\t7\t0\techo a\0b\n"
    )
    assert row(log, ended(-11)).endswith("\t0\t0\t0\t11\techo a\0b\n")
    assert lines.header(()) == b""
    assert row(lines, outcome, "=1", "b") == (
        '{"seq": 3, "arguments": ["=1", "b"], "command": "echo a\\nb", "host": "n1", "started": 1795174043.123457, '
        '"seconds": 1.234568, "exit_code": 7, "signal": 0, "failure": "exit code 7", "restored": false, '
        '"user_time": 0.5, "system_time": 0.25, "max_rss": 2097152, "max_rss_bound": null, '
        '"stdout": "x\\"y\\n=1", "stderr_base64": "/w=="}\n'
    )
    assert table.header(None) is None
    assert (
        table.header(("=1", "b")) == f"seq,arg1,arg2,{NAMES},stdout,stderr\n".encode()
    )
    assert row(table, outcome, "=1", "b") == (
        '3,\'=1,b,"echo a\nb",n1,1795174043.123457,1.234568,7,0,exit code 7,False,0.5,0.25,2097152,,'
        '"x""y\n=1","\\xff"\n'
    )
    nothing = CommandOutcome(1, "x", None, None, 0.0, 0.0)
    for arguments, cells in (
        ((), ","), (("a",), "a,"), (("a", "b"), "a,b"), (("a", "b", "c", "d"), "a,b c d"),
    ):  # fmt: skip
        assert (
            row(table, nothing, *arguments)
            == f"1,{cells},x,:,0.0,0.0,126,0,,False,,,,,,\n"
        )


@pytest.mark.parametrize("in_shell", [True, False])
def test_of_a_shell_that_was_ended_a_record_has_no_usage(in_shell: bool) -> None:
    shown = json.loads(row(JsonLinesFormat(), ended(-9, in_shell=in_shell)))
    usage = [shown[name] for name in NAMES.split(",")[-4:]]
    assert usage == ([None] * 4 if in_shell else [0.5, 0.25, 2097152, None])
    assert (shown["exit_code"], shown["signal"]) == (None, 9)


def test_the_directory_of_a_command_is_named_by_its_arguments() -> None:
    names = {
        "": "\\.",
        ".": "\\..",
        "..": "\\...",
        "a/b": "a\\_b",
        "\\_/": "\\\\_\\_",
        "...": "...",
    }
    for argument, name in names.items():
        assert results_directory("d", ["x", argument]) == f"d/1/x/2/{name}"
    for beyond in (0, 1):
        (*_, name) = results_directory("d", ["é" * 127 + "x" * (1 + beyond)]).split("/")
        assert len(os.fsencode(name)) == 255
        assert ("~" in name) is bool(beyond)


def test_what_older_results_were_renamed_to_is_told_once(tmp_path: Path) -> None:
    template = CommandTemplate([f"{tmp_path}/{{#}}/"], is_command=False)
    for number in (1, 2, 3):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "stdout").write_text("older")
    directory = OutputDirectory(template)
    assert directory.notice() == ""
    for number, more in (
        (1, ""),
        (2, ", and 1 more likewise"),
        (3, ", and 2 more likewise"),
    ):
        for text in ("first", "second"):
            directory.save(number, ["a"], 1, files(text, "e"))
        assert (tmp_path / str(number) / "stdout").read_text() == "second"
        assert (tmp_path / str(number) / "seq").read_text() == str(number)
        first = tmp_path / "1" / "stdout"
        text = f"trioflow batch: older results were there: '{first}' is now '{first}.before'"
        assert directory.notice() == text + more


def test_two_commands_that_would_write_one_file_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory = OutputDirectory(CommandTemplate(["x"], is_command=False))
    monkeypatch.setattr(
        directory, "_paths", lambda number, *_: ["x"] if number < 3 else ["y"]
    )
    for _ in range(2):
        directory.claim(2, ["b", "c"])
        directory.claim(3, ["d"])
    said = r"commands 2 \(b c\) and 1 \(a\) would both write their results in 'x': put"
    with pytest.raises(BatchError, match=said):
        directory.claim(1, ["a"])


# ---- counts
def test_a_failure_that_is_taken_back_counts_no_longer() -> None:
    options: Any = SimpleNamespace(keep_order=False, halt=None, results=None)
    reporter = Reporter(
        options, None, print_guard=no_bar, records=(), directory=None, on_progress=print
    )
    lines = {number: f"line {number}" for number in range(1, 6)}
    similar = CommandFailures("why", False, lines)
    reporter.tally.failed_count = 5
    reporter.failures["kind",] = similar
    assert similar.first_lines == ["line 1", "line 2", "line 3"]
    for number in range(1, 6):
        reporter.take_back(FailedCommand(number, (), "x", ("kind",)))
        assert reporter.tally.failed_count == 5 - number
        assert [*lines] == [*range(number + 1, 6)]
        assert [*reporter.failures.values()] == [similar] * (number < 5)


def test_each_further_try_and_each_equal_line_is_numbered() -> None:
    for tries, text in ((0, ""), (1, ""), (2, "attempt 2"), (3, "attempt 3")):
        job: Any = SimpleNamespace(_tries=tries)
        assert BatchCommandJob.status_text(job) == text
    for journal, labels in (
        ("j", ["a", "a#2", "b", "a#3"]),
        (None, ["a", "a", "b", "a"]),
    ):
        running: Any = SimpleNamespace(
            options=SimpleNamespace(journal=journal), _line_counts=Counter()
        )
        assert [Batch.unique_label(running, line) for line in "aaba"] == labels


@pytest.mark.parametrize(
    ("total", "idle"), [(None, None), (9, 0), (10, 1), (3, 0), (22, 13)]
)
def test_commands_are_counted_by_their_states(
    total: int | None, idle: int | None
) -> None:
    """One that has not started when the batch is stopped is not counted as cancelled: nothing has ended it."""
    states = [
        (JobState.IDLE, None),
        (JobState.SCHEDULED, None),
        (JobState.RUNNING, 1.0),
        (JobState.SUCCEEDED, 1.0),
        (JobState.SUCCEEDED, None),  # restored
        (JobState.CANCELLED, None),
        (JobState.CANCELLED, 1.0),
    ]
    tally = CommandTally(succeeded_count=1, failed_count=2)
    unreported = [
        SimpleNamespace(state=state, started_at=started_at)
        for state, started_at in states
    ]
    reporter = SimpleNamespace(tally=tally, unreported=unreported)
    running: Any = SimpleNamespace(expected_count=total, reporter=reporter)
    counts = {
        JobState.SCHEDULED: 2,
        JobState.RUNNING: 1,
        JobState.SUCCEEDED: 3,
        JobState.FAILED: 2,
        JobState.CANCELLED: 1,
    }
    if idle is not None:
        counts[JobState.IDLE] = idle
    assert Batch.count_commands(running) == counts


@pytest.mark.parametrize("interrupted", [True, False])
@pytest.mark.parametrize("from_outside", [True, False])
@pytest.mark.parametrize("ended", [(2, 1), (3, 0), (2, 0)])
def test_a_batch_is_cut_short_by_others_if_commands_are_left(
    interrupted: bool, from_outside: bool, ended: tuple[int, int]
) -> None:
    tally = CommandTally(succeeded_count=ended[0], failed_count=ended[1])
    running: Any = SimpleNamespace(
        reporter=SimpleNamespace(tally=tally),
        expected_count=3,
        was_interrupted=interrupted,
        _is_ended_from_outside=from_outside,
    )
    is_cut = interrupted or (from_outside and sum(ended) < 3)
    assert Batch.was_cut_short.fget(running) is is_cut  # type: ignore[attr-defined]


def test_the_error_that_ended_a_batch_is_that_of_its_culprit_or_the_last_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = OSError("first"), OSError("second")
    found = [SimpleNamespace(exception=error) for error in (None, first, second, None)]
    monkeypatch.setattr(_batch, "incidents_of", lambda _: found)
    culprit = SimpleNamespace(raised_exception=lambda: first)
    for by, error in ((None, second), (culprit, first)):
        running: Any = SimpleNamespace(scheduler=SimpleNamespace(culprit=by))
        assert Batch._find_fatal_error(running) is error


def test_a_node_that_cannot_be_reached_is_told_once_and_gets_no_command() -> None:
    a, b = SshNode("a"), SshNode("b")
    told: list[str] = []

    async def note(text: str) -> None:
        told.append(text)

    async def main() -> None:
        pool = NodePool([a, b], 2, note)
        assert [await pool.wait_for_slot() for _ in range(2)] == [a, b]
        for _ in range(2):
            assert await pool.report_unreachable(Unreachable(a, "it is away"))
        pool.release(b)
        pool.release(a)
        assert [await pool.wait_for_slot() for _ in range(2)] == [b, b]
        assert not await pool.report_unreachable(Unreachable(b, "it is off"))
        # The commands fail where they would have run.
        assert await pool.wait_for_slot() is a

    asyncio.run(main())
    left = "; no nodes are left: the remaining commands fail"
    assert told == ["a: it is away", f"b: it is off{left}"]


# ---- the time left
@pytest.mark.parametrize(
    ("total", "done", "failed", "runs", "restored_at", "left"),
    [
        (None, 5, 5, 10, 0.0, None),
        (20, 5, 5, MIN_ENDED - 1, 0.0, None),
        (20, 5, 5, 10, 0.0, 100.0),
        (20, 15, 0, 10, 0.0, 50.0),
        # At the pace since the last restored command.
        (20, 5, 5, 10, 40.0, 60.0),
        (20, 15, 5, 10, 0.0, 0.0),
        (20, 16, 5, 10, 0.0, 0.0),
    ],
)
def test_the_time_left_of_a_batch_is_that_of_its_pace(
    monkeypatch: pytest.MonkeyPatch,
    total: int | None,
    done: int,
    failed: int,
    runs: int,
    restored_at: float,
    left: float | None,
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    tally = CommandTally(succeeded_count=done, failed_count=failed)
    reporter = SimpleNamespace(
        tally=tally, run_count=runs, last_restored_at=restored_at
    )
    running: Any = SimpleNamespace(expected_count=total, reporter=reporter)
    assert remaining_seconds(running, 0.0) == left


def test_the_time_left_is_told_from_a_number_of_commands_on() -> None:
    tally = CommandTally(succeeded_count=1)
    reporter = SimpleNamespace(tally=tally, run_count=MIN_ENDED, last_restored_at=0.0)
    running: Any = SimpleNamespace(expected_count=9, reporter=reporter)
    assert remaining_seconds(running, 0.0) is not None
