"""Many commands, made of one line and its arguments, and run: the inside of `trioflow batch`."""

from __future__ import annotations

from .. import TrioflowError


class BatchError(TrioflowError):
    """The batch cannot be run, or cannot go on; the message says why, and what to do."""
