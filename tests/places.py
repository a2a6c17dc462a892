"""Where things are that tests read, and how long they wait for what should happen in other processes."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "trioflow"
DOCS = ROOT / "docs"
EXAMPLES = ROOT / "examples"

PATIENCE = 20.0
"""Seconds after which what another process should have done has gone wrong; enough for a busy machine."""
