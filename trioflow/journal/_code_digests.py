"""Digests of the code of functions, which tell whether it has changed since an earlier run.

A digest is computed from the syntax tree of a function, without decorators and docstring: layout, comments, line
numbers, the name of the file and `-O` do not count. (Bytecode depends on layout: on Python 3.13, 5 % of functions have
other bytecode once their file is formatted anew.) Functions that it calls do not count either.

The text is the one that was loaded, where that is known, so a reload changes the digests of what it has mended.
Otherwise, a function has no digest if its source is not found, or if its file is newer than this program, which may
then run other code. Digests of another version of Python, whose syntax trees may differ, are not compared.
"""

from __future__ import annotations

import ast
import functools
import inspect
import os
import sys
from typing import Any, Final

from .. import _loaded_files
from .._core.base._user_code import STARTED_AT
from ._serialization import digest

PYTHON_VERSION: Final = f"{sys.version_info[0]}.{sys.version_info[1]}"


def code_digest(code: Any) -> str | None:
    """Return the digest of the function that has this code object, after the version of Python, or None."""
    found = _digest_of_text(code, _loaded_files.text_of(code.co_filename))
    return f"{PYTHON_VERSION} {found}" if found else None


def is_other_code(before: str | None, now: str | None) -> bool:
    """Return whether two digests are of other code. It is not known without both, and of two versions of Python."""
    if before is None or now is None or before.partition(" ")[0] != PYTHON_VERSION:
        return False
    return before != now


def executing_codes() -> set[Any]:
    """Return the code of all functions that the threads of this program are executing."""
    frames: list[Any] = [*sys._current_frames().values()]
    for frame in frames:
        if frame.f_back is not None:
            frames.append(frame.f_back)
    return {frame.f_code for frame in frames}


@functools.lru_cache(1000)
def _digest_of_text(code: Any, text: bytes | None) -> str:
    """Return the digest of code in the text that was loaded. Equal codes may be of functions with other defaults."""
    try:
        if text is not None:
            source = "".join(inspect.getblock(_loaded_files.source_lines(text)[code.co_firstlineno - 1 :]))
        elif os.stat(code.co_filename).st_mtime > STARTED_AT:
            return ""
        else:
            source = inspect.getsource(code)
        tree = ast.parse(f"if 1:\n{source}" if source[:1].isspace() else source)
    except (OSError, TypeError, SyntaxError, UnicodeDecodeError):
        return ""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == code.co_name:
            body = node.body if ast.get_docstring(node, clean=False) is None else node.body[1:]
            return digest("".join([ast.dump(node.args), *map(ast.dump, body)]).encode())
    return ""
