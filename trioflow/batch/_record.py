"""Records of a batch: the job log, a table of results, or a directory of outputs.

A file has a row for each command, which is written when the command ends, so that a kill loses no row. With a journal,
the rows of an earlier batch stay, with the values of the run that ran the command. When the batch ends, each of them
gets the number that its command has in this batch, or 0, and a row that a new run of its command has replaced is
removed. Outputs may be large, so they are written, skipped and copied in pieces: only the head of a row, which is all
before its outputs, is in memory.
"""

from __future__ import annotations

import base64
import codecs
import contextlib
import csv
import hashlib
import io
import itertools
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Protocol

from .. import _posix as posix
from ..jobs.posix._files import write_all
from ..view.text._symbols import escape_formula
from . import BatchError
from ._outcome import CommandOutcome, open_outputs
from ._output import READ_SIZE, read_chunks
from ._template import CommandTemplate

MAX_WRITE_SIZE: Final = 1 << 20
"""The size, in bytes, above which a row is written in several pieces."""
BASE64_READ_SIZE: Final = 3 << 15
"""The size of the pieces that are encoded one by one, which the groups of base64 divide."""


class Record(Protocol):
    """What a batch writes about each of its commands."""

    def add(self, outcome: CommandOutcome, arguments: Sequence[str], slot: int) -> None:
        """Write what this record has of a command.

        Raises:
            BatchError: a file cannot be written.

        """
        ...

    def close(self) -> None: ...


@dataclass(slots=True)
class StoredRow:
    """The place of a row in the file, and what a later batch needs to know of it."""

    start: int
    head_size: int
    size: int
    sequence: int
    was_marked: bool  # whether the row already says that its command was restored
    restored_sequence: int = 0  # the number of its command in this batch, which has restored it
    is_superseded: bool = False

    @property
    def is_taken(self) -> bool:
        return self.is_superseded or self.restored_sequence > 0

    @property
    def has_changed(self) -> bool:
        """Whether the row goes, gets another number, or becomes that of a restored command."""
        return self.is_superseded or self.restored_sequence != self.sequence or (self.is_taken and not self.was_marked)


