"""The code of the package as syntax trees, for tests about it: it is parsed once, and not imported."""

import ast
import functools
import gc
from pathlib import Path
from .places import PACKAGE, ROOT


def full_name(path: Path) -> str:
    """Return the full name of a module; a package's is called `p.__init__`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Return the syntax tree of each module of the package, by its full name, hidden from the collector."""
    gc.disable()  # to go through a million nodes takes a second
    try:
        return {
            full_name(path): ast.parse(path.read_text(encoding="utf-8"))
            for path in sorted(PACKAGE.rglob("*.py"))
        }
    finally:
        gc.freeze()
        gc.enable()
