"""What stands in for a connection where the node is this machine: the same wrapper, without ssh."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Final

import anyio

from . import _local_copier
from ._sftp_operations import IN_THE_WAY

if TYPE_CHECKING:
    from ._nodes import LocalNode
    from ._sftp_operations import Operation


class LocalConnection:
    """This machine, in the place of a `Connection`: always open, and never lost."""

    def __init__(self, node: LocalNode) -> None:
        """Take the node."""
        self.node: Final = node
        self.directory: Final = node.directory
        self.sessions: Final = anyio.CapacityLimiter(inf)
        self.litter: list[str] = []
        self.was_reported = False

    @property
    def scratch(self) -> str:
        """The directory for temporary files, as what stands in front of a name."""
        return os.path.join(tempfile.gettempdir(), "")

    async def ensure(self, *, anew: bool = False) -> None:
        """Have its directory.

        Raises:
            OSError: it cannot be made.

        """
        if self.directory is not None:
            os.makedirs(self.directory, exist_ok=True)

    def is_open(self) -> bool:
        """Return True."""
        return True

    def command(self, line: str) -> Sequence[str]:
        """Return what runs a line."""
        return ["/bin/sh", "-c", line]

    def copier(self, operations: Sequence[Operation]) -> tuple[Sequence[str], bytes]:
        """Return what copies files, and what it is to read."""
        given = [(type(operation).__name__, *dataclasses.astuple(operation)) for operation in operations]
        return [sys.executable or "python3", "-I", "-S", _local_copier.__file__], json.dumps(given).encode()

    def listed(self, said: bytes, operations: Sequence[Operation]) -> Sequence[str]:
        """Return the files that were fetched, given what the copier has printed."""
        return said.decode(errors="replace").splitlines()

    def explained(self, said: bytes) -> bytes:
        """Return what the copier has said, and what to do."""
        said = said.strip()
        return said + b"; " + IN_THE_WAY if said.startswith(b"rename ") and said.endswith(b"Is a directory") else said

    def never_started(self, text: str) -> bool:
        """Return False: what runs here has started."""
        return False

    def is_full(self, text: str) -> bool:
        """Return False: there is no such limit."""
        return False

    def allow_no_more_than(self, number: int) -> None:
        """Learn nothing."""

    def there(self, path: str) -> str:
        """Return a path on this machine; a `~` in front is the user's home directory."""
        return os.path.expanduser(path)