class RecordFile:
    """A file with a row for each command.

    Args:
        path: the file.
        row_format: the format of its rows.
        append: whether to keep the rows of an existing file.
        resumes: whether to find the rows of restored commands in an existing file.

    Raises:
        BatchError: the file cannot be written, or has other columns.

    """

    def __init__(self, path: str, row_format: RowFormat, *, append: bool = False, resumes: bool = False) -> None:
        self._path: Final = path
        self._format: Final = row_format
        self._rows_by_command: Final[dict[str, list[StoredRow]]] = {}
        self._has_header = False
        self._has_added = False
        try:
            flags = os.O_RDWR if append else os.O_WRONLY | os.O_TRUNC
            self.descriptor: Final = os.open(path, flags | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise self._make_write_error(error) from None
        try:
            if append:
                self._read_rows(resumes)
            if not self._has_header and (header := row_format.header(None)):
                self._write(header)
                self._has_header = True
        except BaseException:
            self.close()
            raise

    def add(self, outcome: CommandOutcome, arguments: Sequence[str], slot: int) -> None:
        """Write the row of a command, unless a restored command already has it.

        Raises:
            BatchError: the file cannot be written.

        """
        self._has_added = True
        earlier_row = self._find_row(outcome)
        if earlier_row is not None:
            if outcome.is_restored:
                earlier_row.restored_sequence = outcome.sequence
                return
            earlier_row.is_superseded = True
        data = bytearray()
        if not self._has_header:
            data += self._format.header(arguments)
            self._has_header = True
        for piece in self._format.encode_outcome(outcome, arguments):
            data += piece
            if len(data) > MAX_WRITE_SIZE:
                self._write(bytes(data))
                data.clear()
        self._write(bytes(data))

    def close(self) -> None:
        """Mark and number the rows of earlier batches, remove replaced ones, and close the file."""
        rows = itertools.chain.from_iterable(self._rows_by_command.values())
        changed = sorted((row for row in rows if row.has_changed), key=lambda row: row.start)
        try:
            if changed and self._has_added:
                self._rewrite(changed)
        finally:
            os.close(self.descriptor)

    def _find_row(self, outcome: CommandOutcome) -> StoredRow | None:
        """Return the row of an earlier batch for this command, preferably with its number; each row is found once."""
        rows = self._rows_by_command.get(self._format.key(outcome.command), [])
        free = [row for row in rows if not row.is_taken]
        return min(free, key=lambda row: row.sequence != outcome.sequence, default=None)

    def _write(self, data: bytes) -> None:
        try:
            write_all(self.descriptor, data)
        except OSError as error:
            raise self._make_write_error(error) from None

    def _reopen(self) -> BinaryIO:
        """Return the file, positioned at its start, for reading."""
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        return open(self.descriptor, "rb", closefd=False)

    def _read_rows(self, resumes: bool) -> None:
        """Find the rows in the file, and remove the last one if a crash has truncated it.

        Of several rows with one number and one command, only the last is valid: the others failed in earlier batches.
        """
        start = 0
        latest: dict[tuple[int, str], StoredRow] = {}
        with self._reopen() as file:
            for head, rest_size, is_whole in self._format.split(file):
                size = len(head) + rest_size
                if start == 0 and not self._format.is_header(head, is_whole):
                    raise BatchError(
                        f"{self._format.description} {self._path!r} does not have the columns of a batch: give another "
                        f"file, or remove it"
                    )
                if not is_whole:
                    os.ftruncate(self.descriptor, start)
                    break
                self._has_header = True
                with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError, csv.Error):
                    facts = self._format.decode(head)
                    command, was_marked = str(facts["command"]), str(facts.get("restored")) == "True"
                    row = StoredRow(start, len(head), size, int(facts["seq"]), was_marked)
                    if (replaced := latest.get((row.sequence, command))) is not None and row.sequence:
                        replaced.is_superseded = True
                    latest[row.sequence, command] = row
                    if resumes:
                        self._rows_by_command.setdefault(command, []).append(row)
                start += size

    def _rewrite(self, changed: Sequence[StoredRow]) -> None:
        """Replace the contents of the file, at once.

        Raises:
            BatchError: the file cannot be written.

        """
        path = os.path.realpath(self._path)
        temporary = f"{path}.{os.getpid()}.tmp"
        try:
            with self._reopen() as old, open(temporary, "wb") as new:
                for row in changed:
                    copy_bytes(old, new, row.start - old.tell())
                    head = old.read(row.head_size)
                    if row.is_superseded:
                        old.seek(row.start + row.size)
                        continue
                    updates = {"seq": row.restored_sequence, "restored": row.restored_sequence > 0 or row.was_marked}
                    new.write(self._format.encode_head({**self._format.decode(head), **updates}))
                    copy_bytes(old, new, row.size - row.head_size)
                shutil.copyfileobj(old, new)
                posix.fchmod(new.fileno(), os.fstat(self.descriptor).st_mode & 0o7777)
            os.replace(temporary, path)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise self._make_write_error(error) if isinstance(error, OSError) else error from None

    def _make_write_error(self, error: OSError) -> BatchError:
        return BatchError(f"cannot write {self._format.description} {self._path!r}: {error.strerror}")


def copy_bytes(source: BinaryIO, target: BinaryIO, size: int) -> None:
    while size > 0 and (data := source.read(min(size, READ_SIZE))):
        target.write(data)
        size -= len(data)


# ---- formats of rows

RowParts = tuple[bytes, int, bool]
"""The head of a row, the number of bytes after it, and whether the row is whole."""


