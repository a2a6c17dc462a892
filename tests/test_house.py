"""The house: where files are, what imports what, which classes are derived, and that helpers of tests exist once.

Import-linter checks the order of the rooms. What is here it cannot check. The code is read, not imported.
"""

from __future__ import annotations

import ast
import functools
import graphlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import pytest

from .places import PACKAGE, ROOT

TESTS = ROOT / "tests"
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef

LARGEST_IMPORT_SHARE = 0.12
"""Import lines among the lines of code; well-kept packages of the field have 2 to 6 %. Lower it with the figure."""

BASES_WITH_ONE_SUBCLASS = {
    "trioflow._core.run._workers.Workers": "runs that lend no slots pay nothing for it",
    "trioflow._core.run._lending.SlotsOfWindow": "the slots of a limiter are counted by the limiter",
    "trioflow._core.limits._ready_jobs.ReadyJobs": "the same object becomes the other at run time",
    "trioflow._core.limits._ready_jobs.RankedJobs": "the same object becomes the other at run time",
    "trioflow._core.backend.isolation._fast_asyncio.NamedTask": "the same object becomes the other at run time",
    "trioflow._core.scheduler._scheduler.BaseScheduler": "the engine's scheduler knows no views",
    "trioflow.compat.asynciojobs._running.Host": "only a job that has a shutdown of its own may be asked for it",
    "trioflow.jobs.command._job.CommandJob": "what runs ssh is ended in a way of its own",
    "trioflow.jobs.process._place.Elsewhere": "jobs stand below what knows clusters",
    "trioflow.jobs.process._place.Place": "jobs stand below what knows clusters",
    "trioflow.jobs.ssh._errors.SshError": "users catch the one or the other",
    "trioflow.journal._values._Writer": "only strings with lone surrogates need the slow one",
    "trioflow.compat.asynciojobs.purescheduler.PureScheduler": "a public name of its own",
    "trioflow.view.monitor._told.ToldJob": "a scheduler is a job",
}
"""Each base that may have just one subclass in the package, with the reason."""


READ_PRIVATE_PARTS = {
    "cli": "not yet by public names alone",
    "compat": "not yet by public names alone",
    "jobs": "not yet by public names alone",
}
"""The rooms that may read private attributes of the engine's objects, with the reason."""


def full_name(path: Path) -> str:
    """Return the full name of a module; a package's is called `p.__init__`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Return the syntax tree of each module of the package, by its full name."""
    return {full_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def inner_statements(outer: ast.AST, closed: Callable[[ast.AST], bool] = lambda _: False) -> Iterator[ast.stmt]:
    """Yield the statements inside of one, but not those inside of what is closed.

    It goes into no expression: nearly all of a tree consists of these.
    """
    for part in ("body", "handlers", "orelse", "finalbody", "cases"):
        for node in getattr(outer, part, ()):
            if isinstance(node, ast.stmt):
                yield node
            if not closed(node):
                yield from inner_statements(node, closed)


# ---------------------------------------------------------------- files


def test_no_three_files_of_a_folder_share_a_prefix() -> None:
    """What `_trace_table`, `_trace_json` and `_trace_report` would be is a folder, `trace`; so it is with tests."""
    prefixes = Counter(
        (str(path.parent.relative_to(ROOT)), prefix)
        for path in [*PACKAGE.rglob("*.py"), *TESTS.rglob("*.py")]
        for prefix, underscore, _ in [path.stem.strip("_").removeprefix("test_").partition("_")]
        if underscore
    )
    assert [f"{folder}/{prefix}_*" for (folder, prefix), number in prefixes.items() if number >= 3] == []


# ---------------------------------------------------------------- imports


def is_for_types(node: ast.AST) -> bool:
    """Return whether this is `if TYPE_CHECKING:`, under any name of its module."""
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imported(module: str, node: ast.stmt) -> Iterator[tuple[str, str]]:
    """Yield what an import statement imports: the local name, and the full name that it stands for."""
    if isinstance(node, ast.Import):
        yield from ((one.asname or one.name, one.name) for one in node.names)
    elif isinstance(node, ast.ImportFrom):
        package = module.split(".")[: -node.level] if node.level else []
        source = ".".join([*package, *([node.module] if node.module else [])])
        yield from ((one.asname or one.name, f"{source}.{one.name}") for one in node.names)


def owner(name: str) -> str | None:
    """Return the module of the package that this full name is, or is in."""
    parents = [name, name.rpartition(".")[0]]
    candidates = [candidate for parent in parents for candidate in (parent, f"{parent}.__init__")]
    return next((one for one in candidates if one in modules()), None)


def test_no_modules_import_each_other_in_a_cycle() -> None:
    """When modules are imported there is an order in which each finds complete what it imports."""
    graph: dict[str, set[str]] = {}
    for module, tree in modules().items():
        at_import = inner_statements(tree, lambda node: isinstance(node, FUNCTION) or is_for_types(node))
        names = (full for node in at_import for _, full in imported(module, node))
        graph[module] = {found for name in names if (found := owner(name)) is not None} - {module}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"these import each other: {' <- '.join(error.args[1])}")


