"""Mutants that no test can notice, each with the reason: mostly a fault that costs time or memory, and nothing else."""

from __future__ import annotations

from typing import Final

EXPLAINED: Final[dict[str, str]] = {}
"""The reason, by the name of the mutant as it is printed."""