class RowFormat(Protocol):
    """The format of the rows of a file."""

    description: str
    """The kind of file, as it appears before the path in error messages."""

    def header(self, arguments: Sequence[str] | None) -> bytes:
        """Return the header for commands with these arguments; if they are None, only a header that needs none."""
        ...

    def is_header(self, head: bytes, is_whole: bool) -> bool:
        """Return whether the first row of a file, which a kill may have truncated, is as in a file of this format."""
        ...

    def split(self, file: BinaryIO) -> Iterator[RowParts]: ...
    def decode(self, head: bytes) -> dict[str, Any]: ...
    def encode_head(self, facts: dict[str, Any]) -> bytes: ...

    def encode_outcome(self, outcome: CommandOutcome, arguments: Sequence[str]) -> Iterator[bytes]:
        """Yield the row of a command in pieces, because its outputs may be large."""
        ...

    def key(self, command: str) -> str:
        """Return the text that `decode` has of a command."""
        ...


class JoblogFormat:
    r"""A line with GNU parallel's columns for each command. A newline inside the command becomes a NUL.

    Example:
        >>> outcome = CommandOutcome(3, "nothing", None, FileNotFoundError(), 1795174043.25, 0.5)
        >>> b"".join(JoblogFormat().encode_outcome(outcome, ()))
        b'3\t:\t1795174043.250\t     0.500\t0\t0\t126\t0\tnothing\n'

    """

    HEADER: Final = b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand"
    description = "the job log"

    def header(self, arguments: Sequence[str] | None) -> bytes:
        return self.HEADER + b"\n"

    def is_header(self, head: bytes, is_whole: bool) -> bool:
        return head == self.HEADER if is_whole else self.HEADER.startswith(head)

    def split(self, file: BinaryIO) -> Iterator[RowParts]:
        return split_lines(file, b"\n")

    def decode(self, head: bytes) -> dict[str, Any]:
        """Return the facts of a line. As it has no mark of restored commands, it needs none."""
        number, rest = os.fsdecode(head).split("\t", 1)
        return {"seq": number, "rest": rest, "command": rest.split("\t", 7)[7], "restored": True}

    def encode_head(self, facts: dict[str, Any]) -> bytes:
        return os.fsencode(f"{facts['seq']}\t{facts['rest']}")

    def encode_outcome(self, outcome: CommandOutcome, arguments: Sequence[str]) -> Iterator[bytes]:
        """Yield the line of a command."""
        columns = (
            outcome.sequence, outcome.host, f"{outcome.start_timestamp:.3f}", f"{outcome.runtime:10.3f}", 0,
            outcome.received_bytes, outcome.joblog_exit_value, outcome.signal, self.key(outcome.command),
        )  # fmt: skip
        yield os.fsencode("\t".join(map(str, columns)) + "\n")

    def key(self, command: str) -> str:
        return command.replace("\n", "\0")


class JsonLinesFormat:
    """A line of JSON for each command."""

    OUTPUTS_START: Final = b', "stdout'
    """The beginning of the outputs, which no text in JSON contains, since its quotes are escaped."""
    description = "the results in"

    def header(self, arguments: Sequence[str] | None) -> bytes:
        """Return nothing: the keys are in each line."""
        return b""

    def is_header(self, head: bytes, is_whole: bool) -> bool:
        """Return True: the first line is a row."""
        return True

    def split(self, file: BinaryIO) -> Iterator[RowParts]:
        return split_lines(file, self.OUTPUTS_START)

    def decode(self, head: bytes) -> dict[str, Any]:
        return {**json.loads(head + b"}")}

    def encode_head(self, facts: dict[str, Any]) -> bytes:
        return json.dumps(facts).encode().removesuffix(b"}")

    def encode_outcome(self, outcome: CommandOutcome, arguments: Sequence[str]) -> Iterator[bytes]:
        """Yield the line of a command in pieces, because its outputs may be large."""
        texts = [escape_invalid_utf8(argument) for argument in arguments]
        yield self.encode_head({"seq": outcome.sequence, "arguments": texts, **_facts(outcome)})
        for name, output in zip(("stdout", "stderr"), open_outputs(outcome.result), strict=True):
            yield from json_field(name, output)
        yield b"}\n"

    def key(self, command: str) -> str:
        return escape_invalid_utf8(command)


