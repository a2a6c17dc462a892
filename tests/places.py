"""Where things are that tests read, and how long they wait for what should happen in other processes."""

from __future__ import annotations

from pathlib import Path

import trioflow

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(trioflow.__file__).parent  # not below ROOT if an installed package is tested
DOCS = ROOT / "docs"
EXAMPLES = ROOT / "examples"

SESSIONS = [
    f"docs/{page}.md" for page in ("tutorial", "how-to/build", "how-to/commands", "how-to/nodes", "how-to/sweep")
]
"""Pages that show a session: programs that a reader saves, and commands. One test runs each from beginning to end."""

PATIENCE = 40.0
"""Seconds after which what another process should have done has gone wrong; enough for a busy machine."""
