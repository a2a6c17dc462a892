"""What goes wrong between this program and a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._core.api import TrioflowError
from ...abc import printable

if TYPE_CHECKING:
    from ._nodes import Node


class SshError(TrioflowError):
    """A node refuses us, or a connection is lost: whatever keeps a command from running, or from being heard of again.

    Attributes:
        node: the node.
        started: whether a command had started there, or may have.

    """

    __module__ = "trioflow"  # tracebacks show it, also where nobody has asked trioflow for it, which would set it

    def __init__(self, node: Node, what: str, *, started: bool = False) -> None:
        """Build the message out of the node and what happened."""
        self.node: Node = node
        self.started: bool = started
        super().__init__(printable(f"{node.name}: {what}"))


class Unreachable(SshError):
    """A node could not be reached, after several tries: it is off, has another address, or does not answer in time."""

    __module__ = "trioflow"
