"""`trioflow batch`: its options, its progress bar, and its run."""

from __future__ import annotations

from typing import Final

OTHER_ERROR: Final = 255
"""The exit code for errors other than failed commands, as in GNU parallel."""
