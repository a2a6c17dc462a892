"""All small faults that can be put into a file: each is one expression or statement, replaced in the source text."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

COMPARISONS: Final[dict[type[ast.cmpop], str]] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
OPERATORS: Final[dict[type[ast.operator], str]] = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "*",
    ast.BitAnd: "|", ast.BitOr: "&",
}  # fmt: skip
SHORT: Final = 9
"""Source text with fewer characters, such as `True` or a number, may occur in many lines of a file."""
NOT_FOR_TESTS: Final = ("__repr__", "__rich_repr__")
"""Functions whose exact words are for people."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault: `old`, which stands at `start` in the text of the file, becomes `new`."""

    path: str  # below the root of the project
    line: int
    start: int
    old: str
    new: str
    around: str = ""  # the line; if that is a short one, the line before it as well

    @property
    def name(self) -> str:
        """The identity of the mutant as long as its line is not changed, wherever the line is moved."""
        where = f", in {one_line(self.around)}" if len(self.old) < SHORT else ""
        return f"{self.path}: {one_line(self.old)} -> {one_line(self.new)}{where}"

    def put_into(self, root: Path) -> str:
        """Write the fault into a copy of the tree, and return the text that stood there."""
        file = root / self.path
        text = file.read_text(encoding="utf-8")
        if not text.startswith(self.old, self.start):
            raise ValueError(
                f"{file} has been changed: {self.old!r} does not stand at {self.start}"
            )
        write(file, text[: self.start] + self.new + text[self.start + len(self.old) :])
        return text


def write(file: Path, text: str) -> None:
    """Write a source file, and forget what was compiled of it: Python compares times in seconds, and sizes."""
    file.write_text(text, encoding="utf-8")
    for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
        compiled.unlink()


def one_line(text: str) -> str:
    """Return source text in one line, and not more than 90 characters of it."""
    text = " ".join(text.split())
    return text if len(text) <= 90 else f"{text[:87]}..."


def mutants_of(root: Path, file: Path) -> Iterator[Mutant]:
    text = file.read_text(encoding="utf-8")
    path = file.relative_to(root).as_posix()
    places, lines = Places(text), text.splitlines()
    found = set[Mutant]()
    for node, new in replacements(ast.parse(text)):
        start, end = places.of(node)
        line, before = (
            lines[node.lineno - 1].strip(),
            lines[max(0, node.lineno - 2)].strip(),
        )
        around = line if len(line) >= 2 * SHORT else f"{before} {line}"
        found.add(Mutant(path, node.lineno, start, text[start:end], new, around))
    yield from sorted(
        (one for one in found if one.old != one.new),
        key=lambda one: (one.start, one.new),
    )


class Places:
    """The positions of nodes in a text; `ast` counts columns in bytes."""

    def __init__(self, text: str) -> None:
        self._lines: Final = text.splitlines(keepends=True)
        self._starts: Final = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))

    def of(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._at(node.lineno, node.col_offset), self._at(
            node.end_lineno, node.end_col_offset
        )

    def _at(self, line: int, column: int) -> int:
        return self._starts[line - 1] + len(
            self._lines[line - 1].encode()[:column].decode()
        )


def replacements(tree: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """Yield each expression and statement that may be replaced, and by what. Types, decorators, docstrings, assertions,
    what is raised, and what is for people alone stay as they are."""
    match tree:
        case (
            ast.Assert()
            | ast.Raise()
            | ast.JoinedStr()
            | ast.Import()
            | ast.ImportFrom()
        ):
            return
        case ast.If(test=ast.Name("TYPE_CHECKING")):
            return
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            if name not in NOT_FOR_TESTS:
                for part in (
                    *tree.args.defaults,
                    *(one for one in tree.args.kw_defaults if one),
                    *tree.body,
                ):
                    yield from replacements(part)
            return
        case ast.ClassDef():
            for part in tree.body:
                yield from replacements(part)
            return
        case ast.AnnAssign(value=value):
            if value is not None:
                yield from replacements(value)
            return
        case ast.Expr(value=ast.Constant()):
            return
        case ast.Expr(value=ast.Call() | ast.Await() as call) if (
            "super()" not in ast.unparse(call)
        ):
            yield tree, "pass"
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            yield (
                tree,
                f"({ast.unparse(left)} {COMPARISONS[type(op)]} {ast.unparse(right)})",
            )
        case ast.BoolOp(op=op, values=values):
            other = " or " if isinstance(op, ast.And) else " and "
            yield tree, f"({other.join(f'({ast.unparse(value)})' for value in values)})"
            for left_out in values:
                kept = (" and " if isinstance(op, ast.And) else " or ").join(
                    f"({ast.unparse(value)})"
                    for value in values
                    if value is not left_out
                )
                yield tree, f"({kept})"
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield tree, f"bool({ast.unparse(operand)})"
        case ast.BinOp(left=left, op=op, right=right) if type(
            op
        ) in OPERATORS and not of_types(tree):
            yield (
                tree,
                f"({ast.unparse(left)} {OPERATORS[type(op)]} {ast.unparse(right)})",
            )
        case ast.Constant(value=bool() as value):
            yield tree, str(not value)
        case ast.Constant(value=int() | float() as value):
            yield tree, f"({value + 1!r})"
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test) if (
            not isinstance(test, ast.Constant)
        ):
            yield test, f"(not ({ast.unparse(test)}))"
        case ast.Return(value=ast.expr() as value) if not isinstance(
            value, ast.Constant
        ):
            yield tree, "return None"
        case ast.Break():
            yield tree, "continue"
        case ast.Continue():
            yield tree, "break"
        case _:
            pass
    for child in ast.iter_child_nodes(tree):
        yield from replacements(child)


def of_types(node: ast.BinOp) -> bool:
    """Return whether `|` joins types, as in `isinstance(x, int | str)`."""
    return isinstance(node.op, ast.BitOr) and all(
        isinstance(side, ast.Name | ast.Attribute | ast.Subscript | ast.BinOp)
        or (isinstance(side, ast.Constant) and side.value is None)
        for side in (node.left, node.right)
    )
