"""The subcommand `trioflow batch`: its options, its progress bar and its run."""

from __future__ import annotations

from typing import Final

OTHER_ERROR_CODE: Final = 255
"""The exit code if the batch itself could not run, as in GNU parallel."""
