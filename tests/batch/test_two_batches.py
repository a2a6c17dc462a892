"""Several batches that append to one file, and the rows of tries that others have followed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import time
from contextlib import nullcontext
from pathlib import Path
from random import Random
from typing import Any
import pytest
from trioflow import _posix as posix
from trioflow.batch import _output, _record_files
from trioflow.batch._command_job import CommandOutcome
from trioflow.batch._record_files import JoblogFormat, JsonLinesFormat, RecordFile
from ..cli.command_line import WORDS
from ..pythons import Python

HEADER = JoblogFormat.start + b"\n"


def outcome(number: int, command: str, *, fails: bool = False) -> CommandOutcome:
    return CommandOutcome(
        number, command, None, OSError(2, "x") if fails else None, 1.0, 0.5
    )


def add(file: RecordFile, number: int, command: str, *, fails: bool = False) -> None:
    file.add(outcome(number, command, fails=fails), (), 1)


def commands(path: Path) -> list[str]:
    lines = path.read_bytes().splitlines(keepends=True)
    assert lines[0] == HEADER
    torn = [
        line for line in lines if line.count(b"\t") != 8 or not line.endswith(b"\n")
    ]
    assert torn == []
    return [line.decode().rstrip().split("\t")[-1] for line in lines[1:]]


def log(path: Path, **options: Any) -> RecordFile:
    return RecordFile(str(path), JoblogFormat(), append=True, **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "all.log"


def test_two_batches_begin_one_job_log(path: Path) -> None:
    """Both saw an empty file as they opened it, and the second emptied it at its first row."""
    one, other = log(path), log(path)
    add(one, 1, "a")
    add(one, 2, "b")
    add(other, 1, "c")
    one.close()
    other.close()
    assert commands(path) == ["a", "b", "c"]


def test_a_row_that_was_appended_since_the_file_was_read_is_not_cut(path: Path) -> None:
    path.write_bytes(HEADER + b"1\t:\t1.000\t     0.500\t0\t0\t0\t0\told\n2\t:\t1.0")
    one = log(path)
    add(one, 1, "a")
    other = log(path)
    add(other, 1, "b")
    assert commands(path) == ["old", "a", "b"]
    one.close()
    other.close()
    path.write_bytes(HEADER[:10])
    begun = log(path)
    add(begun, 1, "x" * (3 << 20))
    begun.close()
    with path.open("ab") as file:
        file.write(b"torn" * (1 << 19))
    again = log(path)
    again.close()
    assert commands(path) == ["x" * (3 << 20)]


def test_a_row_that_no_batch_has_written_under_the_lock_stops_the_cut(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GNU parallel, or a batch on a file system without locks, may be in the middle of a row."""
    path.write_bytes(HEADER + b"1\t:")
    sizes = iter([len(HEADER) + 3, len(HEADER) + 40])
    monkeypatch.setattr(RecordFile, "_size", lambda _: next(sizes))
    file = log(path)
    monkeypatch.undo()
    assert path.read_bytes() == HEADER + b"1\t:"
    file.close()


@pytest.mark.sampled
@pytest.mark.parametrize("seed", range(30))
def test_batches_that_meet_lose_no_row_and_remove_only_their_own(
    path: Path, seed: int
) -> None:
    """Each row of each batch is there once, but those of tries that others have followed in the same batch."""
    random = Random(seed)
    files = [log(path) for _ in range(3)]
    # For each batch, the text of the last row of each command that has failed.
    failed: list[dict[int, str]] = [{}, {}, {}]
    written, superseded = set[str](), set[str]()
    for count in range(60):
        index = random.randrange(3)
        if random.random() < 0.05:
            files[index].close()
            files[index], failed[index] = log(path), {}
        number = random.choice([*failed[index], count])
        text, fails = (
            f"{index}-{number}-{count}" + "x" * random.randrange(50),
            random.random() < 0.5,
        )
        superseded |= {failed[index].pop(number)} if number in failed[index] else set()
        add(files[index], number, text, fails=fails)
        written.add(text)
        if fails:
            failed[index][number] = text
    for file in files:
        file.close()
    found = commands(path)
    assert len({*found}) == len(found)
    assert {*found} == written - superseded


def test_one_batch_leaves_no_row_that_another_try_has_followed(path: Path) -> None:
    file = log(path)
    add(file, 1, "a", fails=True)
    add(file, 2, "b")
    add(file, 1, "again", fails=True)
    add(file, 1, "at last")
    path.chmod(0o640)
    file.close()
    assert commands(path) == ["b", "at last"]
    assert path.stat().st_mode & 0o777 == 0o640
    assert [*path.parent.iterdir()] == [path]


