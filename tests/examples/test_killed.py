"""The example that kills a batch of calls and resumes it, run as a newcomer runs it."""

from __future__ import annotations

from .scripts import run_example


def test_a_batch_that_is_killed_finishes() -> None:
    """A batch that is killed gives the right result, and the example asserts that few calls are repeated."""
    done = run_example("killed", "--calls", 40, "--kills", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("killed after") == 1
    assert f"the sum of 40 squares is {sum(n * n for n in range(40))};" in done.stdout
    assert "41 jobs kept, 2 runs; last run: 'Scheduler'" in done.stdout
