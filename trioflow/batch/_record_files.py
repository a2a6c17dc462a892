"""Records of a batch: the job log, a table of results, or a directory of outputs.

A file has a row for each command, which is written when the command ends, so that a kill loses no row. Each batch
begins its files anew. Commands that its journal restores get rows, too, with the values of the run that ran them.
Outputs may be large, so they are written in pieces.
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
import shutil
import stat
import time
import zlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from .. import _posix as posix
from ..jobs._user_files import set_aside_older
from ..jobs.posix._files import write_all
from ..view.text._symbols import escape_formula
from . import BatchError, _output, _template
from ._command_job import CommandOutcome, open_outputs

LOCK_TRIES: Final = 500
LOCK_SECONDS: Final = 0.01
MAX_WRITE_SIZE: Final = 1 << 20
BASE64_READ_SIZE: Final = 3 << 15
"""Larger rows are written in pieces. Base64 is encoded in pieces, which its groups divide."""


class RecordFile:
    """A file with a row for each command.

    Several batches may append to one file. Each writes a row at its end, under a lock of the file, and changes nothing
    that another has written, but cuts the part of a row that a killed batch has left there. The rows of tries that
    others have followed are taken out at the end of the batch: a new file is written beside the old one, and replaces
    it, so that a kill leaves the old one. The other batches then open the new file, or one of this name that somebody
    else has put there. If the file was removed, it is begun anew.

    Args:
        path: the file.
        row_format: the format of its rows.
        append: whether to keep the rows of an existing file. Then the rows of restored commands are not written again.

    Raises:
        BatchError: the file cannot be written, or no batch has written its contents.

    """

    def __init__(
        self,
        path: str,
        row_format: RowFormat,
        *,
        append: bool = False,
    ) -> None:
        self._path: Final = path
        self._format: Final = row_format
        self._appends: Final = append
        self._is_begun = False
        # How often to try to lock the file: after a lock that others have kept for long, once for each row.
        self._lock_tries = LOCK_TRIES
        # The rows of each failed command, by its number.
        self._failed_rows: Final[dict[int, Row]] = {}
        # The rows of commands that were tried again.
        self._superseded: Final[list[Row]] = []
        self._descriptor = self._open()
        try:
            self._check_content()
            with self._locked() as is_locked:
                if is_locked:
                    with contextlib.suppress(OSError):
                        self._replacement().unlink()
                if append:
                    self._keep_whole_lines()
        except BaseException:
            self.close()
            raise

    def begin(self) -> None:
        """Empty the file, unless it is appended to. A batch that is refused leaves it as it was.

        Raises:
            BatchError: the file cannot be written.

        """
        if not self._appends:
            with self._locked():
                self._begin(None)

    def add(self, outcome: CommandOutcome, arguments: Sequence[str], slot: int) -> None:
        """Write the row of a command.

        Raises:
            BatchError: the file cannot be written.

        """
        if self._appends and outcome.is_restored:
            return
        with self._locked():
            if self._appends:
                self._keep_whole_lines()
            if not self._is_begun:
                self._begin(arguments)
            start = self._size()
            checksum = 0
            earlier = self._failed_rows.pop(outcome.sequence, None)
            if earlier is not None:
                self._superseded.append(earlier)
            data = bytearray()
            pieces = self._format.encode_outcome(outcome, arguments)
            for piece in itertools.chain(pieces, (None,)):
                data += piece or b""
                if piece is None or len(data) > MAX_WRITE_SIZE:
                    checksum = zlib.crc32(data, checksum)
                    self._write(bytes(data))
                    data.clear()
            if outcome.has_failed:
                self._failed_rows[outcome.sequence] = Row(start, self._size(), checksum)

    def close(self) -> None:
        try:
            is_file = os.path.isfile(self._path)
            is_device = self._path.startswith(("/dev/", "/proc/"))
            if self._superseded and is_file and not is_device:
                self._remove_superseded()
        except OSError as error:
            raise self._make_write_error(error) from None
        finally:
            os.close(self._descriptor)

    def _open(self) -> int:
        access = os.O_RDWR if self._appends else os.O_WRONLY
        try:
            return os.open(self._path, access | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise self._make_write_error(error) from None

    def _size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def _is_regular(self) -> bool:
        """Return whether it is a file, and no pipe or device, which has neither locks nor an end."""
        return stat.S_ISREG(os.fstat(self._descriptor).st_mode)

    @contextlib.contextmanager
    def _locked(self) -> Generator[bool]:
        """Keep other batches from writing the file, and yield whether that is possible.

        If another file has its name now, open that. A program that has locked the file for other reasons, or a file
        system without locks, stops no batch.
        """
        is_locked = self._lock()
        while self._is_regular() and not self._has_name():
            current = self._open()
            os.close(self._descriptor)
            self._descriptor = current
            self._check_content()
            self._is_begun = self._is_begun and self._size() > 0
            is_locked = self._lock()
        try:
            yield is_locked
        finally:
            if is_locked:
                posix.fcntl.flock(self._descriptor, posix.fcntl.LOCK_UN)

    def _lock(self) -> bool:
        """Lock the file, and return True. If that is not possible for some seconds, return False."""
        if not posix.IS_POSIX or not self._is_regular():
            return False
        for _ in range(self._lock_tries):
            try:
                posix.fcntl.flock(
                    self._descriptor, posix.fcntl.LOCK_EX | posix.fcntl.LOCK_NB
                )
            except BlockingIOError:
                time.sleep(LOCK_SECONDS)
            except OSError:
                # The file system has no locks.
                return False
            else:
                return True
        self._lock_tries = 1
        return False

    def _has_name(self) -> bool:
        """Return whether the file that is open has the name of the file. It was replaced or removed otherwise."""
        try:
            named = os.stat(self._path)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return os.path.samestat(named, os.fstat(self._descriptor))

    def _replacement(self) -> Path:
        """Return the name of the file without superseded rows: the next batch removes what a kill has left there."""
        target = Path(self._path).resolve()
        return target.with_name(f".{target.name}.trioflow")

    def _remove_superseded(self) -> None:
        """Remove the rows of tries that others have followed, which are there until the end of the batch.

        They stay where others may write meanwhile, and where the file has other names, such as /dev/stdout, or another
        owner.
        """
        with self._locked() as is_locked, open(self._path, "rb") as file:
            status = os.fstat(file.fileno())
            size = status.st_size
            new = self._replacement()
            if status.st_nlink > 1 or status.st_uid != posix.geteuid() or not is_locked:
                return
            places = {_find(file, row) for row in self._superseded}
            rows = sorted(place for place in places if place is not None)
            if not rows or not os.access(new.parent, os.W_OK):
                return
            new.unlink(missing_ok=True)
            is_whole = False
            try:
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
                with open(posix.open_regular(new, flags), "wb") as kept:
                    bounds = [Row(0, 0, 0), *rows, Row(size, size, 0)]
                    for before, row in itertools.pairwise(bounds):
                        for piece in _pieces(file, before.end, row.start):
                            kept.write(piece)
                    posix.fchmod(kept.fileno(), status.st_mode)
                # A program without a lock may have written meanwhile.
                is_whole = self._size() == size
            finally:
                if not is_whole:
                    new.unlink(missing_ok=True)
            if is_whole:
                # Then the lock is of a file without a name, and the next batch may use the name of the new file.
                try:
                    os.replace(new, Path(self._path).resolve())
                except OSError:
                    new.unlink(missing_ok=True)
                    raise

    def _begin(self, arguments: Sequence[str] | None) -> None:
        """Write the header, as soon as the arguments of a command are known if it needs them, into an empty file.

        Unless the file is appended to, it is emptied.
        """
        if not self._appends:
            with contextlib.suppress(OSError):
                # A pipe or a device.
                os.ftruncate(self._descriptor, 0)
        header = self._format.header(arguments)
        self._is_begun = header is not None
        if not self._size():
            self._write(header or b"")

    def _check_content(self) -> None:
        """Check that the file is empty, or begins as a batch has begun it. It is no input of somebody's."""
        with contextlib.suppress(OSError):
            if os.path.isfile(self._path):
                with open(self._path, "rb") as file:
                    first = file.read(len(self._format.start))
                if not self._format.start.startswith(first):
                    raise BatchError(
                        f"{self._format.description} {self._path!r}: no batch has written this file, so it stays as it "
                        f"is: give another file, or remove it"
                    )

    def _keep_whole_lines(self) -> None:
        """Remove the last line if a kill has torn it, and nobody has written since."""
        size = self._size()
        if not size or posix.pread(self._descriptor, 1, size - 1) == b"\n":
            return
        position = size
        data = b""
        while position and b"\n" not in data:
            position = max(0, position - MAX_WRITE_SIZE)
            data = posix.pread(self._descriptor, MAX_WRITE_SIZE, position)
        whole = position + data.rfind(b"\n") + 1
        if whole < size == self._size():
            os.ftruncate(self._descriptor, whole)

    def _write(self, data: bytes) -> None:
        try:
            write_all(self._descriptor, data)
        except OSError as error:
            raise self._make_write_error(error) from None

    def _make_write_error(self, error: OSError) -> BatchError:
        return BatchError(
            f"cannot write {self._format.description} {self._path!r}: {error.strerror}"
        )


