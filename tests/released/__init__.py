"""What each release has promised and written: its public names, and a journal, a trace, events and durations of it.

`python -m tests.released` makes the folder of this version, which goes into the commit that is released. Each later
version has these names, and reads these files."""

from pathlib import Path

HERE = Path(__file__).parent
FLOW = HERE / "flow.py"
"""The scenario of each release, which `run.db.gz` is the journal of."""
FILES = {"in": "input\n", "late.sh": "echo whole > late"}
