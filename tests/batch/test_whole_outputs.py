"""What a batch takes from its command line, prints in which order, and says of the time left; no command runs."""

import asyncio
import contextlib
import io
import re
import sys
import time
from types import SimpleNamespace
from typing import Any
import pytest
from trioflow.batch._options import HaltRule, Options
from trioflow.batch._output import Printer
from trioflow.batch._reporter import CommandTally, Reporter
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