def code_lines(path: Path) -> int:
    """Return how many lines hold code: no blank lines, no comments, no docstrings."""
    text = path.read_text(encoding="utf-8")
    held = {n for n, line in enumerate(text.splitlines(), 1) if line.strip() and not line.lstrip().startswith("#")}
    for node in inner_statements(modules()[full_name(path)]):
        if is_docstring(node):
            held.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(held)


def is_docstring(node: ast.stmt) -> bool:
    """Return whether a statement is a string that nobody uses."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def import_lines(tree: ast.Module) -> int:
    """Return how many lines import statements take, those for types included."""
    return sum(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for node in inner_statements(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    )


def test_imports_are_a_small_part_of_the_code() -> None:
    """Many small files that import each other cost lines and readers; `pytest -s` prints the share."""
    imports = sum(map(import_lines, modules().values()))
    code = sum(map(code_lines, PACKAGE.rglob("*.py")))
    print(f"\n{imports} import lines in {code} lines of code: {imports / code:.1%}")
    assert imports / code <= LARGEST_IMPORT_SHARE


# ---------------------------------------------------------------- classes


def derived() -> dict[str, set[str]]:
    """Return the subclasses of each class of the package that has some, all by their full names.

    Typed dicts are left out: they have no behaviour, and one may add keys to another.
    """
    own = {
        f"{module}.{node.name}"
        for module, tree in modules().items()
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and not any(ast.unparse(base) == "TypedDict" for base in node.bases)
        and not any(keyword.arg == "total" for keyword in node.keywords)
    }
    imports = {
        module: dict(pair for node in inner_statements(tree) for pair in imported(module, node))
        for module, tree in modules().items()
    }
    found: dict[str, set[str]] = defaultdict(set)
    for module, tree in modules().items():
        for node in inner_statements(tree):
            for base in node.bases if isinstance(node, ast.ClassDef) else ():
                name = ast.unparse(base).split("[")[0]
                full = imports[module].get(name, f"{module}.{name}")
                if full.startswith("trioflow._core.door."):  # which passes it on
                    full = imports[cast(str, owner(full))][full.rpartition(".")[2]]
                if full in own:
                    found[full].add(f"{module}.{node.name}")
    return found


def test_no_base_has_a_single_subclass() -> None:
    """A base class is for several kinds of a thing; with one it is that thing cut in two. Exceptions have reasons."""
    lone = {base: min(below) for base, below in derived().items() if len(below) == 1}
    assert lone.keys() == BASES_WITH_ONE_SUBCLASS.keys(), lone


# ---------------------------------------------------------------- private parts


def private_names(tree: ast.Module) -> Iterator[str]:
    """Yield the private attributes and methods that the classes of a module have."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from (one.name for one in node.body if isinstance(one, FUNCTION))
            yield from (ast.unparse(one.target) for one in node.body if isinstance(one, ast.AnnAssign))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            yield node.attr


