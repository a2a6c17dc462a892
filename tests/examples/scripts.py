"""The examples as their users run them, and as modules."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from ..places import EXAMPLES, ROOT

LIBRARY = Path(sysconfig.get_path("stdlib"))


def python(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments, in a process that finds trioflow."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )


def run_example(name: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run an example by its command line."""
    return python(EXAMPLES / f"{name}.py", *arguments)


def load_example(name: str) -> ModuleType:
    """Return an example as a module."""
    spec = importlib.util.spec_from_file_location(f"{name}_example", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
