#!/usr/bin/env python3
"""Compare the lines of code of each room of the package with the bounds in pyproject.toml.

    python .ci/code_size.py             fail if a room has more lines than its bound; print how dense the code is
    python .ci/code_size.py --print     print what there is, in the form of the bounds

A line of code is a line of a statement; blank lines, comments and docstrings are none. A room is a folder or a file of
`trioflow/`. The rooms of `_core` have bounds of their own, and one for all of them; so has the package. CONTRIBUTING.md
says what to do where there are too many. No bound refuses dense code: the figures are for the reviewer.
"""

from __future__ import annotations

import ast
import collections
import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMENT = re.compile(r"""((?:[^"'#]|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')*)(#.*)""")
"""A line with a comment, and what stands before it; a text over several lines is not recognized."""
PRAGMA = re.compile(r"# (fmt|noqa|type|pyright|pragma):")
"""Comments for tools, which have to stand behind code."""
HAVE_DOCSTRINGS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)


def count_lines(tree: ast.Module) -> int:
    """Return the number of lines of a module that hold code."""
    lines: set[int] = set()
    owners = [node for node in ast.walk(tree) if isinstance(node, HAVE_DOCSTRINGS)]
    docstrings = {node.body[0] for node in owners if ast.get_docstring(node) is not None}
    for node in ast.walk(tree):
        if not isinstance(node, ast.stmt) or node in docstrings:
            continue
        if hasattr(node, "body"):  # its own statements are counted one by one
            lines.add(node.lineno)
            continue
        for part in ast.walk(node):
            if isinstance(part, (ast.stmt, ast.expr, ast.alias, ast.keyword, ast.arg)):
                lines.update(range(part.lineno, (part.end_lineno or part.lineno) + 1))
    return len(lines)


def density(modules: Iterable[tuple[str, ast.Module]], code_lines: int) -> str:
    """Return how dense the code is, and how well its reasons are kept: five figures, in a sentence."""
    found: collections.Counter[str] = collections.Counter()
    for source, tree in modules:
        in_texts: set[int] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.IfExp):
                found["conditional"] += 1
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
                found["tuples"] += isinstance(node.value, (ast.Tuple, ast.IfExp))
            elif isinstance(node, ast.arg) and node.annotation is not None:
                found["typed"] += 1
                found["any"] += isinstance(node.annotation, ast.Name) and node.annotation.id == "Any"
            elif isinstance(node, (ast.Constant, ast.JoinedStr)) and node.end_lineno != node.lineno:
                in_texts.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        for number, line in enumerate(source.splitlines(), 1):
            found["lines"] += 1
            if "#" in line and number not in in_texts and (comment := COMMENT.match(line)):
                found["links"] += re.search(r"://|\w#\d", comment[2]) is not None
                found["behind"] += bool(comment[1].strip()) and not PRAGMA.match(comment[2])
    return (
        f"{100 * found['conditional'] / code_lines:.1f} conditional expressions per 100 lines of code, "
        f"{1000 * found['tuples'] / found['lines']:.1f} assignments of several values and "
        f"{1000 * found['behind'] / found['lines']:.1f} comments behind code per 1,000 lines, "
        f"{found['links']} links in comments, "
        f"{100 * found['any'] / max(found['typed'], 1):.1f} % of the parameters are Any"
    )


def main() -> int:
    """Print the rooms that have grown, and the package if it has; return 1 if there are any."""
    sizes: collections.Counter[str] = collections.Counter()
    modules: list[tuple[str, ast.Module]] = []
    for path in (ROOT / "trioflow").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        modules.append((source, ast.parse(source)))
        room, *inside = path.relative_to(ROOT / "trioflow").parts
        name = f"{room}/{inside[0]}" if room == "_core" and len(inside) > 1 else room
        sizes[name] += count_lines(modules[-1][1])
    bounds = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["trioflow"]["code-lines"]
    total = sizes.total()
    sizes["_core"] = sum(size for room, size in sizes.items() if room.startswith("_core/"))
    sizes["all"] = total
    if "--print" in sys.argv:
        print(*(f'"{room}" = {size}' for room, size in sorted(sizes.items())), sep="\n")
        return 0
    grown = [
        f"{room}: {size} lines, {size - bounds.get(room, 0)} too many"
        for room, size in sizes.items()
        if size > bounds.get(room, 0)
    ]
    print(*grown, f"{total} lines of code; {bounds['all']} are allowed", sep="\n")
    print(density(modules, total))
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
