"""`trioflow batch`: its options, its bar, and how it is run."""

from __future__ import annotations

from typing import Final

OTHER_ERROR: Final = 255
"""The exit code for anything but failed commands; GNU parallel has the same."""
