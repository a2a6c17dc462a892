"""Digests of the code of functions, which tell whether it has changed since an earlier run.

A digest is computed from the syntax tree of a function, without decorators and docstring: layout, comments, line
numbers, the name of the file and `-O` do not count. (Bytecode depends on layout: on Python 3.13, 5 % of functions have
other bytecode once their file is formatted anew.) Functions that it calls do not count either.

A function has no digest if its source is not found, or if its file is newer than this program, which may then run other
code. Digests of another version of Python, whose syntax trees may differ, are not compared.
"""

from __future__ import annotations

import ast
import functools
import inspect
import os
import sys
from typing import Any, Final

from .._core.base._user_code import STARTED_AT
from ._serialization import digest

MAX_DIGESTS: Final = 1000


def digest_name(function: Any) -> str:
    """Return the name of a function's digest in a journal."""
    return f"{sys.version_info[0]}.{sys.version_info[1]} {function.__module__}:{function.__qualname__}"


@functools.lru_cache(MAX_DIGESTS)
def code_digest(code: Any) -> str:
    """Return the digest of the function that has this code object, or "" if it has none."""
    try:
        if os.stat(code.co_filename).st_mtime > STARTED_AT:
            return ""
        source = inspect.getsource(code)
        tree = ast.parse(f"if 1:\n{source}" if source[:1].isspace() else source)
    except (OSError, TypeError, SyntaxError):
        return ""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == code.co_name:
            body = node.body if ast.get_docstring(node, clean=False) is None else node.body[1:]
            return digest("".join([ast.dump(node.args), *map(ast.dump, body)]).encode())
    return ""
