"""The implementation of `trioflow batch`, which runs a command line for many arguments."""

from __future__ import annotations

from .. import TrioflowError


class BatchError(TrioflowError):
    """The batch cannot start or cannot continue. The message gives the reason and the remedy."""
