"""Paths that tests read, and how long they wait for other processes."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any
import trioflow

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(
    trioflow.__file__
).parent  # not below ROOT if an installed package is tested
DOCS = ROOT / "docs"
EXAMPLES = ROOT / "examples"

SESSIONS = [
    "README.md",
    "docs/tutorial.md",
    "docs/kinds/dask.md",
    *(
        f"docs/how-to/{topic}.md"
        for topic in ("approve", "ci", "commands", "databases")
    ),
    *(f"docs/how-to/{topic}.md" for topic in ("every-night", "nodes", "try-again")),
]
"""Pages that show a session: programs that a reader saves, and commands. One test runs each from beginning to end."""

PATIENCE = 120.0
"""Seconds after which what another process should have done has gone wrong; enough for a busy machine."""


def patiently(*units: float) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a test of limits on real time its unit, the argument `unit`: seconds, and more if it fails with few. Any
    step may take longer than a small unit on a busy machine. A fault makes the test fail with the last one, too. Each
    try has a folder of its own as `tmp_path`: what an earlier one has left there would make it fail."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def tries(**fixtures: Any) -> None:
            import pytest  # not in programs that tests start

            place = fixtures.get("tmp_path")
            for unit in units:
                if place is not None:
                    fixtures["tmp_path"] = place / str(unit)
                    fixtures["tmp_path"].mkdir()
                try:
                    test(unit=unit, **fixtures)
                    break
                except (Exception, pytest.fail.Exception):
                    if unit == units[-1]:
                        raise

        signature = inspect.signature(test)
        others = [one for name, one in signature.parameters.items() if name != "unit"]
        vars(tries)["__signature__"] = signature.replace(parameters=others)
        return tries

    return decorate
