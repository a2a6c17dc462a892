"""CPython's own tests of executors, run on `trioflow.Executor`: a program of its own.

``python -m tests.cpython_executors TrioWaitTest`` runs one of the cases; without a name it runs all. The exit code is
77 where neither this Python nor Debian's has them.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import unittest
from pathlib import Path
from typing import Any

from trioflow import Executor

NAME = "test.test_concurrent_futures"
DEBIAN = Path(f"/usr/lib/python{sys.version_info.major}.{sys.version_info.minor}/test")
"""Where Debian's package of CPython's tests, libpython3.11-testsuite, has what other builds of Python come without."""
ABSENT = 77
CASES = [f"{backend}{what}Test" for backend in ("Asyncio", "Trio") for what in ("AsCompleted", "Executor", "Wait")]


class OnAsyncio(Executor):
    def __init__(self, max_workers: int | None = None) -> None:
        super().__init__(max_workers, backend="asyncio")


def load(name: str) -> Any:
    """Import a module of CPython's tests, from this Python or from Debian's; None if neither has it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        path = DEBIAN.joinpath(*name.split(".")[1:]).with_suffix(".py")
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None or not path.exists():
            return None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


def make_cases() -> dict[str, Any]:
    """Have CPython's `create_executor_tests` make its cases for our executor; none if it is not there."""
    one_module = sys.version_info < (3, 12)
    names = (
        [NAME] * 4
        if one_module
        else [f"{NAME}.{part}" for part in ("util", "executor", "test_wait", "test_as_completed")]
    )
    modules = [load(name) for name in names]
    if None in modules:
        return {}
    util, of_executor, of_wait, of_as_completed = modules
    mixins = (
        type("TrioMixin", (util.ExecutorMixin,), {"executor_type": Executor}),
        type("AsyncioMixin", (util.ExecutorMixin,), {"executor_type": OnAsyncio}),
    )
    found = util.__dict__ if one_module else {"__name__": __name__}
    for tests in (of_executor.ExecutorTest, of_wait.WaitTests, of_as_completed.AsCompletedTests):
        util.create_executor_tests(*([tests] if one_module else [found, tests]), executor_mixins=mixins)
    return {name: found[name] for name in CASES}


def main() -> int:
    cases = make_cases()
    if not cases:
        print(f"there is no {NAME}")
        return ABSENT
    load_tests = unittest.defaultTestLoader.loadTestsFromTestCase
    suite = unittest.TestSuite(load_tests(cases[name]) for name in sys.argv[1:] or CASES)
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    sys.exit(main())
