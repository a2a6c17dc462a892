"""Large outputs: they are saved and printed whole, and meanwhile the batch goes on."""

import contextlib
import csv
import io
import json
import os
import signal
import sqlite3
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
import anyio
import anyio.lowlevel
import pytest
from trioflow import Scheduler
from trioflow.batch import _output
from trioflow.batch._record_files import JsonLinesFormat, RecordFile
from trioflow.journal._store import JournalStore
from ..cli.command_line import trioflow
from ..places import PATIENCE
from .process import batch

pytestmark = pytest.mark.usefixtures("plain_shell")

TEXT = 'a "quoted" été, \N{CAT}\n' * 50_000


@pytest.fixture(autouse=True)
def large_output(plain_shell: None) -> None:
    """Make a file whose text has characters of several bytes at all borders of pieces."""
    Path("large").write_text(TEXT, encoding="utf-8")


def test_a_large_output_is_whole_in_a_table_of_csv() -> None:
    """An output that is written in pieces has all its characters, and its quotes are escaped."""
    batch("--results", "runs.csv", "cat {}; printf x >&2", ":::", "large")
    limit = csv.field_size_limit(10**8)
    try:
        with open("runs.csv", newline="", encoding="utf-8") as file:
            (row,) = csv.DictReader(file)
    finally:
        csv.field_size_limit(limit)
    assert (row["stdout"] == TEXT, row["stderr"]) == (True, "x")


def test_a_large_output_is_whole_in_lines_of_json() -> None:
    """An output that is written in pieces is one text, or in base64 if a byte at its end is not UTF-8."""
    batch(
        "--results",
        "runs.jsonl",
        "-j1",
        ":::",
        "cat large",
        "cat large; printf '\\377'",
    )
    text, binary = map(json.loads, Path("runs.jsonl").read_text().splitlines())
    assert text["stdout"] == TEXT
    assert set(binary) - set(text) == {"stdout_base64"}
    assert len(binary["stdout_base64"]) == (len(TEXT.encode()) + 3) // 3 * 4


def test_a_thread_saves_a_large_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop once stood still while a large output was written, so that no timeout could fire."""
    threads: list[threading.Thread] = []
    add = RecordFile.add

    def add_in_thread(*args: Any) -> None:
        threads.append(threading.current_thread())
        add(*args)

    monkeypatch.setattr(RecordFile, "add", add_in_thread)
    batch("-j1", "--results", "runs.csv", ":::", "echo small", "cat large")
    assert [thread is threading.main_thread() for thread in threads] == [True, False]


def test_a_command_whose_row_is_written_when_the_batch_is_interrupted_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encode, interrupt, interrupted = (
        JsonLinesFormat.encode_outcome,
        Scheduler._interrupt,
        threading.Event(),
    )

    def encode_interrupted(*args: Any) -> Iterator[bytes]:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupted.wait(PATIENCE)
        return encode(*args)

    def interrupt_noted(*args: Any) -> bool:
        ended = interrupt(*args)
        interrupted.set()
        return ended

    monkeypatch.setattr(Scheduler, "_interrupt", interrupt_noted)
    monkeypatch.setattr(JsonLinesFormat, "encode_outcome", encode_interrupted)
    done = batch(
        "-j1", "--joblog", "log", "--results", "runs.jsonl", ":::", "cat large", "true"
    )
    assert (done.exit_code, len(Path("log").read_text().splitlines())) == (130, 2)
    assert "batch  ✗ interrupted, 1 of 2 commands succeeded" in done.stderr
    assert json.loads(Path("runs.jsonl").read_text())["stdout"] == TEXT


def test_threads_write_a_large_output_into_the_journal_and_read_it_in_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A large output was once in memory several times, and the event loop stood still while it was stored or read."""
    calls: list[tuple[str, bool]] = []

    def watch(name: str) -> None:
        method = getattr(JournalStore, name)

        def watched(*args: Any, **options: Any) -> Any:
            calls.append((name, threading.current_thread() is threading.main_thread()))
            return method(*args, **options)

        monkeypatch.setattr(JournalStore, name, watched)

    watch("write_large")
    watch("read_large")
    assert (
        batch(
            "--journal", "small.db", "--results", "small.jsonl", "echo", ":::", "a"
        ).exit_code
        == 0
    )  # imports all
    words = [
        "--journal",
        "run.db",
        "--results",
        "runs.jsonl",
        "head -c 8000000 {} | tr '\\0' x",
        ":::",
        "/dev/zero",
    ]
    for expected in ("write_large", "read_large"):
        tracemalloc.start()
        try:
            assert batch(*words).exit_code == 0
            assert tracemalloc.get_traced_memory()[1] < 7 << 20
        finally:
            tracemalloc.stop()
        assert calls == [(expected, False)] * 2  # the result, and its output
        calls.clear()
        assert json.loads(Path("runs.jsonl").read_text())["stdout"] == "x" * 8_000_000


def test_a_large_failure_is_kept_with_its_output() -> None:
    words = [
        "--journal",
        "run.db",
        "--keep",
        "all",
        "echo x >> runs; cat {}; exit 3",
        ":::",
        "large",
    ]
    assert [batch(*words).stdout for _ in range(2)] == [TEXT, TEXT]
    assert Path("runs").read_text() == "x\n"


def test_a_large_output_that_is_damaged_runs_its_command_again() -> None:
    words = ["--journal", "run.db", "cat {}", ":::", "large"]
    batch(*words)
    with contextlib.closing(sqlite3.connect("run.db")) as db:
        assert db.execute("SELECT count(*) FROM results").fetchone()[0] > 1
        db.execute("UPDATE results SET data = zeroblob(length(data)) WHERE piece = 1")
        db.commit()
    assert batch(*words).stdout == TEXT
    assert "its stored result cannot be used" in trioflow("journal", "run.db").stdout


def test_the_event_loop_turns_while_a_large_output_is_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A large output that goes to a file once was printed in one turn of the event loop."""
    monkeypatch.setattr(_output, "MAX_WRITING_SECONDS", 0)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        async with anyio.create_task_group() as group:
            group.start_soon(printer.print_kept, 1)
            while file.tell() < 1_000_000:
                await anyio.lowlevel.checkpoint()
                turns += 1

    with open("printed", "w", encoding="utf-8") as file:
        monkeypatch.setattr("sys.stdout", file)
        printer = _output.Printer(in_order=True, print_guard=lambda: nullcontext(False))
        printer.keep_output(1, (io.BytesIO(b"x" * 1_000_000), io.BytesIO()), None)
        anyio.run(count_turns)
    assert turns > 100


def test_waiting_output_on_disk_is_freed_with_the_last_of_it() -> None:
    """Two outputs are beyond the memory: the file goes with the second one that is taken, and comes anew."""
    backlog = _output.Backlog(max_bytes_in_memory=0)
    for _ in range(2):
        items = [backlog.store(io.BytesIO(text)) for text in (b"one", b"two")]
        assert b"".join(backlog.take(items[1])) == b"two"
        assert backlog._spool is not None
        assert b"".join(backlog.take(items[0])) == b"one"
        assert backlog._spool is None
