"""What a batch cannot go on with, or begin with."""

from __future__ import annotations

from .._core._errors import TrioflowError


class BatchError(TrioflowError):
    """The batch cannot be run, or not to its end; the message says why, and what to do."""
