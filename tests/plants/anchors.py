"""Find the place of a fault by what stands there, not by how it is written.

A place is a file, the qualified name of a function in it, and code: statements that follow each other, the head of a
compound statement, or an expression. Code is compared as the parser sees it, so line breaks, brackets and comments do
not matter."""

import ast
import re
import textwrap
from collections.abc import Iterator
from functools import lru_cache
from typing import TypeGuard
from ..mutation.mutants import Places

HEADED = (ast.If, ast.While, ast.For, ast.AsyncFor, ast.With, ast.AsyncWith)
"""Statements that may be named by their head alone, which ends in a colon."""


def find(text: str, function: str, code: str, new: str) -> list[tuple[int, int, str]]:
    """Return each place in a module's text where the code stands in a function: start, end, what comes there instead.

    The function is a qualified name, such as `Line.give_back`, or `outer.inner`; "" is the whole module.
    """
    places, tree = _parsed(text)
    found: list[tuple[int, int, str]] = []
    for scope in scopes(tree, function):
        if code.endswith(":"):
            found += _find_head(text, places, scope, code, new)
            continue
        anchor = ast.parse(code).body
        if _is_expression(anchor) and _is_expression(ast.parse(new or "None").body):
            found += _find_expression(places, scope, anchor[0].value, new)
        else:
            found += _find_statements(text, places, scope, anchor, new)
    return found


@lru_cache(maxsize=32)
def _parsed(text: str) -> tuple[Places, ast.Module]:
    return Places(text), ast.parse(text)


def _is_expression(code: list[ast.stmt]) -> TypeGuard[list[ast.Expr]]:
    return len(code) == 1 and isinstance(code[0], ast.Expr)


def find_in_text(text: str, code: str, new: str) -> list[tuple[int, int, str]]:
    """Return each place of code that is not Python, whatever white space is between its words."""
    pattern = r"\s+".join(re.escape(word) for word in code.split())
    return [(match.start(), match.end(), new) for match in re.finditer(pattern, text)]


def functions_with(text: str, code: str) -> list[str]:
    """Return the qualified names of all functions in a module in which the code stands, the innermost ones."""
    names = [
        name
        for name, _ in _definitions(_parsed(text)[1], "")
        if find(text, name, code, "pass")
    ]
    return [
        name
        for name in names
        if not any(other.startswith(f"{name}.") for other in names)
    ]


def scopes(tree: ast.Module, function: str) -> list[ast.AST]:
    """Return the definitions of this qualified name: a property with a setter has two."""
    if not function:
        return [tree]
    return [node for name, node in _definitions(tree, "") if name == function]


def _definitions(node: ast.AST, outer: str) -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{outer}{child.name}"
            yield name, child
            yield from _definitions(child, f"{name}.")
        else:
            yield from _definitions(child, outer)


def _find_expression(
    places: Places, scope: ast.AST, code: ast.expr, new: str
) -> Iterator[tuple[int, int, str]]:
    """Find an expression. A dict of one item stands for this item in a larger one."""
    wanted = ast.dump(code)
    for node in _expressions(scope):
        if ast.dump(node) == wanted:
            yield *places.of(node), f"({_joined(new) or None})"
        elif isinstance(node, ast.Dict) and isinstance(code, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if key is not None and ast.dump(ast.Dict([key], [value])) == wanted:
                    yield (
                        places.of(key)[0],
                        places.of(value)[1],
                        _joined(new).removeprefix("{").removesuffix("}"),
                    )


def _joined(code: str) -> str:
    return ast.unparse(ast.parse(code))


def _expressions(node: ast.AST) -> Iterator[ast.expr]:
    """Yield all expressions, but those in f-strings, whose places Python 3.11 does not know."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield child
        if not isinstance(child, ast.JoinedStr):
            yield from _expressions(child)


def _find_statements(
    text: str, places: Places, scope: ast.AST, code: list[ast.stmt], new: str
) -> Iterator[tuple[int, int, str]]:
    wanted = list(map(ast.dump, code))
    for block in _blocks(scope):
        for index in range(len(block) - len(wanted) + 1):
            run = block[index : index + len(wanted)]
            if list(map(ast.dump, run)) == wanted:
                start = places.of(run[0])[0]
                yield (
                    start,
                    places.of(run[-1])[1],
                    _indented(text, start, new or "pass"),
                )


def _blocks(scope: ast.AST) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(scope):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                yield block


def _find_head(
    text: str, places: Places, scope: ast.AST, code: str, new: str
) -> Iterator[tuple[int, int, str]]:
    wanted = ast.unparse(ast.parse(f"{code} pass"))
    for node in ast.walk(scope):
        if isinstance(node, HEADED) and _head(node) == wanted:
            start, _ = places.of(node)
            end = text.index(":", places.of(_last_expression(node))[1]) + 1
            is_elif = text.startswith("elif", start)
            yield start, end, f"el{new}" if is_elif else new


def _head(node: ast.stmt) -> str:
    bare = ast.parse(ast.unparse(node)).body[0]
    assert isinstance(bare, HEADED)
    bare.body = [ast.Pass()]
    if not isinstance(bare, ast.With | ast.AsyncWith):
        bare.orelse = []
    return ast.unparse(bare)


def _last_expression(node: ast.stmt) -> ast.expr:
    match node:
        case ast.If(test=test) | ast.While(test=test):
            return test
        case ast.For(iter=iterated) | ast.AsyncFor(iter=iterated):
            return iterated
        case ast.With(items=[*_, item]) | ast.AsyncWith(items=[*_, item]):
            return item.optional_vars or item.context_expr
    raise TypeError(f"a {type(node).__name__} has no head")


def _indented(text: str, start: int, new: str) -> str:
    """Return code for a place in the middle of a line: all lines but the first get its indentation."""
    margin = " " * (start - text.rfind("\n", 0, start) - 1)
    return textwrap.indent(new, margin).removeprefix(margin)
