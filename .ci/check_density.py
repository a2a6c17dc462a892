#!/usr/bin/env python3
"""Compare the size and the density of each room of the package with the bounds in pyproject.toml.

    .ci/check_density.py              fail if a room is larger or denser than its bounds
    .ci/check_density.py --print      print the figures of each room, in the form of the bounds
    .ci/check_density.py --list [SHAPE] [--below PATH]    print the places of the dense shapes, or of one of them
    .ci/check_density.py --measure FOLDER...              print the figures of other packages

A room is a folder or a file of `trioflow/`. The rooms of `_core` have bounds of their own, and all of them together.

Size is counted in tokens. Comments, docstrings and line ends are no tokens, and neither are the commas that the
formatter puts before a closing bracket on a line of its own: so the formatter changes no size. Density is counted in
tokens a statement, not a line, for the same reason. A header (`if ...:`) is one statement, and so is each simple
statement.

A shape is a form of an expression that a reader has to unfold: see SHAPES. The number of shapes in a room may only
fall, and a change that lowers it lowers the bound. A place that is better as it is says so on its first line:
`# dense: the reason`.
"""

from __future__ import annotations

import argparse
import ast
import collections
import io
import itertools
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
MAX_BRANCH = 24
"""The longest branch of a conditional expression, in characters."""
MAX_TERMS = 3
MAX_REPEATED = 2
"""The longest text that is repeated as a line or a margin is; longer ones are multiplied by a condition."""
NO_TOKENS = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
SHAPES = {
    "long-branch": "a conditional expression with a call or more than 24 characters in a branch",
    "nested": "a conditional expression in another, in a comprehension's loop, or in a tuple of values",
    "walrus": "a walrus that is not the test of a simple `if` or `while`",
    "bool-sum": "arithmetic with a condition",
    "text-times": "a text multiplied by a condition",
    "two-loops": "a comprehension with two loops",
    "sieve-and-call": "a comprehension with a condition and a call",
    "several": "an assignment of several values to several names, other than a swap",
    "long-test": "a condition of more than three terms without a name",
}


class Place(NamedTuple):
    """A dense shape, and its line in the file."""

    shape: str
    line: int


class Room:
    """What is in a room: the tokens, the statements, and the dense shapes."""

    def __init__(self) -> None:
        self.tokens = 0
        self.statements = 0
        self.shapes: collections.Counter[str] = collections.Counter()

    def add(self, tokens: int, statements: int, places: list[Place]) -> None:
        """Add the figures of a file."""
        self.tokens += tokens
        self.statements += statements
        self.shapes.update(place.shape for place in places)

    @property
    def tokens_a_statement(self) -> float:
        """The mean number of tokens in a statement."""
        return self.tokens / max(1, self.statements)


def count_tokens(source: str) -> tuple[int, int]:
    """Return the numbers of tokens and of statements, without docstrings and other texts that stand alone."""
    tokens = statements = 0
    statement: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NEWLINE:
            if any(each.type != tokenize.STRING for each in statement):
                statements += 1
                tokens += len(statement) - _count_trailing_commas(statement)
            statement = []
        elif token.type not in NO_TOKENS:
            statement.append(token)
    return tokens, statements


def _count_trailing_commas(statement: list[tokenize.TokenInfo]) -> int:
    count = 0
    for token, following in itertools.pairwise(statement):
        if token.string != ",":
            continue
        if following.string in (")", "]", "}") and following.start[0] > token.end[0]:
            count += 1
    return count


def find_shapes(source: str) -> list[Place]:
    """Return the places of the dense shapes, without those that a comment allows."""
    tree = ast.parse(source)
    lines = source.splitlines()
    parents: dict[ast.AST, ast.AST] = {}
    nodes: list[ast.AST] = [tree]
    for node in nodes:  # which grows: the whole tree, once
        for child in ast.iter_child_nodes(node):
            parents[child] = node
            nodes.append(child)
    places: list[Place] = []
    for node in nodes:
        for shape in _shapes_of(node, parents):
            if "# dense:" not in lines[node.lineno - 1]:
                places.append(Place(shape, node.lineno))
    return places


