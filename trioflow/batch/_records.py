"""The outcome of each command, with its output, as a line of JSON."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from typing import Any

from ._joblog import CommandOutcome, LogFile, outputs


class Records(LogFile):
    """A file with a line for each command.

    Args:
        path: the file, emptied first.

    Raises:
        BatchError: it cannot be written.

    """

    def __init__(self, path: str) -> None:
        super().__init__(path, "the results in", append=False)

    def add(self, outcome: CommandOutcome, arguments: Sequence[str]) -> None:
        """Write the line of a command.

        Args:
            outcome: its outcome.
            arguments: its arguments.

        Raises:
            BatchError: it cannot be written.

        """
        record: dict[str, Any] = {
            "seq": outcome.sequence, "arguments": [printable(argument) for argument in arguments],
            "command": printable(outcome.command), "host": outcome.host, "started": outcome.started,
            "seconds": round(outcome.runtime, 6), "exit_code": outcome.exit_value, "signal": outcome.signal,
            **{name: getattr(outcome.result, name, None) for name in ("user_time", "system_time", "max_rss")},
        }  # fmt: skip
        for name, output in zip(("stdout", "stderr"), outputs(outcome.result), strict=True):
            record.update(text_or_base64(name, output.read()))
        self.write(json.dumps(record).encode() + b"\n")


def printable(text: str) -> str:
    r"""Make a text valid for any reader of JSON: bytes that are not UTF-8 become \xNN."""
    return os.fsencode(text).decode(errors="backslashreplace")


def text_or_base64(name: str, data: bytes) -> dict[str, str]:
    r"""Return data as a text or, if it is not UTF-8, in base64 under another name.

    Example:
        >>> text_or_base64("stdout", b"caf\xc3\xa9") | text_or_base64("stderr", b"\xff")
        {'stdout': 'café', 'stderr_base64': '/w=='}

    """
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}
