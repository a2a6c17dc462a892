"""The example at three sizes: by worker processes, and on nodes; `tests/test_dask.py` runs it on a cluster."""

from __future__ import annotations

import hashlib

from trioflow import Scheduler

from ..cli.command_line import run
from ..places import EXAMPLES
from .scripts import load_example


def test_the_command_runs_the_example_in_worker_processes() -> None:
    result = run(EXAMPLES / "sizes.py", "--set", "parts=3", "--set", "size=50")
    assert result.exit_code == 0
    assert "all 7 jobs succeeded" in result.output


def test_nodes_compute_the_same_result_as_plain_python() -> None:
    sizes = load_example("sizes")
    texts = "".join(sizes.digest(sizes.make(number, 50)) for number in range(3))
    scheduler: Scheduler = sizes.scenario(3, 50, nodes="local")
    assert scheduler.run()
    *_, last = scheduler
    assert last.result() == hashlib.sha256(texts.encode()).hexdigest()
