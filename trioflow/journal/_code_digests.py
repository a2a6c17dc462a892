"""Digests of the code of functions, which tell whether it has changed since a result was stored.

A digest is that of the syntax tree of a function: layout, comments, docstrings, lines, the file's name and `-O` do not
count. (Bytecode depends on the layout: of functions whose file is laid out anew, up
to one in twenty has another one.) What the function calls does not count. A function without a digest has no source, is
a lambda, or is in a file that is newer than this program, which may not be what runs.
"""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import os
import sys
import time
from typing import Any, Final

from ._serialization import digest

_STARTED_AT: Final = time.time()
VERSION: Final = "{}.{}".format(*sys.version_info)
MAX_FILES: Final = 256


def code_digest(function: Any) -> str:
    """Return the digest of the code of a function, without its decorators; "" if there is none."""
    function = inspect.unwrap(function)
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return "" if code is None else _digests_of_file(code.co_filename).get((code.co_name, code.co_firstlineno), "")


@functools.lru_cache(MAX_FILES)
def _digests_of_file(path: str) -> dict[tuple[str, int], str]:
    try:
        if os.stat(path).st_mtime > _STARTED_AT:
            return {}
        tree = ast.parse("".join(linecache.getlines(path)))
    except (OSError, SyntaxError, ValueError):
        return {}
    found: dict[tuple[str, int], str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            line = min(part.lineno for part in (node, *node.decorator_list))
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            parts = [ast.dump(node.args), *map(ast.dump, body)]
            found[node.name, line] = f"{VERSION} {digest(repr(parts).encode())}"
    return found


def has_changed(before: str, now: str) -> bool:
    """Return whether two digests say so; those of different versions of Python, whose trees differ, do not."""
    return before != now and before.partition(" ")[0] == now.partition(" ")[0]