def test_a_kill_while_rows_are_taken_out_changes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were moved in place, piece by piece: a kill between two pieces tore the row of another command."""
    path = tmp_path / "results.jsonl"

    def written(stops_at: int) -> int:
        file = RecordFile(str(path), JsonLinesFormat())
        for number, fails in ((1, True), (2, False), (1, False)):
            file.add(outcome(number, "x" * 3000, fails=fails), (), 1)
        before, steps = path.read_bytes(), 0
        pieces = _record_files._pieces

        def stopping(*args: Any) -> Any:
            nonlocal steps
            for piece in pieces(*args):
                steps += 1
                if steps == stops_at:
                    raise KeyboardInterrupt
                yield piece

        monkeypatch.setattr(_record_files, "MAX_WRITE_SIZE", 1000)
        monkeypatch.setattr(_record_files, "_pieces", stopping)
        try:
            file.close()
        except KeyboardInterrupt:
            assert path.read_bytes() == before
        monkeypatch.undo()
        assert len([json.loads(line) for line in path.read_text().splitlines()]) in (
            2,
            3,
        )
        return steps

    steps = written(0)
    assert steps > 6
    for stops_at in range(1, steps + 1):
        assert written(stops_at) == stops_at
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("is_locked", [False, True])
def test_the_next_batch_removes_what_a_kill_has_left_while_rows_were_taken_out(
    path: Path, monkeypatch: pytest.MonkeyPatch, is_locked: bool
) -> None:
    """Each kill left a hidden file of its own, as large as the table. While another batch holds the lock, it may be
    in use: whoever takes rows out removes it."""
    monkeypatch.setattr(_record_files, "LOCK_TRIES", 2)
    left = path.with_name(".all.log.trioflow")
    left.write_text("half a table")
    log(path).close()
    assert not left.exists()
    left.write_text("half a table")
    with path.open("rb") as locked:
        if is_locked:
            posix.fcntl.flock(locked, posix.fcntl.LOCK_EX)
        file = log(path)
        assert left.exists() == is_locked
    add(file, 1, "a", fails=True)
    add(file, 1, "b")
    file.close()
    assert commands(path) == ["b"]
    assert [*path.parent.iterdir()] == [path]


def test_a_batch_that_has_taken_rows_out_leaves_the_new_file_of_the_next_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it has replaced the file, its lock keeps nobody out: the next batch may write its own new file already."""
    file = log(path)
    add(file, 1, "a", fails=True)
    add(file, 1, "b")
    next_one = path.with_name(".all.log.trioflow")
    replace = os.replace

    def replaced(*paths: Any) -> None:
        replace(*paths)
        next_one.write_text("the next")

    monkeypatch.setattr(os, "replace", replaced)
    file.close()
    assert commands(path) == ["b"]
    assert next_one.read_text() == "the next"


def test_a_lock_of_somebody_else_stops_no_batch(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_record_files, "LOCK_TRIES", 2)
    file = log(path)
    with path.open("rb") as locked:
        posix.fcntl.flock(locked, posix.fcntl.LOCK_EX)
        add(file, 1, "a")
        assert commands(path) == ["a"]
    add(file, 2, "b")
    file.close()
    assert commands(path) == ["a", "b"]


