"""The experiment on the page about nodes, with a node on which a round fails."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ..places import DOCS

SCRIPT = """\
#!/bin/sh
[ "$1" != 1 ] || [ "${PWD##*/}" = node01 ] || [ -e ../../mended ] || exit 7
echo "round $1" >> results.txt
"""


def results() -> dict[str, list[str]]:
    return {name: Path(f"results/{name}.txt").read_text().splitlines() for name in ("node01", "node02")}


def test_a_failed_round_ends_the_rounds_of_its_node_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed round once blocked those of all other nodes, and nothing was pulled; resumed, all measured it again."""
    monkeypatch.chdir(tmp_path)
    Path("measure.sh").write_text(SCRIPT)
    Path("measure.sh").chmod(0o755)
    program = re.search(r"```python\n(.*?)```", (DOCS / "how-to/nodes.md").read_text(encoding="utf-8"), re.DOTALL)
    assert program is not None
    page: dict[str, Any] = {}
    exec(program[1], page)
    experiment = page["scenario"]()
    assert not experiment.run(journal="experiment.db")
    bad = {job.label: job.state.name for job in experiment if not job.is_succeeded()}
    assert bad == {"round 1 node02": "FAILED", "round 2 node02": "BLOCKED"}
    rounds = ["round 0", "round 1", "round 2"]
    assert results() == {"node01": rounds, "node02": rounds[:1]}
    Path("mended").touch()
    assert page["scenario"]().run(journal="experiment.db")
    assert results() == {"node01": rounds, "node02": rounds}