def of_others(tree: ast.Module, names: set[str]) -> Iterator[ast.Attribute]:
    """Yield where a module reads one of these attributes of something else than `self`, its class or its base."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and node.attr in names
            and ast.unparse(node.value) not in ("self", "cls", "super()")
        ):
            yield node


def test_private_parts_of_the_engine_are_read_by_nobody_else() -> None:
    """Outside of the engine, its objects are asked by public names, and by the functions of its door."""
    engine = {module for module in modules() if module.startswith("trioflow._core.")}
    names = {name for module in engine for name in private_names(modules()[module]) if name.startswith("_")}
    names = {name for name in names if not name.startswith("__")}
    found: dict[str, list[str]] = defaultdict(list)
    for module, tree in modules().items():
        name = module.removeprefix("trioflow.")
        room = next((room for room in READ_PRIVATE_PARTS if f"{name}.".startswith(f"{room}.")), None)
        for node in of_others(tree, names) if module not in engine else ():
            found[room or ""].append(f"{module}:{node.lineno} {ast.unparse(node)}")
    assert found.pop("", []) == []
    assert found.keys() == READ_PRIVATE_PARTS.keys(), "take those that read none any more out of the list"


# ---------------------------------------------------------------- tests


class Found(NamedTuple):
    """A test, as far as it is read."""

    name: str
    has_docstring: bool
    answering: set[str]  # its own functions that return something
    dropped: list[str]  # the functions that it calls or runs without a look at what they return


@dataclass(frozen=True, slots=True)
class ModuleOfTests:
    """What is to be known of a module of tests; its syntax tree would slow down the collector for all other tests."""

    imports: dict[str, str]  # local names, and the full names that they stand for
    helpers: dict[str, str]  # functions and classes that are not tests: name, and what it consists of
    telling: set[str]  # those that say how something went
    tests: list[Found]


@functools.cache
def modules_of_tests() -> dict[str, ModuleOfTests]:
    """Return the modules of tests by name, without those that are only type-checked."""
    found: dict[str, ModuleOfTests] = {}
    for path in sorted(TESTS.rglob("*.py")):
        if TESTS / "typing" not in path.parents:
            text = path.read_text(encoding="utf-8")
            lines, tree = text.splitlines(), ast.parse(text)
            body = tree.body
            found[full_name(path)] = ModuleOfTests(
                {local: full for node in body for local, full in imported(full_name(path), node)},
                {node.name: words(node, lines) for node in body if is_helper(node)},
                {node.name for node in body if isinstance(node, FUNCTION) and is_helper(node) and tells(node)},
                [
                    Found(node.name, bool(ast.get_docstring(node)), answering(node), list(dropped(node)))
                    for node in inner_statements(tree)
                    if isinstance(node, FUNCTION) and node.name.startswith("test_")
                ],
            )
    return found


def is_helper(node: ast.stmt) -> bool:
    """Return whether a statement defines a function or a class that is not a test."""
    return isinstance(node, FUNCTION | ast.ClassDef) and not node.name.lower().startswith("test")


def words(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, lines: list[str]) -> str:
    """Return what a helper consists of: its first line, and its body without a docstring."""
    body = node.body[is_docstring(node.body[0]) :]
    inside = lines[body[0].lineno - 1 : node.end_lineno] if body else []
    return " ".join([lines[node.lineno - 1], *inside])


def test_each_helper_of_tests_exists_once() -> None:
    """No two test files define the same function or class; what several need is in a file that is not a test."""
    places: dict[str, list[str]] = defaultdict(list)
    for name, module in modules_of_tests().items():
        for helper, text in module.helpers.items():
            places[text].append(f"{name}.{helper}")
    assert [found for found in places.values() if len(found) > 1] == []


def test_no_test_file_imports_from_another() -> None:
    """A test module is there to be run; what others need of it has a file of its own."""
    assert [
        f"{name} imports {full}"
        for name, module in modules_of_tests().items()
        for full in module.imports.values()
        if any(part.startswith("test_") for part in full.split("."))
    ] == []


RUNNERS = ("virtual", "run_virtual", "natively", "trio.run", "anyio.run", "asyncio.run")
"""What runs a function in tests, and returns its value."""
TELLING = ("bool", "int", "float", "str", "bytes", "list", "dict", "tuple", "set", "Counter")
"""Types of what a helper of tests says about what it has done. Others are objects that a test may look at later."""
MAY_RAISE = ("raises", "warns", "suppress")


def tells(helper: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a helper says how something went."""
    return helper.returns is not None and ast.unparse(helper.returns).partition("[")[0] in TELLING


