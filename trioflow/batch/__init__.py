"""Run one command line for many arguments: the implementation of `trioflow batch`."""

from __future__ import annotations

from .. import TrioflowError


class BatchError(TrioflowError):
    """The batch cannot be run, or cannot go on; the message gives the reason and the remedy."""
