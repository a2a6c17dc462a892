"""Exceptions for failed connections to a node, which a batch knows even if it uses no node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._core.job._errors import TrioflowError
from ...abc import printable

if TYPE_CHECKING:
    from ._nodes import Node


class SshError(TrioflowError):
    """A node refuses the login, its connection is lost, or a transfer fails.

    If the job was running a command, the command either did not start or has an unknown outcome.

    Attributes:
        node: the node.
        started: whether a command or transfer has started on the node, or may have.

    """

    # For tracebacks of programs that never access `trioflow.SshError`, which sets it.
    __module__ = "trioflow"

    def __init__(
        self, node: Node, what: str, advice: str = "", *, started: bool = False
    ) -> None:
        """Build the message from the node's name and a description of the problem. Advice is a note."""
        self.node: Node = node
        self.started: bool = started
        super().__init__(printable(f"{node.name}: {what}"), printable(advice))


class Unreachable(SshError):
    """A node could not be reached in several attempts: it is off, has another address, or did not answer in time."""

    __module__ = "trioflow"
