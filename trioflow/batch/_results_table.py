"""Results as a table (`--results FILE.csv` or `FILE.jsonl`): each command has a row with its outcome and output."""

from __future__ import annotations

import base64
import codecs
import contextlib
import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from . import BatchError
from ._joblog import CommandOutcome, LogFile, open_outputs
from ._output import read_chunks

CSV_SUFFIX: Final = ".csv"
MAX_WRITE_SIZE: Final = 1 << 20
"""The size, in bytes, above which a row is written in several pieces."""
BASE64_READ_SIZE: Final = 3 << 15
"""The size of the pieces that are encoded one by one, which the groups of base64 divide."""


@dataclass(slots=True)
class StoredRow:
    """The place of a row in the file, and what a later batch needs to know of it."""

    start: int
    size: int
    sequence: int
    command: str
    was_marked: bool  # whether the row already says that its command was restored
    restored_sequence: int | None = None  # the number of its command in this batch, which has restored it
    is_superseded: bool = False

    @property
    def is_taken(self) -> bool:
        return self.is_superseded or self.restored_sequence is not None

    @property
    def has_changed(self) -> bool:
        return self.is_taken and not (self.was_marked and self.restored_sequence == self.sequence)


class ResultsTable(LogFile):
    """A file with a row for each command, written when the command ends, so that a kill loses no row.

    With a journal, the rows of an earlier batch stay, with the values of the run that ran the command. When the batch
    ends, the rows of commands that the journal restored are marked and get the numbers of this batch, and rows that a
    new run of a command has replaced are removed: then the file has one row for each command.

    Args:
        path: the file.
        columns: the names of the arguments, as far as they have names.
        append: whether to keep the rows of an existing file.

    Raises:
        BatchError: the file cannot be written, or has other columns.

    """

    def __init__(self, path: str, columns: Sequence[str] = (), *, append: bool = False) -> None:
        super().__init__(path, "the results in", append=append)
        self._format: Final = CsvFormat(columns) if path.endswith(CSV_SUFFIX) else JsonLinesFormat()
        self._rows_by_command: Final[dict[str, list[StoredRow]]] = {}
        self._header_size = 0
        if append:
            try:
                self._read_rows()
            except BaseException:
                self.close()
                raise

    def add(self, outcome: CommandOutcome, arguments: Sequence[str]) -> None:
        """Write the row of a command, unless a restored command already has it.

        Args:
            outcome: the outcome of the command.
            arguments: the arguments of the command.

        Raises:
            BatchError: the file cannot be written.

        """
        earlier_row = self._take_row(outcome)
        if earlier_row is not None:
            if outcome.is_restored:
                earlier_row.restored_sequence = outcome.sequence
                return
            earlier_row.is_superseded = True
        data = bytearray()
        if not self._header_size:
            data += self._format.header(arguments)
            self._header_size = max(len(data), 1)
        for piece in self._format.encode_outcome(outcome, arguments):
            data += piece
            if len(data) > MAX_WRITE_SIZE:
                self.write(bytes(data))
                data.clear()
        self.write(bytes(data))

    def close(self) -> None:
        """Mark and number restored rows, remove replaced ones, and close the file."""
        changed = {row.start: row for rows in self._rows_by_command.values() for row in rows if row.has_changed}
        try:
            if changed:
                with self._reopen() as file:
                    self._rewrite(self._updated_records(file, changed))
        finally:
            super().close()

    def _take_row(self, outcome: CommandOutcome) -> StoredRow | None:
        """Return the row of an earlier batch for this command, preferably with its number; each row is found once."""
        rows = self._rows_by_command.get(escape_invalid_utf8(outcome.command), [])
        free = [row for row in rows if not row.is_taken]
        return min(free, key=lambda row: row.sequence != outcome.sequence, default=None)

    def _read_rows(self) -> None:
        """Find the rows in the file, and remove the last one if a crash has truncated it.

        Of several rows with one number and one command, only the last is valid: the others failed in earlier batches.
        """
        size = 0
        latest: dict[tuple[int, str], StoredRow] = {}
        with self._reopen() as file:
            for record in self._format.split(file):
                if not record.endswith(b"\n"):
                    os.ftruncate(self.descriptor, size)
                    break
                if size == 0 and self._format.check_header(record, self._path):
                    self._header_size = len(record)
                else:
                    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError, csv.Error):
                        facts = self._format.decode(record)
                        was_marked = str(facts.get("restored")) == "True"
                        row = StoredRow(size, len(record), int(facts["seq"]), str(facts["command"]), was_marked)
                        if (replaced := latest.get((row.sequence, row.command))) is not None:
                            replaced.is_superseded = True
                        latest[row.sequence, row.command] = row
                        self._rows_by_command.setdefault(row.command, []).append(row)
                size += len(record)
        self._header_size = self._header_size or size

    def _updated_records(self, file: BinaryIO, changed: dict[int, StoredRow]) -> Iterator[bytes]:
        position = 0
        for record in self._format.split(file):
            row = changed.get(position)
            position += len(record)
            if row is None:
                yield record
            elif not row.is_superseded:
                yield self._format.encode(
                    {**self._format.decode(record), "seq": row.restored_sequence, "restored": True}
                )


