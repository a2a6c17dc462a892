"""A plugin of pytest that runs each async test as the body of a job, and writes down how each test has ended.

It is configured by the environment, because it runs in a process of its own:

- `TRIOFLOW_INSIDE`: whether tests run in jobs; without it they run plainly, to compare.
- `TRIOFLOW_ONLY`: the names of tests, JSON; no others run. Without it all do.
- `TRIOFLOW_OUTCOMES`: the file for the outcomes, JSON: the name of each test with "passed", "failed" or "skipped"."""

import functools
import gc
import inspect
import json
import os
import sys
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any
import pytest
from trioflow import Job, Scheduler

outcomes: dict[str, str] = {}
names: dict[str, str] = {}
"""What we call each test, by what pytest calls it: that depends on where it was started."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name the tests, and leave out those not selected."""
    for item in items:
        module = inspect.getmodule(getattr(item, "obj", None))
        names[item.nodeid] = (
            f"{module.__name__.rpartition('.')[2] if module else ''}::{item.nodeid.partition('::')[2]}"
        )
    only = os.environ.get("TRIOFLOW_ONLY")
    if only:
        chosen = set(json.loads(only))
        items[:] = [item for item in items if names[item.nodeid] in chosen]


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Make the libraries' own plugins run a job in place of the test."""
    if os.environ.get("TRIOFLOW_INSIDE") and inspect.iscoroutinefunction(
        pyfuncitem.obj
    ):
        pyfuncitem.obj = in_a_job(pyfuncitem.obj)
    modules = {
        name: module
        for name, module in sys.modules.items()
        if name.partition(".")[0] in ("trio", "anyio")
    }
    try:
        return (yield)
    except KeyboardInterrupt:  # it would end all tests
        raise AssertionError("the test let a KeyboardInterrupt out") from None
    finally:
        sys.modules.update(modules)  # a test of trio imports it once more


def in_a_job(test: Any) -> Any:
    """Return an async function that runs the test as the only job of a scheduler, and raises its exception."""

    @functools.wraps(test)
    async def inside(*args: Any, **kwargs: Any) -> None:
        name = f"{test.__module__}.{test.__qualname__}"  # as trio names its tasks
        job = Job(test, *args, kwargs=kwargs, label=name)
        await Scheduler(job).co_run()
        job.result()

    return inside


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Record the outcome of a test; an error in its set-up or tear-down is a failure."""
    worse = {"passed": 0, "skipped": 1, "failed": 2}
    name = names[report.nodeid]
    if worse[report.outcome] >= worse[outcomes.get(name, "passed")]:
        outcomes[name] = report.outcome


def pytest_runtest_logfinish(nodeid: str) -> None:
    """Free what a failed test has left open; otherwise the collector finds it in a later test, which then fails."""
    if outcomes[names[nodeid]] == "failed":
        for name in (
            "last_exc",
            "last_value",
            "last_traceback",
        ):  # pytest keeps the exception there
            vars(sys).pop(name, None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()


def pytest_sessionfinish() -> None:
    Path(os.environ["TRIOFLOW_OUTCOMES"]).write_text(
        json.dumps(outcomes), encoding="utf-8"
    )
