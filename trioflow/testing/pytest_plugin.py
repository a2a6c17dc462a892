"""A pytest fixture, `explore`: `trioflow.testing.explore` with a fixed seed for each test.

Enable it in ``conftest.py``. It is not registered as an entry point, which would import trioflow in every pytest
session::

    pytest_plugins = ["trioflow.testing.pytest_plugin"]
"""

from __future__ import annotations

import argparse
import random
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from . import Exploration
from . import explore as explore_scenario

__all__ = ["explore"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options `--explore-runs` and `--explore-seed`."""
    group = parser.getgroup("trioflow")
    group.addoption(
        "--explore-runs",
        type=_parse_run_count,
        default=None,
        help="how many runs each exploration makes",
    )
    group.addoption(
        "--explore-seed",
        default=None,
        help="a number for all explorations, 'random', or the seed of a broken run; the default is fixed for each test",
    )


def _parse_run_count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number of at least 1")
    return int(text)


@pytest.fixture
def explore(request: pytest.FixtureRequest) -> Callable[..., Exploration]:
    """Return a function like `trioflow.testing.explore`, with a seed that is fixed for each test.

    *Provisional*: a minor release may change it.

    The seed depends on the id of the test, so the test passes or fails in the same way each time. `--explore-seed` and
    `--explore-runs` take precedence over the arguments of the call.
    """
    seed: str | None = request.config.getoption("--explore-seed")
    runs: int | None = request.config.getoption("--explore-runs")

    def explore_in_test(
        make_scheduler: Callable[..., Any], **options: Any
    ) -> Exploration:
        __tracebackhide__ = True
        if seed == "random":
            options["seed"] = random.randrange(10**6)
        elif seed is not None:
            options["seed"] = seed
            if seed.removeprefix("-").isdecimal():
                options["seed"] = int(seed)
        else:
            options.setdefault("seed", zlib.crc32(request.node.nodeid.encode()) % 10**6)
        if runs is not None:
            options["runs"] = runs
        return explore_scenario(make_scheduler, **options)

    return explore_in_test