class CsvFormat:
    """A row of CSV for each command, below a row with the names of the columns.

    A spreadsheet shows its texts, and computes none of them.
    """

    description = "the results in"

    def __init__(self) -> None:
        self._keys: list[str] = []

    def header(self, arguments: Sequence[str] | None) -> bytes:
        """Return the row with the names of the columns, of which arguments have `arg1`, `arg2` and so on."""
        if arguments is None:
            return b""
        self._keys = _csv_keys(len(arguments))
        return _csv_row(self._keys)

    def is_header(self, head: bytes, is_whole: bool) -> bool:
        """Take the names of the columns from the first row of a file, if they are those of a batch."""
        if not is_whole:
            return head.startswith(b"seq,")
        names = next(csv.reader([head.decode(errors="replace")]))
        self._keys = _csv_keys(len(names) - len(_csv_keys(0)))
        return names == self._keys

    def split(self, file: BinaryIO) -> Iterator[RowParts]:
        """Yield the rows of a file, which may have several lines. The outputs are the last two columns."""
        head, rest_size, comma_count, is_quoted = bytearray(), 0, 0, False
        while piece := file.readline(READ_SIZE):
            end = 0 if rest_size else len(piece)  # of what belongs to the head
            for match in re.finditer(rb'[",]', piece[:end]):
                is_quoted ^= match[0] == b'"'
                comma_count += match[0] == b"," and not is_quoted
                if comma_count == len(self._keys) - 2:  # it never is in the header, before which there are no keys
                    end = match.start()
                    break
            is_quoted ^= piece.count(b'"', end) % 2 == 1
            head += piece[:end]
            rest_size += len(piece) - end
            if piece.endswith(b"\n") and not is_quoted:
                yield bytes(head), rest_size, True
                head, rest_size, comma_count = bytearray(), 0, 0
        if head or rest_size:
            yield bytes(head), rest_size, False

    def decode(self, head: bytes) -> dict[str, Any]:
        limit = csv.field_size_limit(len(head))  # of all readers of this process; a command has any length
        try:
            cells = next(csv.reader(io.StringIO(head.decode(), newline="")))
        finally:
            csv.field_size_limit(limit)
        return dict(zip(self._keys[:-2], cells, strict=True))

    def encode_head(self, facts: dict[str, Any]) -> bytes:
        return _csv_row(facts.values()).removesuffix(b"\n")

    def encode_outcome(self, outcome: CommandOutcome, arguments: Sequence[str]) -> Iterator[bytes]:
        """Yield the row of a command in pieces, because its outputs may be large."""
        count = len(self._keys) - len(_csv_keys(0))
        texts = [self.key(argument) for argument in arguments]
        texts = [*texts[: count - 1], " ".join(texts[count - 1 :])] if len(texts) > count > 0 else texts
        texts += [""] * (count - len(texts))
        facts = [escape_formula(fact) if isinstance(fact, str) else fact for fact in _facts(outcome).values()]
        yield _csv_row([outcome.sequence, *texts[:count], *facts]).removesuffix(b"\n")
        for output in open_outputs(outcome.result):
            yield b","
            yield from _csv_cell(output)
        yield b"\n"

    def key(self, command: str) -> str:
        return escape_formula(escape_invalid_utf8(command))


def split_lines(file: BinaryIO, end_of_head: bytes) -> Iterator[RowParts]:
    """Yield the lines of a file. The head of each ends where `end_of_head` begins, or else with the line."""
    head, rest_size = bytearray(), 0
    while piece := file.readline(READ_SIZE):
        if rest_size:
            rest_size += len(piece)
        else:
            start = max(0, len(head) - len(end_of_head))
            head += piece
            if (end := head.find(end_of_head, start)) >= 0:
                rest_size = len(head) - end
                del head[end:]
        if piece.endswith(b"\n"):
            yield bytes(head), rest_size, True
            head, rest_size = bytearray(), 0
    if head or rest_size:
        yield bytes(head), rest_size, False


