"""The connection to a `LocalNode`: it runs commands and copies files on this machine, without ssh."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from math import inf
from typing import Final

import anyio

from . import _local_copier
from ._nodes import LocalNode
from ._transport import Operation


class LocalConnection:
    """A connection to this machine, with the interface of `Connection`: it is always open and never lost."""

    def __init__(self, node: LocalNode) -> None:
        self.node: Final = node
        self.directory: Final = node.directory
        self.sessions: Final = anyio.CapacityLimiter(inf)
        self.leftover_files: list[str] = []
        self.was_reported = False

    @property
    def scratch(self) -> str:
        """The path prefix of temporary files: the temporary directory with a trailing separator."""
        return os.path.join(tempfile.gettempdir(), "")

    async def ensure(self, user: object) -> None:
        """Create the node's directory, unless it exists.

        Raises:
            OSError: the directory cannot be created.

        """
        if self.directory is not None:
            os.makedirs(self.directory, exist_ok=True)

    def is_open(self) -> bool:
        return True

    def command(self, line: str) -> Sequence[str]:
        return ["/bin/sh", "-c", line]

    def copy_command(self, operations: Sequence[Operation]) -> tuple[Sequence[str], bytes]:
        """Return the command that executes file operations, and its standard input."""
        records = [(type(operation).__name__, *dataclasses.astuple(operation)) for operation in operations]
        return [sys.executable or "python3", "-I", "-S", _local_copier.__file__], json.dumps(records).encode()

    def parse_listing(self, output: bytes, operations: Sequence[Operation]) -> Sequence[str]:
        """Return the paths of the copied files, which the copy command has printed one per line."""
        return output.decode(errors="replace").splitlines()

    def explain_errors(self, output: bytes) -> tuple[bytes, str]:
        return output.strip(), ""

    def never_started(self, text: str) -> bool:
        """Return False: a local command never fails because of the connection."""
        return False

    def is_session_limit_error(self, text: str) -> bool:
        """Return False: the number of local commands is unlimited."""
        return False

    def node_path(self, path: str) -> str:
        return os.path.expanduser(path)
