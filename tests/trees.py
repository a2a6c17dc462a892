"""The code of the package as syntax trees, for tests about it: it is parsed once, and not imported.

To go through all of it takes a second, so a test looks for words in the text first, and only then at the syntax."""

import ast
import functools
import gc
from collections.abc import Collection, Iterator
from pathlib import Path
from .places import PACKAGE, ROOT


def full_name(path: Path) -> str:
    """Return the full name of a module; a package's is called `p.__init__`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@functools.cache
def sources() -> dict[str, str]:
    """Return the text of each module of the package, by its full name."""
    return {
        full_name(path): path.read_text(encoding="utf-8")
        for path in sorted(PACKAGE.rglob("*.py"))
    }


parsed = functools.cache(ast.parse)
"""Of a text, which is parsed once."""


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Return the syntax tree of each module of the package, by its full name, hidden from the collector."""
    gc.disable()  # to go through a million nodes takes a second
    try:
        return {module: parsed(text) for module, text in sources().items()}
    finally:
        gc.freeze()
        gc.enable()


def parts_with(
    words: Collection[str], text: str, module: str
) -> Iterator[tuple[str, ast.AST]]:
    """Yield the parts of a module, each after the full name of its function, but no docstrings, and nothing inside of
    functions and classes that contain none of the words."""
    lines = text.splitlines()

    def inside(node: ast.AST, name: str) -> Iterator[tuple[str, ast.AST]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue
            yield name, child
            if not isinstance(child, Named):
                yield from inside(child, name)
            elif contains_any(text_of(child, lines), words):
                yield from inside(child, f"{name}.{child.name}")

    if contains_any(text, words):
        yield from inside(parsed(text), module)


Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def text_of(node: Named, lines: list[str]) -> str:
    """Return the text of a function or class, with its decorators, of a module of these lines."""
    first = min(each.lineno for each in (node, *node.decorator_list))
    return "\n".join(lines[first - 1 : node.end_lineno])


def contains_any(text: str, words: Collection[str]) -> bool:
    return any(word in text for word in words)