class JsonLinesFormat:
    """A line of JSON for each command."""

    def header(self, arguments: Sequence[str]) -> bytes:
        """Return nothing: the keys are in each line."""
        return b""

    def check_header(self, record: bytes, path: str) -> bool:
        """Return False: the first line is a row."""
        return False

    def split(self, file: Any) -> Iterator[bytes]:
        return iter(file)

    def decode(self, record: bytes) -> dict[str, Any]:
        return {**json.loads(record)}

    def encode(self, row: dict[str, Any]) -> bytes:
        return json.dumps(row).encode() + b"\n"

    def encode_outcome(self, outcome: CommandOutcome, arguments: Sequence[str]) -> Iterator[bytes]:
        """Yield the line of a command in pieces, because its outputs may be large."""
        row: dict[str, Any] = {
            "seq": outcome.sequence,
            "arguments": [escape_invalid_utf8(argument) for argument in arguments],
            **_facts(outcome),
        }
        yield json.dumps(row).encode().removesuffix(b"}")
        for name, output in zip(("stdout", "stderr"), open_outputs(outcome.result), strict=True):
            yield from json_field(name, output)
        yield b"}\n"


class CsvFormat:
    """A row of CSV for each command, below a row with the names of the columns."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns: Final = columns
        self._keys: list[Any] = []  # of the values of a row: for an argument its number, since it may have any name

    def header(self, arguments: Sequence[str]) -> bytes:
        """Return the row with the names of the columns: an argument without a name is `arg1`, `arg2` and so on."""
        names = [*self._columns[: len(arguments)]]
        names += [f"arg{number}" for number in range(len(names) + 1, len(arguments) + 1)]
        self._keys = _csv_keys(range(len(names)))
        return _csv_row(_csv_keys(names))

    def check_header(self, record: bytes, path: str) -> bool:
        """Take the names of the columns from the first row of a file.

        Raises:
            BatchError: they are not those of a batch.

        """
        header = next(csv.reader([record.decode(errors="replace")]))
        self._keys = _csv_keys(range(len(header) - len(FACT_NAMES) - 3))
        if len(header) != len(self._keys) or header != _csv_keys(header[1 : -len(FACT_NAMES) - 2]):
            raise BatchError(
                f"the results in {path!r} do not have the columns of a batch: give another file, or remove it"
            )
        return True

    def split(self, file: Any) -> Iterator[bytes]:
        """Yield the rows of a file, which may have several lines; the last one may be truncated."""
        lines: list[bytes] = []
        quotes = 0
        for line in file:
            lines.append(line)
            quotes += line.count(b'"')
            if not quotes % 2:
                yield b"".join(lines)
                lines.clear()
        if lines:
            yield b"".join(lines).rstrip(b"\n")

    def decode(self, record: bytes) -> dict[str, Any]:
        limit = csv.field_size_limit(len(record))  # of all readers of this process; an output has any size
        try:
            cells = next(csv.reader(io.StringIO(record.decode(), newline="")))
        finally:
            csv.field_size_limit(limit)
        return dict(zip(self._keys, cells, strict=True))

    def encode(self, row: dict[str, Any]) -> bytes:
        return _csv_row(row.values())

    def encode_outcome(self, outcome: CommandOutcome, arguments: Sequence[str]) -> Iterator[bytes]:
        """Yield the row of a command in pieces, because its outputs may be large."""
        if not self._keys:
            self.header(arguments)
        count = len(self._keys) - len(FACT_NAMES) - 3
        cells = [escape_invalid_utf8(argument) for argument in arguments]
        cells = [*cells[: count - 1], " ".join(cells[count - 1 :])] if len(cells) > count > 0 else cells
        cells += [""] * (count - len(cells))
        yield _csv_row([outcome.sequence, *cells[:count], *_facts(outcome).values()]).removesuffix(b"\n")
        for output in open_outputs(outcome.result):
            yield b","
            yield from _csv_cell(output)
        yield b"\n"


FACT_NAMES: Final = (
    "command", "host", "started", "seconds", "exit_code", "signal", "failure", "restored", "user_time", "system_time",
    "max_rss", "max_rss_bound",
)  # fmt: skip


def _facts(outcome: CommandOutcome) -> dict[str, Any]:
    result = outcome.result
    values = (
        escape_invalid_utf8(outcome.command), outcome.host, round(outcome.start_timestamp, 6),
        round(outcome.runtime, 6), outcome.table_exit_code, outcome.signal,
        escape_invalid_utf8(outcome.reason) if outcome.has_failed else None, outcome.is_restored,
        *(getattr(result, name, None) for name in FACT_NAMES[-4:]),
    )  # fmt: skip
    return dict(zip(FACT_NAMES, values, strict=True))


def _csv_keys(arguments: Iterable[Any]) -> list[Any]:
    return ["seq", *arguments, *FACT_NAMES, "stdout", "stderr"]


def _csv_row(cells: Any) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(cells)
    return stream.getvalue().encode()


def escape_invalid_utf8(text: str) -> str:
    r"""Escape bytes that are not valid UTF-8 as \xNN, because some readers would reject the text."""
    return os.fsencode(text).decode(errors="backslashreplace")


def _csv_cell(output: BinaryIO) -> Iterator[bytes]:
    quote = b""
    for text in _decoded(output, "backslashreplace"):
        yield (b"" if quote else b'"') + text.replace('"', '""').encode()
        quote = b'"'
    yield quote


def json_field(name: str, output: BinaryIO) -> Iterator[bytes]:
    r"""Yield a field of a JSON object, in pieces. If it is not valid UTF-8, use base64 and the name `NAME_base64`.

    Example:
        >>> print(b"".join(json_field("stdout", io.BytesIO(b"caf\xc3\xa9"))).decode())
        , "stdout": "caf\u00e9"
        >>> print(b"".join(json_field("stderr", io.BytesIO(b"\xff"))).decode())
        , "stderr_base64": "/w=="

    """
    try:
        for _ in _decoded(output, "strict"):
            pass
    except UnicodeDecodeError:
        output.seek(0)
        yield f', "{name}_base64": "'.encode()
        yield from map(base64.b64encode, read_chunks(output, BASE64_READ_SIZE))
    else:
        output.seek(0)
        yield f', "{name}": "'.encode()
        yield from (json.dumps(text)[1:-1].encode() for text in _decoded(output, "strict"))
    yield b'"'


def _decoded(output: BinaryIO, errors: str) -> Iterator[str]:
    """Yield the text of an output in pieces, without empty ones."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors)
    for chunk in read_chunks(output):
        if text := decoder.decode(chunk):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text