FACT_NAMES: Final[tuple[str, ...]] = (
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
    facts: dict[str, Any] = dict(zip(FACT_NAMES, values, strict=True))
    if outcome.table_exit_code is None:  # a shell was ended before it had waited for its program
        facts["max_rss_bound"] = None
    return facts


def _csv_keys(argument_count: int) -> list[str]:
    arguments = (f"arg{number}" for number in range(1, argument_count + 1))
    return ["seq", *arguments, *FACT_NAMES, "stdout", "stderr"]


def _csv_row(cells: Any) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(cells)
    return stream.getvalue().encode()


def escape_invalid_utf8(text: str) -> str:
    r"""Escape bytes that are not valid UTF-8 as \xNN, because some readers would reject the text."""
    return os.fsencode(text).decode(errors="backslashreplace")


def _csv_cell(output: BinaryIO) -> Iterator[bytes]:
    start = b""
    for text in _decoded(output, "backslashreplace"):
        yield (b"" if start else b'"') + (text if start else escape_formula(text)).replace('"', '""').encode()
        start = b'"'
    yield start


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


# ---- a directory

MAX_NAME_BYTES: Final = 255


class OutputDirectory:
    """A directory with the number, the standard output and the standard error of each command in files.

    Args:
        template: the name of the directory, in which there is one for each argument; or with replacement strings, a
            name for each command: of a directory if it ends with `/`, otherwise of the file for the standard output.

    """

    def __init__(self, template: CommandTemplate) -> None:
        self._template: Final = template

    def add(self, outcome: CommandOutcome, arguments: Sequence[str], slot: int) -> None:
        """Write the outputs of a command.

        Raises:
            BatchError: a file cannot be written.

        """
        self.save(outcome.sequence, arguments, slot, open_outputs(outcome.result))

    def save(self, sequence: int, arguments: Sequence[str], slot: int, outputs: tuple[BinaryIO, BinaryIO]) -> None:
        """Write a command's number, standard output and standard error to three files.

        Raises:
            BatchError: a file cannot be written.

        """
        path = self._template.fill(arguments, sequence, slot)
        if not self._template.has_placeholders:
            path = results_directory(path, arguments) + "/"
        names = ("seq", "stdout", "stderr") if path.endswith("/") else (".seq", "", ".err")
        contents = (io.BytesIO(b"%d" % sequence), *outputs)
        try:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            for name, content in zip(names, contents, strict=True):
                with open(path + name, "wb") as target:
                    shutil.copyfileobj(content, target)
        except OSError as error:
            raise BatchError(f"cannot write the results in {path!r}: {error.strerror}") from None

    def close(self) -> None:
        """Do nothing: each file was closed."""


def results_directory(directory: str, arguments: Sequence[str]) -> str:
    r"""Return the directory for the output of a command with these arguments.

    Its path has two parts for each argument: the number of the argument's source, and the argument itself. In an
    argument, `/` is replaced by `\_`, and `\` is doubled. Arguments that cannot name a directory (empty, `.` and
    `..`) get the prefix `\.`. An argument that is too long for a file name is truncated, and a digest is appended.

    Example:
        >>> results_directory("results", ["a/b", "", ".."])
        'results/1/a\\_b/2/\\./3/\\...'

    """
    parts = ((str(number), _directory_name(argument)) for number, argument in enumerate(arguments, 1))
    return os.path.join(directory, *itertools.chain.from_iterable(parts))


def _directory_name(argument: str) -> str:
    if argument in ("", ".", ".."):
        return "\\." + argument
    name = os.fsencode(argument.replace("\\", "\\\\").replace("/", "\\_"))
    if len(name) > MAX_NAME_BYTES:
        digest = b"~" + hashlib.sha256(name).hexdigest()[:16].encode()
        name = name[: MAX_NAME_BYTES - len(digest)] + digest
    return os.fsdecode(name)