def _shapes_of(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Iterator[str]:
    if isinstance(node, ast.IfExp):
        if _is_long(node.body) or _is_long(node.orelse):
            yield "long-branch"
        if isinstance(
            parents[node],
            (ast.IfExp, ast.comprehension, ast.For, ast.Tuple, ast.Starred),
        ):
            yield "nested"
    elif isinstance(node, ast.NamedExpr):
        if not _is_simple_test(node, parents):
            yield "walrus"
    elif isinstance(node, ast.BinOp):
        yield from _arithmetic_shapes(node)
    elif isinstance(node, ast.AugAssign):
        if isinstance(node.op, (ast.Add, ast.Sub)) and _is_condition(node.value):
            yield "bool-sum"
    elif isinstance(node, COMPREHENSIONS):
        yield from _comprehension_shapes(node, parents)
    elif isinstance(node, ast.Assign):
        if _assigns_several(node):
            yield "several"
    elif isinstance(node, (ast.If, ast.While)):
        terms = _count_terms(node.test)
        if terms > MAX_TERMS:
            yield "long-test"


def _is_long(branch: ast.expr) -> bool:
    has_call = any(isinstance(each, ast.Call) for each in ast.walk(branch))
    return has_call or len(ast.unparse(branch)) > MAX_BRANCH


def _is_simple_test(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    parent = parents[node]
    if isinstance(parent, ast.Compare):
        node, parent = parent, parents[parent]
    return isinstance(parent, (ast.If, ast.While)) and parent.test is node


def _is_condition(node: ast.expr) -> bool:
    if isinstance(node, ast.BoolOp):
        return any(map(_is_condition, node.values))
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Not)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "bool"
    return isinstance(node, ast.Compare)


def _arithmetic_shapes(node: ast.BinOp) -> Iterator[str]:
    sides = (node.left, node.right)
    if isinstance(node.op, ast.Mult) and any(map(_is_text, sides)):
        yield "text-times"
    elif isinstance(node.op, (ast.Add, ast.Sub, ast.Mult)) and any(
        map(_is_condition, sides)
    ):
        yield "bool-sum"


def _is_text(node: ast.expr) -> bool:
    if isinstance(node, ast.JoinedStr):
        return True
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and len(node.value) > MAX_REPEATED
    )


def _comprehension_shapes(
    node: ast.AST, parents: dict[ast.AST, ast.AST]
) -> Iterator[str]:
    assert isinstance(node, COMPREHENSIONS)
    if len(node.generators) > 1:
        yield "two-loops"
    results = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
    has_call = any(
        isinstance(each, ast.Call) for result in results for each in ast.walk(result)
    )
    if has_call and node.generators[0].ifs:
        yield "sieve-and-call"
    if not isinstance(node, ast.DictComp) and isinstance(
        node.elt, (ast.BoolOp, ast.Compare)
    ):
        call = parents[node]
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id == "sum"
        ):
            yield "bool-sum"


def _assigns_several(node: ast.Assign) -> bool:
    target = node.targets[0]
    if not isinstance(target, ast.Tuple) or not isinstance(
        node.value, (ast.Tuple, ast.IfExp)
    ):
        return False
    if isinstance(node.value, ast.IfExp):
        # Two tables may be chosen from; two displays may not.
        return isinstance(node.value.body, ast.Tuple) or isinstance(
            node.value.orelse, ast.Tuple
        )
    names = {ast.unparse(each) for each in target.elts}
    values = {ast.unparse(each) for each in node.value.elts}
    return names != values and not all(
        isinstance(each, ast.Constant) for each in node.value.elts
    )


def _count_terms(test: ast.expr) -> int:
    if isinstance(test, ast.BoolOp):
        return sum(map(_count_terms, test.values))
    if isinstance(test, ast.UnaryOp):
        return _count_terms(test.operand)
    return 1


