"""The example of an experiment on nodes, run as a newcomer runs it, with fewer of them."""

from __future__ import annotations

import re
from pathlib import Path

from .scripts import run_example


def test_the_example_measures_each_wave_on_each_node(tmp_path: Path) -> None:
    """The results of each wave come back from each node, and nothing is left in the home directory."""
    timeline = tmp_path / "timeline.svg"
    done = run_example("nodes", "--nodes", 2, "--waves", 2, "--timeline", timeline)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"wave (\d): (\d) nodes", done.stdout) == [("1", "2"), ("2", "2")]
    assert re.search(r"the load of [12] nodes was watched", done.stdout)  # the last one may have had no time
    assert "watch 127.0.1.1" in timeline.read_text()
    assert not Path("~/trioflow-example-nodes").expanduser().exists()