class Row(NamedTuple):
    """The bounds of a row in a file, and its checksum, by which it is known again: others may change the file."""

    start: int
    end: int
    checksum: int


def _pieces(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    file.seek(start)
    while start < end:
        data = file.read(min(MAX_WRITE_SIZE, end - start))
        if not data:
            return
        start += len(data)
        yield data


def _find(file: BinaryIO, row: Row) -> Row | None:
    """Return where a row lies now, or None. A row of one line is found where another batch has moved it up."""
    checksum = 0
    for data in _pieces(file, row.start, row.end):
        checksum = zlib.crc32(data, checksum)
    if checksum == row.checksum:
        return row
    position = 0
    size = row.end - row.start
    file.seek(0)
    for line in file:
        if position > row.start:
            break
        if len(line) == size and zlib.crc32(line) == row.checksum:
            return Row(position, position + size, row.checksum)
        position += len(line)
    return None


# ---- formats of rows: the file's name in errors, its header, and a row in pieces, because outputs may be large


class JoblogFormat:
    r"""A line with GNU parallel's columns for each command. A newline inside the command becomes a NUL.

    Example:
        >>> outcome = CommandOutcome(3, "nothing", None, FileNotFoundError(), 1795174043.25, 0.5)
        >>> b"".join(JoblogFormat().encode_outcome(outcome, ()))
        b'3\t:\t1795174043.250\t     0.500\t0\t0\t126\t0\tnothing\n'

    """

    start = b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand"
    description = "the job log"

    def header(self, arguments: Sequence[str] | None) -> bytes:
        return self.start + b"\n"

    def encode_outcome(
        self, outcome: CommandOutcome, arguments: Sequence[str]
    ) -> Iterator[bytes]:
        """Yield the line of a command."""
        columns = (
            outcome.sequence, outcome.host, f"{outcome.start_timestamp:.3f}", f"{outcome.runtime:10.3f}", 0,
            outcome.received_bytes, outcome.joblog_exit_value, outcome.signal,
            outcome.command.replace("\n", "\0"),
        )  # fmt: skip
        yield os.fsencode("\t".join(map(str, columns)) + "\n")


class JsonLinesFormat:
    """A line of JSON for each command."""

    start = b'{"seq": '
    description = "the results in"

    def header(self, arguments: Sequence[str] | None) -> bytes:
        """Return nothing: the keys are in each line."""
        return b""

    def encode_outcome(
        self, outcome: CommandOutcome, arguments: Sequence[str]
    ) -> Iterator[bytes]:
        """Yield the line of a command in pieces, because its outputs may be large."""
        texts = [escape_invalid_utf8(argument) for argument in arguments]
        fields = {"seq": outcome.sequence, "arguments": texts, **_facts(outcome)}
        yield json.dumps(fields).removesuffix("}").encode()
        stdout, stderr = open_outputs(outcome.result)
        yield from json_field("stdout", stdout)
        yield from json_field("stderr", stderr)
        yield b"}\n"


class CsvFormat:
    """A row of CSV for each command, below a row with the names of the columns.

    A spreadsheet shows its texts, and computes none of them.
    """

    start = b"seq,"
    description = "the results in"

    def __init__(self) -> None:
        # The number of columns of arguments.
        self._count = 0

    def header(self, arguments: Sequence[str] | None) -> bytes | None:
        """Return the row with the names of the columns. Arguments have `arg1`, `arg2` and so on."""
        if arguments is None:
            return None
        self._count = len(arguments)
        names = (f"arg{number}" for number in range(1, self._count + 1))
        return _csv_row(["seq", *names, *FACT_NAMES, "stdout", "stderr"])

    def encode_outcome(
        self, outcome: CommandOutcome, arguments: Sequence[str]
    ) -> Iterator[bytes]:
        """Yield the row of a command in pieces, because its outputs may be large."""
        count = self._count
        texts = [escape_formula(escape_invalid_utf8(text)) for text in arguments]
        if len(texts) > count > 0:
            texts[count - 1 :] = [" ".join(texts[count - 1 :])]
        texts += [""] * (count - len(texts))
        facts: list[Any] = []
        for fact in _facts(outcome).values():
            shown = fact
            if isinstance(fact, str):
                shown = escape_formula(fact)
            facts.append(shown)
        yield _csv_row([outcome.sequence, *texts[:count], *facts]).removesuffix(b"\n")
        for output in open_outputs(outcome.result):
            yield b","
            yield from _csv_cell(output)
        yield b"\n"


RowFormat = JoblogFormat | JsonLinesFormat | CsvFormat


USAGE_NAMES: Final = ("user_time", "system_time", "max_rss", "max_rss_bound")
FACT_NAMES: Final[tuple[str, ...]] = (
    "command", "host", "started", "seconds", "exit_code", "signal", "failure", "restored", *USAGE_NAMES,
)  # fmt: skip


def _facts(outcome: CommandOutcome) -> dict[str, Any]:
    failure: str | None = None
    if outcome.has_failed:
        failure = escape_invalid_utf8(outcome.reason)
    values = (
        escape_invalid_utf8(outcome.command), outcome.host, round(outcome.start_timestamp, 6),
        round(outcome.runtime, 6), outcome.table_exit_code, outcome.signal, failure, outcome.is_restored,
    )  # fmt: skip
    facts: dict[str, Any] = dict(zip(FACT_NAMES, values, strict=False))
    for name in USAGE_NAMES:
        value = getattr(outcome.result, name, None)
        if isinstance(value, float):
            value = round(value, 6)
        facts[name] = value
    if outcome.table_exit_code is None:
        facts["max_rss_bound"] = None
        if outcome.in_shell:
            # The shell may have been ended before it had waited for its program, which has used the most.
            facts.update(dict.fromkeys(USAGE_NAMES))
    return facts


def _csv_row(cells: Any) -> bytes:
    stream = io.StringIO()
    # Before 3.13, it quotes the characters of this alone.
    csv.writer(stream, lineterminator="\r\n").writerow(cells)
    return (stream.getvalue().removesuffix("\r\n") + "\n").encode()


def escape_invalid_utf8(text: str) -> str:
    r"""Escape bytes that are not valid UTF-8 as \xNN, because some readers would reject the text."""
    return os.fsencode(text).decode(errors="backslashreplace")


def _csv_cell(output: BinaryIO) -> Iterator[bytes]:
    last = ""
    for text in _decoded(output, "backslashreplace"):
        # The middle of a cell begins no formula.
        before = "" if last in ("", ";", "\t") else "x"
        shown = escape_formula(before + text).removeprefix(before)
        if not last:
            yield b'"'
        yield shown.replace('"', '""').encode()
        last = text[-1]
    if last:
        yield b'"'


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
        yield from map(base64.b64encode, _output.read_chunks(output, BASE64_READ_SIZE))
    else:
        output.seek(0)
        yield f', "{name}": "'.encode()
        for text in _decoded(output, "strict"):
            yield json.dumps(text)[1:-1].encode()
    yield b'"'


def _decoded(output: BinaryIO, errors: str) -> Iterator[str]:
    """Yield the text of an output in pieces, without empty ones."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors)
    for chunk in _output.read_chunks(output):
        if text := decoder.decode(chunk):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text


# ---- a directory

MAX_NAME_BYTES: Final = 255


class OutputDirectory:
    """A directory with the number, the standard output and the standard error of each command in files.

    Args:
        template: the name of the directory, which gets a directory for each argument. With replacement strings, a name
            for each command: of a directory if it ends with `/`, otherwise of the file for the standard output.

    """

    def __init__(self, template: _template.CommandTemplate) -> None:
        self._template: Final = template
        # For each file, the number and arguments of its command.
        self._owners: Final[dict[str, tuple[int, str]]] = {}
        # The numbers of commands whose files this batch has written.
        self._saved: Final[set[int]] = set()
        self._moved: Final[list[str]] = []

    def claim(self, sequence: int, arguments: Sequence[str]) -> None:
        """Reserve the files of a command before it starts.

        Raises:
            BatchError: another command would write any of them, too.

        """
        for path in self._paths(sequence, arguments, 1):
            own = (sequence, " ".join(arguments))
            number, others = self._owners.setdefault(os.path.normpath(path), own)
            if number != sequence:
                raise BatchError(
                    f"commands {number} ({others}) and {sequence} ({' '.join(arguments)}) would both write their "
                    f"results in {path!r}: put {{#}}, the number of the command, into the name of --results"
                )

    def add(self, outcome: CommandOutcome, arguments: Sequence[str], slot: int) -> None:
        """Write the outputs of a command.

        Raises:
            BatchError: a file cannot be written.

        """
        self.save(outcome.sequence, arguments, slot, open_outputs(outcome.result))

    def save(
        self,
        sequence: int,
        arguments: Sequence[str],
        slot: int,
        outputs: tuple[BinaryIO, BinaryIO],
    ) -> None:
        """Write a command's number, standard output and standard error to three files.

        A file that was there before the batch, with other contents, is renamed first.

        Raises:
            BatchError: a file cannot be written.

        """
        output, *others = self._paths(sequence, arguments, slot)
        contents = (*outputs, io.BytesIO(b"%d" % sequence))
        try:
            os.makedirs(os.path.dirname(output) or ".", exist_ok=True)
            for path, content in zip([output, *others], contents, strict=True):
                if sequence not in self._saved:
                    moved = set_aside_older(path, content, self)
                    if moved:
                        self._moved.append(moved)
                flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
                with open(posix.open_regular(path, flags), "wb") as target:
                    shutil.copyfileobj(content, target)
            self._saved.add(sequence)
        except ValueError:
            # An argument contains a NUL, so its command has not started.
            return
        except OSError as error:
            raise BatchError(
                f"cannot write the results in {output!r}: {error.strerror}"
            ) from None

    def _paths(self, sequence: int, arguments: Sequence[str], slot: int) -> list[str]:
        """Return the paths for a command's standard output, standard error and number."""
        path = self._template.fill(arguments, sequence, slot)
        if ".." in path.split("/"):
            harmless = self._template.fill(["x"] * len(arguments), 1, 1)
            if ".." not in harmless.split("/"):
                raise BatchError(
                    f"cannot write the results in {path!r}: an argument leads out of the directory"
                )
        if not self._template.has_placeholders:
            path = results_directory(path, arguments) + "/"
        endings = ("", ".err", ".seq")
        if path.endswith("/"):
            endings = ("stdout", "stderr", "seq")
        return [path + ending for ending in endings]

    def notice(self) -> str:
        """Return a message about the files that were there before the batch, and were renamed, or ""."""
        if not self._moved:
            return ""
        more = ""
        if len(self._moved) > 1:
            more = f", and {len(self._moved) - 1} more likewise"
        return f"trioflow batch: older results were there: {self._moved[0]}{more}"

    def begin(self) -> None:
        """Do nothing: older outputs are set aside as new ones are saved."""

    def close(self) -> None:
        """Do nothing: each file was closed."""


Record = RecordFile | OutputDirectory


def results_directory(directory: str, arguments: Sequence[str]) -> str:
    r"""Return the directory for the output of a command with these arguments.

    Its path has two parts for each argument: the number of the argument's source, and the argument itself. In an
    argument, `/` is replaced by `\_`, and `\` is doubled. Arguments that cannot name a directory (empty, `.` and
    `..`) get the prefix `\.`. An argument that is too long for a file name is truncated, and a digest is appended.

    Example:
        >>> results_directory("results", ["a/b", "", ".."])
        'results/1/a\\_b/2/\\./3/\\...'

    """
    for number, argument in enumerate(arguments, 1):
        directory = os.path.join(directory, str(number), _directory_name(argument))
    return directory


def _directory_name(argument: str) -> str:
    if argument in ("", ".", ".."):
        return "\\." + argument
    name = os.fsencode(argument.replace("\\", "\\\\").replace("/", "\\_"))
    if len(name) > MAX_NAME_BYTES:
        digest = b"~" + hashlib.sha256(name).hexdigest()[:16].encode()
        name = name[: MAX_NAME_BYTES - len(digest)] + digest
    return os.fsdecode(name)
