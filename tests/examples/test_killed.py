"""The example that kills a batch of calls and resumes it, run as a newcomer runs it."""

from __future__ import annotations

from .scripts import run_example


def test_a_batch_that_is_killed_finishes() -> None:
    """The result is right, and only the last calls before a kill are repeated (the example asserts that)."""
    done = run_example("killed", "--calls", 40, "--kills", 2)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("killed after") == 2
    assert f"the sum of 40 squares is {sum(n * n for n in range(40))};" in done.stdout
    assert "41 jobs, 3 runs; the last of 'Scheduler'" in done.stdout