def room_of(path: Path) -> str:
    """Return the room of a file, whose path is relative to the package."""
    room, *inside = path.parts
    if room == "_core" and len(inside) > 1:
        return f"_core/{inside[0]}"
    return room


def measure_rooms(package: Path) -> dict[str, Room]:
    """Measure each room of a package, without its tests, and "all" of them together."""
    rooms: dict[str, Room] = collections.defaultdict(Room)
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        if {"tests", "_tests"} & set(name.parts):
            continue
        source = path.read_text(encoding="utf-8")
        tokens, statements = count_tokens(source)
        places = find_shapes(source)
        for room in {"all", name.parts[0], room_of(name)}:
            rooms[room].add(tokens, statements, places)
    return dict(rooms)


def exceeded(name: str, room: Room, bounds: dict[str, float]) -> Iterator[str]:
    """Yield what is too much in a room."""
    found = {
        "tokens": room.tokens,
        "statement": round(room.tokens_a_statement, 1),
        "shapes": room.shapes.total(),
    }
    for kind, number in found.items():
        bound = bounds.get(kind, 0)
        if number > bound:
            yield f"{name}: {kind} {number:g}, but {bound:g} are allowed"


def print_bounds(rooms: dict[str, Room]) -> None:
    """Print the figures of all rooms as a table of `pyproject.toml`."""
    print(
        "[tool.trioflow.size]  # tokens, tokens a statement, and dense shapes: at most"
    )
    for name, room in sorted(rooms.items()):
        print(
            f'"{name}" = {{ tokens = {room.tokens}, statement = {room.tokens_a_statement:.1f}, '
            f"shapes = {room.shapes.total()} }}"
        )


def print_places(package: Path, shape: str | None, below: str) -> None:
    """Print the places of a shape, or of all shapes, in the files below a path."""
    for path in sorted((package / below).rglob("*.py")):
        for place in sorted(
            find_shapes(path.read_text(encoding="utf-8")), key=lambda each: each.line
        ):
            if shape in (None, place.shape):
                print(f"{path}:{place.line}: {place.shape}: {SHAPES[place.shape]}")


def print_figures(folder: Path) -> None:
    """Print the figures of a package in a line."""
    everything = measure_rooms(folder)["all"]
    thousands = everything.statements / 1000
    shapes = ", ".join(
        f"{shape} {everything.shapes[shape] / thousands:.1f}" for shape in SHAPES
    )
    print(
        f"{folder.name}: {everything.tokens} tokens, {everything.statements} statements, "
        f"{everything.tokens_a_statement:.2f} tokens a statement; "
        f"in 1,000 statements {everything.shapes.total() / thousands:.1f} shapes: {shapes}"
    )


def main() -> int:
    """Do what the command line asks for; return 1 if a room is too large or too dense."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--print", action="store_true")
    parser.add_argument("--list", nargs="?", const="all", choices=["all", *SHAPES])
    parser.add_argument("--below", default=".")
    parser.add_argument("--measure", nargs="*", type=Path, default=())
    options = parser.parse_args()
    package = ROOT / "trioflow"
    for folder in options.measure:
        print_figures(folder)
    if options.measure:
        return 0
    if options.list:
        print_places(
            package, None if options.list == "all" else options.list, options.below
        )
        return 0
    rooms = measure_rooms(package)
    if options.print:
        print_bounds(rooms)
        return 0
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    bounds = tomllib.loads(text)["tool"]["trioflow"]["size"]
    problems: list[str] = []
    for name, room in rooms.items():
        problems += exceeded(name, room, bounds.get(name, {}))
    print(*problems, sep="\n", end="\n" if problems else "")
    everything = rooms["all"]
    figures = (
        f"{everything.tokens} tokens, {everything.tokens_a_statement:.2f} a statement"
    )
    print(f"{figures}; {everything.shapes.total()} shapes")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
