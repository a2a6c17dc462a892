"""The details of a command in a report: its line, exit, resource use, the end of its output, and its files."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ...._core.api.views import command_line_of, duration_text, printable, size_text
from .._event_recorder import CommandEnd
from .._span_builder import TraceRecord

LONGEST_LINE: Final = 2000
"""Characters of a command line."""
MOST_OUTPUT: Final = 1_000_000
"""Bytes of output in a whole report: failed commands come first, the others have what is left."""
PATH: Final[Any] = (str, bytes, os.PathLike)


def ending(returncode: int) -> str:
    """Return an exit code, or the name of the signal."""
    if returncode >= 0:
        return str(returncode)
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"


def details(record: TraceRecord, folder: Path) -> dict[int, dict[str, Any]]:
    """Return the details of each command as unescaped text, by the number of its span.

    `folder` is where the report will be: links to files below it are relative, so that both can be moved together.
    """
    left = MOST_OUTPUT
    found: dict[int, dict[str, Any]] = {}
    for number in sorted(record.commands, key=lambda number: number not in record.failures):
        job, command = record.commands[number]
        outputs = list(_outputs(command)) if not job.redact else []
        size = sum(len(text) for _, text in outputs)
        left -= size
        found[number] = {
            "command": _clipped(printable(command_line_of(job))),
            "facts": " · ".join(_facts(command)),
            "outputs": outputs if left >= 0 else [],
            "note": "The end of its output is left out here: the report would be too large." * (left < 0 < size),
            "files": list(_files(job, folder)),
        }
    return found


def _clipped(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + "…"


def _facts(command: CommandEnd) -> Iterator[str]:
    yield f"exit code {command.returncode}" if command.returncode >= 0 else f"ended by {ending(command.returncode)}"
    yield f"elapsed {duration_text(command.elapsed)}"
    yield f"user {duration_text(command.user_time)}"
    yield f"system {duration_text(command.system_time)}"
    if command.max_rss is not None:
        yield f"max memory {size_text(command.max_rss)}"


def _outputs(command: CommandEnd) -> Iterator[tuple[str, str]]:
    for name, end in (("standard output", command.stdout), ("standard error", command.stderr)):
        if end and end.strip():
            text = end.decode("utf-8", errors="backslashreplace").rstrip("\n")
            yield f"end of its {name}", "\n".join(printable(line.expandtabs()) for line in text.split("\n"))


def _files(job: Any, folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the stream, the URL and the path of each output file."""
    for stream in ("stdout", "stderr"):
        given: Any = getattr(getattr(job, "_options", None), stream, None)  # a user's kind may have none
        if isinstance(given, PATH) and not job.redact:
            path = Path(os.fsdecode(given)).absolute()
            yield stream, _address(path, folder.absolute()), printable(os.fsdecode(given))


def _address(path: Path, folder: Path) -> str:
    if not path.is_relative_to(folder):
        return path.as_uri()
    uri, base = path.as_uri(), folder.as_uri().rstrip("/") + "/"
    return "./" + uri.removeprefix(base)