def test_a_job_log_may_be_a_pipe(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    file = log(Path(f"/dev/fd/{writer}"))
    add(file, 1, "a", fails=True)
    add(file, 1, "b")
    file.close()
    os.close(writer)
    with open(reader, "rb") as stream:
        assert [line.split(b"\t")[-1] for line in stream.read().splitlines()] == [
            b"Command",
            b"a",
            b"b",
        ]


def test_two_commands_append_to_one_job_log(tmp_path: Path) -> None:
    line = [*WORDS, "batch", "-j", "1", "--joblog", "+all.log", "true", ":::"]
    batches = [
        Python(
            [*line, *(f"{index}{k}" for k in range(10))],
            cwd=tmp_path,
            stderr=subprocess.DEVNULL,
        )
        for index in range(2)
    ]
    assert [batch.wait(60) for batch in batches] == [0, 0]
    expected = sorted(f"true {index}{k}" for index in range(2) for k in range(10))
    assert sorted(commands(tmp_path / "all.log")) == expected


def test_with_keep_order_the_output_of_each_try_is_printed(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """The output of a try that had failed was replaced while it waited: what it said is the reason to look."""
    printer = _output.Printer(in_order=True, print_guard=lambda: nullcontext(False))
    for text in (b"try 1\n", b"try 2\n"):
        printer.keep_output(2, (io.BytesIO(text), io.BytesIO()), None)
    printer.keep_output(1, (io.BytesIO(b"one\n"), io.BytesIO()), None)
    printer.flush()
    assert capfdbinary.readouterr().out == b"one\ntry 1\ntry 2\n"
    assert printer._backlog._bytes_in_memory == 0


def test_a_row_that_a_killed_batch_has_torn_is_cut_before_the_next(path: Path) -> None:
    """The next row of another batch was glued to it: a false row, and one lost."""
    one, other = log(path), log(path)
    add(one, 1, "a")
    add(other, 1, "b")
    with path.open("ab") as killed:
        killed.write(b"2\t:\t1.0")
    add(one, 2, "c")
    one.close()
    other.close()
    assert commands(path) == ["a", "b", "c"]


@pytest.mark.parametrize("is_moved", [False, True])
def test_a_log_that_was_removed_or_rotated_is_begun_anew(
    path: Path, is_moved: bool
) -> None:
    """Its rows went into a file without a name."""
    files = [log(path), log(path)]
    add(files[0], 1, "a", fails=True)
    if is_moved:
        path.rename(path.with_suffix(".1"))
    else:
        path.unlink()
    for index, file in enumerate(files):
        add(file, 1, f"again {index}")
    for file in files:
        file.close()
    assert commands(path) == ["again 0", "again 1"]


def test_a_lock_that_others_keep_for_long_stops_a_batch_once_and_it_finds_the_new_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another batch takes rows out of a large table, under the lock, it once wrote into the old file for good."""
    pauses = list[float]()
    monkeypatch.setattr(time, "sleep", pauses.append)
    one, other = log(path), log(path)
    add(one, 1, "a", fails=True)
    with path.open("rb") as locked:
        posix.fcntl.flock(locked, posix.fcntl.LOCK_EX)
        add(other, 1, "b")
        waited = len(pauses)
        add(other, 2, "c")
    assert waited == _record_files.LOCK_TRIES
    assert len(pauses) == waited + 1
    add(one, 1, "at last")
    one.close()
    add(other, 3, "d")
    other.close()
    assert commands(path) == ["b", "c", "at last", "d"]


def test_rows_stay_in_a_file_with_other_names(path: Path) -> None:
    file = log(path)
    add(file, 1, "a", fails=True)
    os.link(path, path.with_suffix(".too"))
    add(file, 1, "b")
    file.close()
    assert commands(path) == commands(path.with_suffix(".too")) == ["a", "b"]


TEXTS = "x" * 10, "x" * (1 << 18)
"""Short ones, and some that are written in many pieces."""


def write_until_killed(path: str, name: str, count: str) -> None:
    """Be a batch: write rows, of which some are followed by others, and print each row that is there, at most a dozen
    before they are read."""
    _record_files.MAX_WRITE_SIZE = 1 << 14  # type: ignore[misc]
    random = Random(name)
    file = log(Path(path))
    for number in range(int(count)):
        fails = random.random() < 0.3
        text = random.choices(TEXTS, (3, 1))[0]
        add(file, number, f"{name}-{number}-{text}", fails=fails)
        print(f"{number:300}", flush=True)
        if fails:
            add(file, number, f"{name}-{number}-again")
        if random.random() < 0.2:
            file.close()
            file = log(Path(path))
    file.close()


LONG = [pytest.mark.soak, pytest.mark.timeout(1800)]


@pytest.mark.parametrize(
    ("rounds", "seed"),
    [(3, 0), *(pytest.param(50, seed, marks=LONG) for seed in range(1, 5))],
)
def test_batches_that_are_killed_at_any_instant_lose_no_row_and_leave_none_false(
    path: Path, rounds: int, seed: int
) -> None:
    """Three batches on one log, two of which are killed: each row that was told is there, whole and once.

    The next batch cuts the row that a kill after the end of the third may have left torn.
    """
    code = "import sys; from tests.batch import test_two_batches as t; t.write_until_killed(*sys.argv[1:])"
    random = Random(seed)
    for _ in range(rounds):
        batches = [
            Python(
                ["-c", code, str(path), name, count],
                stdout=subprocess.PIPE,
                text=True,
                pipesize=4096,
            )
            for name, count in (("a", "1000000"), ("b", "1000000"), ("c", "15"))
        ]
        told = list[list[str]]()
        for batch in batches:
            assert batch.stdout is not None
            told.append(
                [batch.stdout.readline() for _ in range(random.randrange(1, 12))]
            )
            if batch is not batches[2]:
                batch.kill()
        for batch, lines in zip(batches, told, strict=True):
            with batch:
                assert batch.stdout is not None
                lines.extend(batch.stdout)
        log(path).close()
        found = commands(path)
        assert len({*found}) == len(found)
        numbers: dict[str, set[str]] = {"a": set(), "b": set(), "c": set()}
        for command in found:
            name, number, rest = command.split("-")
            assert rest in ("again", *TEXTS)
            numbers[name].add(number)
        for name, lines in zip(numbers, told, strict=True):
            assert {line.strip() for line in lines} <= numbers[name]
        path.unlink()
