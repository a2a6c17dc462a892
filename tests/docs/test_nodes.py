"""The experiment on the page about nodes, with a node on which a round fails."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ..places import DOCS

SCRIPT = """\
#!/bin/sh
[ "$1" != 1 ] || [ "${PWD##*/}" = node01 ] || exit 7
echo "round $1" >> results.txt
"""


def test_a_failed_round_ends_the_rounds_of_its_node_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed round once blocked the rounds of all other nodes, and what was measured was not pulled from any."""
    monkeypatch.chdir(tmp_path)
    Path("measure.sh").write_text(SCRIPT)
    Path("measure.sh").chmod(0o755)
    program = re.search(r"```python\n(.*?)```", (DOCS / "how-to/nodes.md").read_text(encoding="utf-8"), re.DOTALL)
    assert program is not None
    page: dict[str, Any] = {}
    exec(program[1], page)
    experiment = page["scenario"]()
    assert not experiment.run()
    bad = {job.label: job.state.name for job in experiment if not job.is_succeeded()}
    assert bad == {"round 1 node02": "FAILED", "round 2 node02": "BLOCKED"}
    pulled = {name: Path(f"results/{name}.txt").read_text().split("\n") for name in ("node01", "node02")}
    assert pulled == {"node01": ["round 0", "round 1", "round 2", ""], "node02": ["round 0", ""]}