def is_for_errors(node: ast.AST) -> bool:
    """Return whether a statement is there for what is raised inside."""
    return isinstance(node, ast.With) and any(word in ast.unparse(one) for one in node.items for word in MAY_RAISE)


def is_scope(node: ast.AST) -> bool:
    """Return whether what stands inside belongs to another function."""
    return isinstance(node, FUNCTION | ast.ClassDef)


def answers(function: ast.AST) -> bool:
    """Return whether a function returns a value somewhere."""
    own = inner_statements(function, is_scope)
    return any(isinstance(node, ast.Return) and node.value is not None for node in own)


def answering(test: ast.AST) -> set[str]:
    """Return the functions inside of a test that return something."""
    return {node.name for node in inner_statements(test) if isinstance(node, FUNCTION) and answers(node)}


def dropped(test: ast.AST) -> Iterator[str]:
    """Yield the functions that a test calls or runs without a look at what they return.

    Under `with pytest.raises(...)`, the call is there to raise.
    """
    for node in inner_statements(test, is_for_errors):
        if isinstance(node, ast.Expr):
            call = node.value.value if isinstance(node.value, ast.Await) else node.value
            if isinstance(call, ast.Call):
                function = ast.unparse(call.func)
                yield from map(ast.unparse, call.args[:1]) if function in RUNNERS else (function,)


def test_what_a_test_drops_is_found() -> None:
    """What it runs itself or by a runner counts, as long as it is not there to raise."""
    test = ast.parse(
        """
        async def main(): return await levels()
        virtual(main)
        virtual(levels, 3)
        await levels()
        assert virtual(main) == levels()
        scheduler.run()
        with pytest.raises(ValueError): levels()
        with open(path): levels()
    """.replace("\n        ", "\n")
    )
    assert answering(test) == {"main"}
    assert sorted(dropped(test)) == ["levels", "levels", "levels", "main", "scheduler.run"]


def telling_in(module: str) -> set[str]:
    """Return the names of helpers in a module of tests, its own and imported ones, that say how something went."""
    modules = modules_of_tests()
    full = {f"{name}.{helper}" for name, other in modules.items() for helper in other.telling}
    return modules[module].telling | {
        local for local, stands_for in modules[module].imports.items() if stands_for in full
    }


def test_each_test_says_which_law_it_checks() -> None:
    """A sentence says more than a name: what holds, and often why."""
    assert [
        f"{name}: {test.name}"
        for name, module in modules_of_tests().items()
        for test in module.tests
        if not test.has_docstring
    ] == []


def test_each_test_looks_at_what_its_functions_return() -> None:
    """What a function in a test returns is to be compared, and a helper's bool, number or list says how it went."""
    assert [
        f"{name}: {test.name} drops what {function} returns"
        for name, module in modules_of_tests().items()
        for telling in [telling_in(name)]
        for test in module.tests
        for function in test.dropped
        if function in test.answering | telling
    ] == []
