"""Examples as modules: they have scenarios and servers that benchmarks use too."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def example(name: str) -> ModuleType:
    """Return an example as a module."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
