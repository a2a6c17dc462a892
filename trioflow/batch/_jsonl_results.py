"""Results in JSON Lines (`--results FILE.jsonl`). Each command has a line with its outcome and output."""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Sequence
from typing import Any

from ._joblog import CommandOutcome, LogFile, open_outputs


class JsonlResults(LogFile):
    """A file with a line of JSON for each command.

    Args:
        path: the file.
        append: whether to keep the contents of an existing file, and read which commands have succeeded.

    Raises:
        BatchError: the file cannot be written.

    """

    def __init__(self, path: str, *, append: bool = False) -> None:
        super().__init__(path, "the results in", append=append)
        if append:
            self._read_successes()

    def logged_form(self, command: str) -> str:
        """Return the text of a command in a line."""
        return escape_invalid_utf8(command)

    def _read_successes(self) -> None:
        """Read which commands have succeeded, and remove the last line if a crash has truncated it."""
        size = 0
        with open(self.descriptor, "rb", closefd=False) as file:
            for line in file:
                if not line.endswith(b"\n"):
                    os.ftruncate(self.descriptor, size)
                    return
                size += len(line)
                with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
                    record = json.loads(line)
                    if record["exit_code"] == record["signal"] == 0:
                        self.logged_commands[record["command"]] += 1

    def add(self, outcome: CommandOutcome, arguments: Sequence[str]) -> None:
        """Write the line of a command.

        Args:
            outcome: the outcome of the command.
            arguments: the arguments of the command.

        Raises:
            BatchError: the file cannot be written.

        """
        record: dict[str, Any] = {
            "seq": outcome.sequence, "arguments": [escape_invalid_utf8(argument) for argument in arguments],
            "command": escape_invalid_utf8(outcome.command), "host": outcome.host, "started": outcome.start_timestamp,
            "seconds": round(outcome.runtime, 6), "exit_code": outcome.joblog_exit_value, "signal": outcome.signal,
            **{name: getattr(outcome.result, name, None) for name in ("user_time", "system_time", "max_rss")},
        }  # fmt: skip
        for name, output in zip(("stdout", "stderr"), open_outputs(outcome.result), strict=True):
            record.update(text_or_base64(name, output.read()))
        self.write(json.dumps(record).encode() + b"\n")


def escape_invalid_utf8(text: str) -> str:
    r"""Escape bytes that are not valid UTF-8 as \xNN, because some JSON readers would reject the text."""
    return os.fsencode(text).decode(errors="backslashreplace")


def text_or_base64(name: str, data: bytes) -> dict[str, str]:
    r"""Return a field of a JSON object with the data. If it is not valid UTF-8, use base64 and the name `NAME_base64`.

    Example:
        >>> text_or_base64("stdout", b"caf\xc3\xa9") | text_or_base64("stderr", b"\xff")
        {'stdout': 'café', 'stderr_base64': '/w=='}

    """
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}
