"""The examples, as scripts and as modules."""

import importlib.util
import os
import subprocess
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any
from .. import pythons
from ..places import EXAMPLES, ROOT

LIBRARY = Path(sysconfig.get_path("stdlib"))


WITH_ANOTHER_LIBRARY = """
import runpy, sys, sysconfig
script, library, *sys.argv[1:] = sys.argv[1:]
sysconfig.get_path = {"stdlib": library}.__getitem__
if script.endswith(".py"):
    runpy.run_path(script, run_name="__main__")
else:
    runpy.run_module(script, run_name="__main__")
"""


def python(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments, in a process that finds trioflow."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    return pythons.python(*arguments, env=environment, encoding="utf-8")


def run_example(
    name: str, *arguments: Any, library: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run an example by its command line; `library` replaces the standard library for it."""
    script = EXAMPLES / f"{name}.py"
    return (
        python(script, *arguments)
        if library is None
        else with_library(library, script, *arguments)
    )


def with_library(
    library: Path, script: Any, *arguments: Any
) -> subprocess.CompletedProcess[str]:
    """Run a file, or a module by its name, in a Python that seems to have another standard library."""
    return python("-c", WITH_ANOTHER_LIBRARY, script, library, *arguments)


def load_example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"{name}_example", EXAMPLES / f"{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
