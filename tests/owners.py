"""Which class an attribute belongs to, read from annotations: `tests/test_structure.py` checks private attributes."""

import ast
import functools
import gc
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from .places import PACKAGE, ROOT

FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
TRANSPARENT = ("Final", "ClassVar", "type", "Type")
"""What stands around the type in an annotation."""


def full_name(path: Path) -> str:
    """Return the full name of a module; a package's is called `p.__init__`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Return the syntax tree of each module of the package, by its full name, hidden from the collector."""
    gc.disable()  # to go through a million nodes takes a second
    try:
        return {full_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
    finally:
        gc.freeze()
        gc.enable()


def inner_statements(outer: ast.AST, closed: Callable[[ast.AST], bool] = lambda _: False) -> Iterator[ast.stmt]:
    """Yield the statements inside of one, but not those inside of what is closed. It goes into no expression: nearly
    all of a tree consists of these."""
    for part in ("body", "handlers", "orelse", "finalbody", "cases"):
        for node in getattr(outer, part, ()):
            if isinstance(node, ast.stmt):
                yield node
            if not closed(node):
                yield from inner_statements(node, closed)


def imported(module: str, node: ast.stmt) -> Iterator[tuple[str, str]]:
    """Yield what an import statement imports: the local name, and the full name that it stands for."""
    if isinstance(node, ast.Import):
        yield from ((alias.asname or alias.name, alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        package = module.split(".")[: -node.level] if node.level else []
        source = ".".join([*package, *([node.module] if node.module else [])])
        yield from ((alias.asname or alias.name, f"{source}.{alias.name}") for alias in node.names)


def owner(name: str) -> str | None:
    """Return the module of the package that this full name is, or is in."""
    parents = [name, name.rpartition(".")[0]]
    candidates = [candidate for parent in parents for candidate in (parent, f"{parent}.__init__")]
    return next((candidate for candidate in candidates if candidate in modules()), None)


@functools.cache
def imports_of(module: str) -> dict[str, str]:
    """Return the names that a module imports anywhere, with the full names that they stand for."""
    return dict(pair for node in inner_statements(modules()[module]) for pair in imported(module, node))


class Class(NamedTuple):
    module: str
    node: ast.ClassDef


@functools.cache
def classes() -> dict[str, Class]:
    return {
        f"{module.removesuffix('.__init__')}.{node.name}": Class(module, node)
        for module, tree in modules().items()
        for node in inner_statements(tree)
        if isinstance(node, ast.ClassDef)
    }


@functools.cache
def resolved(module: str, name: str) -> str | None:
    """Return the full name of what a name stands for in a module, through all that pass it on; None if it is local."""
    if (own := f"{module.removesuffix('.__init__')}.{name}") in classes():
        return own
    first, _, rest = name.partition(".")
    full = imports_of(module).get(first)
    if full is None:
        return None
    full = f"{full}.{rest}" if rest else full
    source = owner(full)
    if full in classes() or source is None or source == module:
        return full
    return resolved(source, full.removeprefix(f"{source.removesuffix('.__init__')}."))


def of_annotation(module: str, annotation: ast.expr) -> str | None:
    words = re.findall(r"[A-Za-z_][\w.]*", ast.unparse(annotation))
    return next((resolved(module, word) for word in words if word not in TRANSPARENT), None)


@functools.cache
def bases(name: str) -> tuple[str, ...]:
    """Return a class of the package with those that it derives from, nearest first."""
    found = [name]
    for known in found:  # it grows
        if known in classes():
            module, node = classes()[known]
            above = (resolved(module, ast.unparse(base).partition("[")[0]) for base in node.bases)
            found += [base for base in above if base is not None and base not in found]
    return tuple(known for known in found if known in classes())


@functools.cache
def private_parts(name: str) -> frozenset[str]:
    """Return the private attributes and methods that a class of the package itself defines or sets."""
    found: set[str] = set()
    for node in inner_statements(classes()[name].node):
        if isinstance(node, FUNCTION):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                parts = target.elts if isinstance(target, ast.Tuple) else [target]
                found |= {ast.unparse(part).removeprefix("self.") for part in parts}
    return frozenset(part for part in found if re.fullmatch("_[a-z]\\w*", part))


@functools.cache
def engine_parts() -> frozenset[str]:
    return frozenset().union(*(private_parts(name) for name in classes() if name.startswith("trioflow._core.")))


class Reads(ast.NodeVisitor):
    """Finds where a module reads private parts of objects of the engine, or of objects that it does not tell apart."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.found: list[str] = []
        self._class = ""
        self._types: dict[str, str | None] = {}  # of the names that the function knows

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        outer, self._class = self._class, resolved(self.module, node.name) or ""
        self.generic_visit(node)
        self._class = outer

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        outer, self._types = self._types, {**self._types, **local_types(self.module, self._class, node)}
        self.generic_visit(node)
        self._types = outer

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        if node.attr in engine_parts() and is_of_engine(self._type(node.value), node.attr):
            self.found.append(f"{self.module}:{node.lineno} {ast.unparse(node)}")

    def _type(self, node: ast.expr) -> str | None:
        return type_of(self.module, self._class, self._types, node)


def is_of_engine(name: str | None, part: str) -> bool:
    """Return whether the private part of an object of this class is the engine's; it is if the class is not known."""
    if name is None:
        return True
    mine = next((base for base in bases(name) if part in private_parts(base)), None)
    return any(base.startswith("trioflow._core.") for base in ([mine] if mine else bases(name)))


def of_arguments(module: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, str | None]:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return {one.arg: one.annotation and of_annotation(module, one.annotation) for one in arguments}


def local_types(module: str, own: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, str | None]:
    found = of_arguments(module, function)
    if own:
        found |= {name: own for name in ("self", "cls") if name in found}
    for node in inner_statements(function):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = of_annotation(module, node.annotation)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = type_of(module, own, found, node.value)
        elif isinstance(node, ast.Assert) and (
            match := re.match(r"isinstance\((\w+), (\w+)\)", ast.unparse(node.test))
        ):
            found[match[1]] = resolved(module, match[2])
    return found


def type_of(module: str, own: str, types: dict[str, str | None], node: ast.expr) -> str | None:
    """Return the full name of the class of an expression, or of the module that it is; None if neither is said."""
    if isinstance(node, ast.Name):
        return types[node.id] if node.id in types else resolved(module, node.id)
    if isinstance(node, ast.Attribute):
        inside = type_of(module, own, types, node.value)
        return None if inside is None else type_of_attribute(inside, node.attr)
    if isinstance(node, ast.Call):
        return own if ast.unparse(node.func) == "super" else type_of(module, own, types, node.func)
    return None


@functools.cache
def type_of_attribute(name: str, attribute: str) -> str | None:
    """Return the class of an attribute or of what a method returns, as a class or one of its bases says."""
    for base in bases(name):
        if attribute in (said := attribute_types(base)):
            return said[attribute]
    return None if name in classes() else f"{name}.{attribute}"


@functools.cache
def attribute_types(name: str) -> dict[str, str | None]:
    """Return the types of the attributes of a class, and of what its properties and methods return."""
    module, node = classes()[name]
    found: dict[str, str | None] = {}
    for inner in inner_statements(node, lambda inner: isinstance(inner, FUNCTION)):
        if isinstance(inner, ast.AnnAssign):
            found[ast.unparse(inner.target)] = of_annotation(module, inner.annotation)
        elif isinstance(inner, FUNCTION):
            found[inner.name] = of_annotation(module, inner.returns) if inner.returns else None
            for line in inner_statements(inner):
                if isinstance(line, ast.Assign | ast.AnnAssign):
                    target = ast.unparse(line.targets[0] if isinstance(line, ast.Assign) else line.target)
                    said = of_annotation(module, line.annotation) if isinstance(line, ast.AnnAssign) else None
                    if said is None and isinstance(line.value, ast.Name):
                        said = of_arguments(module, inner).get(line.value.id)
                    elif said is None and isinstance(line.value, ast.Call):
                        said = resolved(module, ast.unparse(line.value.func))
                    if target.startswith("self.") and said is not None:
                        found.setdefault(target.removeprefix("self."), said)
    return found
