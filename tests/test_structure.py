"""The structure of the repository: places of files, imports, access to private parts, and unique test helpers.

Import-linter checks the order of the rooms; this file checks the rest. The code is parsed, not imported."""

import ast
import functools
import graphlib
import importlib.util
import itertools
import re
import sys
import types
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
import pytest
from . import conftest
from .places import PACKAGE, ROOT
from .trees import full_name, modules, parts_with, sources, text_of

TESTS = ROOT / "tests"


# ---------------------------------------------------------------- files
def test_no_three_files_of_a_folder_share_a_prefix() -> None:
    """Files such as `_trace_table`, `_trace_json` and `_trace_report` belong in a folder `trace`, in tests as well."""
    prefixes = Counter(
        (str(path.parent.relative_to(ROOT)), prefix)
        for path in [*PACKAGE.rglob("*.py"), *TESTS.rglob("*.py")]
        for prefix, underscore, _ in [
            path.stem.strip("_").removeprefix("test_").partition("_")
        ]
        if underscore
    )
    found = [
        f"{folder}/{prefix}_*"
        for (folder, prefix), number in prefixes.items()
        if number >= 3
    ]
    assert not found, f"put each of these groups into a folder of its name: {found}"


DESIGN = ROOT / "docs/design.md"


def in_the_tree() -> dict[str, str]:
    """Return the folders in the tree of the design, each with its description."""
    tree = re.search(
        r"^```text\n(trioflow/.*?)^```",
        DESIGN.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    assert tree is not None
    found: dict[str, str] = {}
    path: list[str] = []
    for indent, folder, description in re.findall(
        r"^((?:  )*)(\w+)/ *(.*)$", tree[1], re.MULTILINE
    ):
        path[len(indent) // 2 :] = [folder]
        found["/".join(path)] = description
    return found


def test_the_tree_on_the_design_page_has_each_folder_and_no_other() -> None:
    there = {path.parent.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py")}
    told = set(in_the_tree())
    assert told == there, (
        f"take out {sorted(told - there)}, put in {sorted(there - told)}"
    )


def test_a_description_in_the_tree_names_modules_of_its_folder() -> None:
    """A private module in backticks beside a folder in `docs/design.md` is in that folder."""
    named = {
        (folder, name)
        for folder, text in in_the_tree().items()
        for name in re.findall(r"`(_\w+)`", text)
    }
    there = {
        (path.parent.relative_to(ROOT).as_posix(), path.stem)
        for path in PACKAGE.rglob("*.py")
    }
    assert named
    assert named <= there, sorted(named - there)


@pytest.mark.parametrize("page", ["docs/design.md", "CONTRIBUTING.md"])
def test_paths_in_pages_for_contributors_exist(page: str) -> None:
    there = {
        "trioflow/" + module.removeprefix("trioflow.").replace(".", "/")
        for module in sources()
    }
    there |= {parent.as_posix() for path in there for parent in Path(path).parents}
    named = set(
        re.findall(r"`([\w.]+/[\w./]*)`", (ROOT / page).read_text(encoding="utf-8"))
    )
    for name in named - {"dist/"}:  # a release makes it
        path = name.rstrip("/").removesuffix(".py")
        assert (ROOT / name).exists() or any(
            f"/{known}".endswith(f"/{path}") for known in there
        ), f"{page} names {name}, which does not exist"


# ---------------------------------------------------------------- imports
def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def test_each_decision_is_named_by_a_module_that_follows_it() -> None:
    """Only the decision about dependencies has no module. A name in the first lines of a module is that of a record."""
    named = {
        name
        for path in PACKAGE.rglob("*.py")
        for names in re.findall(
            r"^Decided in docs/decisions: (.+)\.$",
            path.read_text(encoding="utf-8"),
            re.MULTILINE,
        )
        for name in names.split(", ")
    }
    records = {
        path.stem for path in (PACKAGE.parent / "docs/decisions").glob("[0-9]*.md")
    }
    unnamed = records - named - {"43-dependencies"}
    assert not unnamed, f"no module says that it follows these decisions: {unnamed}"
    assert named <= records, (
        f"modules name decisions that no record tells: {named - records}"
    )


def test_no_modules_import_each_other_in_a_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for module, tree in modules().items():
        at_import = inner_statements(
            tree, lambda node: isinstance(node, FUNCTION) or is_for_types(node)
        )
        names = (full for node in at_import for _, full in imported(module, node))
        graph[module] = {
            found for name in names if (found := owner(name)) is not None
        } - {module}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"these import each other: {' <- '.join(error.args[1])}")


def is_docstring(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


# ---------------------------------------------------------------- private parts
def test_private_parts_of_the_engine_are_read_only_in_the_engine() -> None:
    """Code outside the engine uses public names of its objects, and its functions."""
    found: list[str] = []
    for module, tree in modules().items():
        if not module.startswith("trioflow._core."):
            reads = Reads(module, sources()[module])
            reads.visit(tree)
            found += reads.found
    assert not found, (
        f"outside the engine, take public names or functions of it: {found}"
    )


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (
            "def f(self, job: AbstractJob[Any]): return job._successors, job._worker",
            ["_successors", "_worker"],
        ),
        ("def f(self, job): return job._worker", ["_worker"]),
        ("def f(self): return self._worker", ["_worker"]),
        (
            "def f(self, run: _process_run.ProcessRun): return run._run, run._job._worker",
            ["_worker"],
        ),
        ("def f(self): return self._process, signal._worker", []),
    ],
)
def test_a_private_part_is_matched_by_its_owner(
    function: str, found: list[str]
) -> None:
    """Another class may have a private name like the engine's; that of an unknown class counts as the engine's."""
    text = f"class CommandJob:\n    {function}"
    reads = Reads("trioflow.jobs.command._command_job", text)
    reads.visit(ast.parse(text))
    assert [read.rpartition(".")[2] for read in reads.found] == found


# ---------------------------------------------------------------- tests
class Block(NamedTuple):
    """A function or class at the top of a module of tests.

    What matters is found in its text, and only then parsed: to parse all tests takes seconds.
    """

    module: str
    name: str
    text: str

    @property
    def is_test(self) -> bool:
        return self.name.lower().startswith("test")

    def nodes(self) -> list[Any]:
        """Return its syntax tree, as the only one; none if it stands in a string."""
        try:
            return ast.parse(self.text).body
        except SyntaxError:  # a string in it has lines without an indent
            return named(self.module, self.name)


@functools.cache
def texts_of_tests() -> dict[str, str]:
    """Return the texts of the modules of tests by name, without those that are only type-checked."""
    return {
        full_name(path): path.read_text(encoding="utf-8")
        for path in sorted(TESTS.rglob("*.py"))
        if TESTS / "typing" not in path.parents
    }


def named(module: str, name: str) -> list[Any]:
    """Return the syntax trees of what has a name at the top of a module of tests."""
    body = ast.parse(texts_of_tests()[module]).body
    return [node for node in body if getattr(node, "name", "") == name]


BLOCK = re.compile(
    r"^(?:async def|def|class) (\w+).*\n(?:(?:[ )].*)?\n)*", re.MULTILINE
)
IMPORT = re.compile(
    r"^(?:from [\w.]+ import (?:\([^)]*\)|[\w, ]+)|import [\w., ]+)", re.MULTILINE
)


@functools.cache
def blocks_of(module: str) -> list[Block]:
    found = BLOCK.finditer(texts_of_tests()[module])
    return [Block(module, block[1], block[0]) for block in found]


def blocks() -> Iterator[Block]:
    """Yield the functions and classes at the top of all modules of tests."""
    return itertools.chain.from_iterable(map(blocks_of, texts_of_tests()))


@functools.cache
def imports_of_tests(module: str) -> dict[str, str]:
    """Return the names that a module of tests imports at its top, with the full names that they stand for."""
    statements = "\n".join(IMPORT.findall(texts_of_tests()[module]))
    body = ast.parse(statements).body
    return dict(pair for node in body for pair in imported(module, node))


def content(helper: Block) -> str:
    """Return the first line of a helper, and its body without a docstring."""
    nodes = helper.nodes()
    if not nodes:
        return helper.text
    body = nodes[0].body
    rest = body[is_docstring(body[0]) :]
    return "\n".join([helper.text.partition("\n")[0], *map(ast.unparse, rest)])


def test_each_helper_of_tests_exists_once() -> None:
    """A function or class that several test files need exists once, in a file that is not a test."""
    similar: dict[tuple[str, str], list[Block]] = defaultdict(list)
    for block in blocks():
        lines = block.text.rstrip().splitlines()
        if not block.is_test:
            similar[lines[0], lines[-1]].append(block)
    places: dict[str, set[str]] = defaultdict(set)
    for block in itertools.chain(*(found for found in similar.values() if found[1:])):
        places[content(block)].add(f"{block.module}.{block.name}")
    found = [names for names in places.values() if len(names) > 1]
    for names in found:  # parts of programs in strings are none
        names &= {name for name in names if named(*name.rsplit(".", 1))}
    found = [names for names in found if len(names) > 1]
    assert not found, f"the same code, to be imported from one helper file: {found}"


def test_no_test_file_imports_from_another() -> None:
    found = [
        f"{module} imports {full}"
        for module in texts_of_tests()
        for full in imports_of_tests(module).values()
        if any(part.startswith("test_") for part in full.split("."))
    ]
    assert not found, f"move what several test files need into a helper file: {found}"


def test_one_report_of_a_passed_test_goes_between_processes(
    pytestconfig: pytest.Config,
) -> None:
    """What `tests/conftest.py` does in place of pytest comes before what pytest does, after which no other is asked."""
    ways = pytestconfig.hook.pytest_runtest_protocol.get_hookimpls()
    *_, first = (way for way in ways if not (way.wrapper or way.hookwrapper))
    assert Path(first.function.__code__.co_filename) == TESTS / "conftest.py"


RUNNERS = ("virtual", "run_virtual", "natively", "trio.run", "anyio.run", "asyncio.run")
"""What runs a function in tests, and returns its value."""
TELLING = (
    "bool",
    "int",
    "float",
    "str",
    "bytes",
    "list",
    "dict",
    "tuple",
    "set",
    "Counter",
)
"""Types of what a helper of tests says about what it has done. Others are objects that a test may look at later."""
MAY_RAISE = ("raises", "warns", "suppress")


def tells(helper: Block) -> bool:
    head = helper.text.partition(":\n")[0]
    return head.rpartition(" -> ")[2].partition("[")[0] in TELLING


def is_for_errors(node: ast.AST) -> bool:
    return isinstance(node, ast.With) and any(
        word in ast.unparse(one) for one in node.items for word in MAY_RAISE
    )


def is_scope(node: ast.AST) -> bool:
    """Return whether what stands inside belongs to another function."""
    return isinstance(node, FUNCTION | ast.ClassDef)


def answers(function: ast.AST) -> bool:
    own = inner_statements(function, is_scope)
    return any(isinstance(node, ast.Return) and node.value is not None for node in own)


def answering(test: ast.AST) -> set[str]:
    """Return the functions inside of a test that return something."""
    return {
        node.name
        for node in inner_statements(test)
        if isinstance(node, FUNCTION) and answers(node)
    }


def dropped(test: ast.AST) -> Iterator[str]:
    """Yield the functions that a test calls or runs without a look at what they return. Under `with
    pytest.raises(...)`, the call is there to raise."""
    for node in inner_statements(test, is_for_errors):
        if isinstance(node, ast.Expr):
            call = node.value.value if isinstance(node.value, ast.Await) else node.value
            if isinstance(call, ast.Call):
                function = ast.unparse(call.func)
                yield from (
                    map(ast.unparse, call.args[:1])
                    if function in RUNNERS
                    else (function,)
                )


def test_calls_whose_return_value_a_test_ignores_are_found() -> None:
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
    assert sorted(dropped(test)) == [
        "levels",
        "levels",
        "levels",
        "main",
        "scheduler.run",
    ]


@functools.cache
def telling() -> set[str]:
    """Return the full names of the helpers that report an outcome."""
    return {
        f"{block.module}.{block.name}"
        for block in blocks()
        if not block.is_test and tells(block)
    }


@functools.cache
def telling_in(module: str) -> set[str]:
    """Return the names of helpers in a module of tests, its own and imported ones, that report an outcome."""
    own = {block.name: f"{module}.{block.name}" for block in blocks_of(module)}
    names = own | imports_of_tests(module)
    return {name for name, full in names.items() if full in telling()}


STATEMENT = re.compile(
    rf"^ +(?:await )?(?:(?:{'|'.join(RUNNERS)})\(\s*)?([\w.]+)", re.MULTILINE
)
"""A line that may drop what a function returns, which it calls or runs."""


def may_drop(test: Block) -> bool:
    names = telling_in(test.module)
    if re.search(r"^ {8,}return \S", test.text, re.MULTILINE):
        names = names.union(re.findall(r"^ +(?:async )?def (\w+)", test.text, re.M))
    return not names.isdisjoint(STATEMENT.findall(test.text))


def test_no_test_ignores_what_its_functions_return() -> None:
    """A return value of a function in a test has to be compared, and so has a helper's bool, number or list."""
    found = [
        f"{block.module}: {block.name} drops what {function} returns"
        for block in blocks()
        if block.is_test and may_drop(block)
        for test in block.nodes()
        for function in dropped(test)
        if function in answering(test) | telling_in(block.module)
    ]
    assert not found, f"compare the return value, which may tell of a fault: {found}"


def test_a_room_that_is_larger_or_denser_than_its_bounds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check counts tokens, statements and dense shapes, wherever the formatter breaks a line."""
    check = load_density_check()
    monkeypatch.setattr(check, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["check_density.py"])
    (tmp_path / "trioflow" / "room").mkdir(parents=True)
    module = tmp_path / "trioflow" / "room" / "one.py"
    plain = '"""Text."""\n\n# why\nx = f(1, 2)\n\n\ndef f():\n    """Do."""\n    a, b = f(), x\n'
    broken = plain.replace("f(1, 2)", "f(\n    1,\n    2,\n)")
    figures = "22 tokens, 7.33 a statement; 1 shapes\n"
    cases = [
        ((22, 7.3, 1), 0, ""),
        ((21, 7.3, 1), 1, "room: tokens 22, but 21 are allowed\n"),
        ((22, 7.2, 1), 1, "room: statement 7.3, but 7.2 are allowed\n"),
        ((22, 7.3, 0), 1, "room: shapes 1, but 0 are allowed\n"),
    ]
    ample = "{ tokens = 99, statement = 99, shapes = 99 }"
    for text in (plain, broken):
        module.write_text(text)
        for (tokens, statement, shapes), status, told in cases:
            bound = (
                f"{{ tokens = {tokens}, statement = {statement}, shapes = {shapes} }}"
            )
            (tmp_path / "pyproject.toml").write_text(
                f"[tool.trioflow.size]\nall = {ample}\nroom = {bound}\n"
            )
            assert check.main() == status
            assert capsys.readouterr().out == told + figures
    (tmp_path / "pyproject.toml").write_text(
        "[tool.trioflow.size]\nall = { tokens = 99, statement = 99, shapes = 9 }\n"
    )
    assert check.main() == 1, "a new room has no bounds yet"


@pytest.mark.parametrize(
    ("shape", "dense", "plain"),
    [
        ("long-branch", "x = f(y) if z else y", "x = a if z else y"),
        ("nested", "x = a if b else c if d else e", "x = a if b else c"),
        ("walrus", "if a and (x := f()): pass", "if (x := f()): pass"),
        ("bool-sum", "x += a is b", "x += a"),
        ("text-times", "x = 'text' * y", "x = '  ' * y"),
        ("two-loops", "x = [b for a in y for b in a]", "x = [b for b in y]"),
        ("sieve-and-call", "x = [f(a) for a in y if a]", "x = [a for a in y if a]"),
        ("several", "a, b = x, y", "a, b = b, a"),
        ("long-test", "if a and b and c and d: pass", "if a and b and c: pass"),
    ],
)
def test_each_dense_shape_is_counted_unless_it_gives_its_reason(
    shape: str, dense: str, plain: str
) -> None:
    """A shape is counted where it stands, and not in its plain form, or behind a comment that gives a reason."""
    check = load_density_check()
    assert shape in check.SHAPES
    assert [place.shape for place in check.find_shapes(dense)] == [shape]
    assert check.find_shapes(plain) == []
    assert check.find_shapes(f"{dense}  # dense: a table") == []


def load_density_check() -> Any:
    specification = importlib.util.spec_from_file_location(
        "check_density", ROOT / ".ci" / "check_density.py"
    )
    assert specification is not None
    assert specification.loader is not None
    check = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(check)
    return check


OPENERS = {
    "it is the function for files that nobody has named": "_posix.open_regular",
    "it is the function for files that are read as a whole": "_posix.read_named",
    "files that the user has named": """
        batch._record_files.RecordFile._open batch._record_files.RecordFile._check_content
        batch._record_files.RecordFile._remove_superseded jobs._user_files.set_aside_older
        batch._record_files.OutputDirectory.save batch._sources.LineSource.open
        cli._inspection.draw_graph cli._traces.report_run.write
        compat.asynciojobs.purescheduler.PureScheduler.export_as_dotfile
        jobs.command._output_sinks._open_at_once jobs.command._output_sinks.open_unless_pipe
        jobs.command._streams.ProcessStreams._open_input
        jobs._user_files.open_output_file jobs.ssh._local_copier.put jobs.ssh._sftp_transfers.read_script
        jobs.ssh._sftp_transfers._copy_content journal._file_stamps.FileStamper._hash_of
        journal._file_stamps._hash_before journal._store.JournalStore._read_header view._exports.write_atomically
        view.events._nonblocking_writer._DescriptorTarget._open_fifo
        view.events._nonblocking_writer._open_target
        """,
    "a descriptor": """
        cli._outputs.discard_buffers
        jobs.command._output_sinks.OutputSpool.reopen jobs.ssh._local_copier.main
        jobs.ssh._node_session._make_sinks journal._questions.QuestionFiles.write
        journal._questions.QuestionFiles._read_file simulation._duration_sources._lock_file
        view.look._page.PageHandler._send_file view.monitor._terminal._duplicate_file
        """,
    "files of the kernel, and devices": """
        batch._resources._read_meminfo cli.__init__._open_closed_streams jobs.posix._cpus._read
        jobs.posix._guard.Guard.__init__ jobs.posix._guard._has_terminal jobs.posix._guard_script.read_file
        jobs.posix._guard.living_groups jobs.process._worker_main.take_over_stdin journal._lock._is_alive
        view.look._client._check_process view.look._client._looking_alone view.look._client.answering_programs
        """,
    "a directory that is private": """
        jobs.ssh._connections.Connection._start view.look._answers.answer_in_file view.look._client._ask_remotely
        view.look._client._wait_for_file
        """,
    "a directory, to be flushed": "journal._store.JournalStore._sync_directory",
    "files of the package": """
        view.trace._timeline.read_resource
        """,
    "modules that were imported from them": "jobs.process._worker_main.stamps_of_new_files",
}
"""Which functions open files by themselves, and which files."""


def compare_with_table(found: set[str], table: dict[str, str], law: str) -> None:
    """Compare the functions that do something with a table of those that may, by the kind of their files."""
    known = {name for names in table.values() for name in names.split()}
    new = sorted(found - known)
    assert not new, f"{law}: {new}"
    gone = sorted(known - found)
    assert not gone, f"take these out of the table, they do so no more: {gone}"


OPENING_WORDS = ("open(", "_text", "_bytes", "touch")


def openers(text: str, module: str) -> Iterator[str]:
    """Yield the functions in the text of a module that open a file, once for each call."""
    for name, node in parts_with(OPENING_WORDS, text, module):
        match node:
            case ast.Call(ast.Name("open")):
                yield name
            case ast.Call(ast.Attribute(value, "open"), args, keywords) if (
                args or keywords
            ):
                if ast.unparse(value) not in ("result", "self", "self._gate"):
                    yield name
            case ast.Call(
                ast.Attribute(
                    _,
                    "read_text" | "read_bytes" | "write_text" | "write_bytes" | "touch",
                )
            ):
                yield name


def test_files_that_nobody_named_are_opened_by_one_function() -> None:
    found = {
        name
        for module, text in sources().items()
        for name in openers(text, module.removeprefix("trioflow."))
    }
    advice = "read a file that no user has named by `_posix.open_regular`: it may be a pipe, and never end"
    compare_with_table(found, OPENERS, f"{advice}; any other kind stands in OPENERS")
    ways = [
        "open(path + '.tmp')", "os.open(name, 0)", "io.open(x)", "Path(x).open('wb')", "x.write_text(y)", "x.touch()",
    ]  # fmt: skip
    planted = "\n".join(
        f"class C:\n  def f{number}(self): return {way}"
        for number, way in enumerate(ways)
    )
    assert list(openers(planted, "m")) == [
        f"m.C.f{number}" for number in range(len(ways))
    ]


OF_OTHER_THREADS = (
    "view.monitor.",
    "view.events.",
    "view.look._watch",
    "_core.admission.",
    "jobs.command._streams",
)
"""What a thread reads there, the thread of a run may change meanwhile."""
LISTED_ITEMS = re.compile(r"(?:list\(|sorted\(|\[\*)\s*\w+(?:\.\w+)+\.items\(\)")


def test_a_dict_that_another_thread_changes_is_copied_before_its_items_are_listed() -> (
    None
):
    """A tuple for each item may let Python collect garbage, and switch to the other thread: the dict changes meanwhile.

    The monitor drew no more for the rest of a run."""
    assert LISTED_ITEMS.search("sorted(\n    self._model.failed.items(), key=f)")
    found = [
        f"{module}: {listed}"
        for module, text in sources().items()
        if module.removeprefix("trioflow.").startswith(OF_OTHER_THREADS)
        for listed in LISTED_ITEMS.findall(text)
    ]
    assert not found, f"put .copy() before .items(), {found}"


REMOVERS = {
    "the owner of users' files": """
        jobs._user_files jobs._user_files._rename_aside jobs._user_files.open_output_file jobs._user_files.remove_own
        """,
    "files of its own making, which have a temporary name, or are in a directory of its own": """
        batch._record_files.RecordFile.__init__ jobs.posix._guard.ProcessGroupTable.__init__ jobs.ssh._connections
        jobs.ssh._connections.Connection._start jobs.ssh._connections.PrivateDirectory.__init__
        jobs.ssh._connections.PrivateDirectory.remove jobs.ssh._local_copier.put
        jobs.ssh._node_session.NodeSession._remove jobs.ssh._ssh_job jobs.ssh._wrapper
        testing._explored_run.ExploredRun._simulate_crash
        view._exports.write_atomically view.look._answers._free_address
        view.look._answers.answer_in_file view.look._client._ask_remotely
        """,
    "files of a journal": """
        journal._lock.JournalLock._write_name journal._lock.JournalLock.release journal._questions.QuestionFiles.remove
        journal._questions.QuestionFiles.take journal._questions.QuestionFiles.withdrawn
        journal._questions.QuestionFiles.write
        """,
    "the file that the user names for just this, such as a record or a report": """
        batch._record_files.RecordFile._begin batch._record_files.RecordFile._keep_whole_lines
        batch._record_files.OutputDirectory.save batch._record_files.RecordFile._remove_superseded
        cli._traces.report_run.write compat.asynciojobs.purescheduler.PureScheduler.export_as_dotfile
        simulation._duration_sources._lock_file
        view.events._nonblocking_writer._DescriptorTarget.remove_partial_line
        view.events._nonblocking_writer._open_target
        """,
    "a descriptor": """
        cli.__init__._open_closed_streams jobs.ssh._local_copier.main jobs.ssh._node_session._make_sinks
        view.monitor._terminal._duplicate_file
        """,
}
"""Which functions and constants remove, rename, replace or empty files, and which files."""
REMOVING_COMMANDS = re.compile(r"\b(?:rm|mv|rmdir|truncate|shred) (?:-|[\"$'])")


def removers(text: str, module: str) -> Iterator[str]:
    """Yield the functions in the text of a module that remove, rename, replace or empty files, once for each way."""
    for name, node in parts_with(REMOVING_WORDS, text, module):
        match node:
            case ast.Attribute(ast.Name("os" | "shutil" | "Path"), attribute) if (
                attribute in REMOVING_FUNCTIONS
            ):
                yield name
            case ast.ImportFrom("os" | "shutil", names) if {
                each.name for each in names
            } & REMOVING_FUNCTIONS:
                yield name
            case ast.Call(ast.Attribute(_, "replace"), [_], []) | ast.Attribute(
                _, "O_TRUNC"
            ):
                yield name
            case ast.Call(ast.Attribute(_, attribute)) if attribute in REMOVING_METHODS:
                yield name
            case ast.Call(
                ast.Name("open") | ast.Attribute(_, "open"), arguments, keywords
            ):
                modes = [*arguments, *(word.value for word in keywords)]
                if any(
                    isinstance(mode, ast.Constant)
                    and re.fullmatch(r"[rbt]*[wx+][rbt+]*", str(mode.value))
                    for mode in modes
                ):
                    yield name
            case ast.Constant(str(constant)) if REMOVING_COMMANDS.search(constant):
                yield name


REMOVING_METHODS = {
    "rmtree",
    "unlink",
    "rmdir",
    "rename",
    "truncate",
    "ftruncate",
    "write_text",
    "write_bytes",
}
REMOVING_FUNCTIONS = REMOVING_METHODS | {
    *(
        "remove",
        "removedirs",
        "renames",
        "move",
        "replace",
        "copy",
        "copy2",
        "copyfile",
        "copytree",
    )
}
REMOVING_WORDS = {*REMOVING_FUNCTIONS, "O_TRUNC", "open(", "rm ", "mv ", "shred "}


def test_users_files_are_removed_renamed_replaced_and_emptied_in_one_module() -> None:
    found = {
        name
        for module, text in sources().items()
        for name in removers(text, module.removeprefix("trioflow."))
    }
    advice = "leave users' files to `jobs._user_files`, which sets aside what was there"
    compare_with_table(found, REMOVERS, f"{advice}; any other kind stands in REMOVERS")
    ways = [
        "shutil.rmtree(x)", "os.remove(x)", "x.unlink()", "os.replace(x, y)", "x.rename(y)", "x.replace(y)",
        "os.truncate(x, 0)", "open(x, 'w')", "os.open(x, os.O_WRONLY | os.O_TRUNC)", "run('rm -rf ' + x)",
        "run(f'mv -- {x} {y}')", "shutil.copyfile(x, y)", "finalize(self, os.unlink, x)", "map(Path.unlink, x)",
    ]  # fmt: skip
    planted = "\n".join(
        f"class C:\n  def f{number}(self): return {way}"
        for number, way in enumerate(ways)
    )
    assert list(dict.fromkeys(removers(planted, "m"))) == [
        f"m.C.f{number}" for number in range(len(ways))
    ]
    assert list(removers("from os import unlink as forget", "m")) == ["m"]


def test_each_test_that_stands_for_a_promise_is_there() -> None:
    """SECURITY.md names the tests of its threat model, which may have moved."""
    named = re.findall(
        r"`(tests/[\w/.]+)`", (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    )
    assert len(named) > 20
    gone = [name for name in named if not (ROOT / name).is_file()]
    assert not gone, f"SECURITY.md names tests that have moved or are gone: {gone}"


class Item(NamedTuple):
    nodeid: str


def test_the_parts_of_all_tests_are_all_of_them() -> None:
    """With `--part 1/5` to `5/5`, each test runs once."""

    def run_part(number: int) -> list[object]:
        hook = types.SimpleNamespace(pytest_deselected=lambda items: None)
        config: Any = types.SimpleNamespace(
            hook=hook, option=types.SimpleNamespace(part=f"{number}/5")
        )
        return list(conftest.drop_other_parts(config, list(items)))

    items: Any = [Item(f"test[{number}]") for number in range(100)]
    parts = [run_part(number + 1) for number in range(5)]
    assert all(parts)
    assert Counter(itertools.chain(*parts)) == Counter(items)


def test_files_that_are_slow_long_or_left_to_ci_are_there() -> None:
    """The tables in `tests/conftest.py` name files and folders that exist."""
    named = (
        *conftest.SLOW,
        *conftest.CI_ALONE,
        *conftest.SAMPLED,
        *conftest.LONGEST,
        *conftest.ONE_BACKEND,
    )
    gone = [name for name in named if not (TESTS / name).exists()]
    assert not gone, (
        f"tables in tests/conftest.py name what has moved or is gone: {gone}"
    )


# ---------------------------------------------------------------- the class of an attribute, read from annotations
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
TRANSPARENT = ("Final", "ClassVar", "type", "Type")
"""What stands around the type in an annotation."""


def inner_statements(
    outer: ast.AST, closed: Callable[[ast.AST], bool] = lambda _: False
) -> Iterator[ast.stmt]:
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
        yield from (
            (alias.asname or alias.name, f"{source}.{alias.name}")
            for alias in node.names
        )


def owner(name: str) -> str | None:
    """Return the module of the package that this full name is, or is in."""
    parents = [name, name.rpartition(".")[0]]
    candidates = [
        candidate for parent in parents for candidate in (parent, f"{parent}.__init__")
    ]
    return next((candidate for candidate in candidates if candidate in modules()), None)


@functools.cache
def imports_of(module: str) -> dict[str, str]:
    """Return the names that a module imports anywhere, with the full names that they stand for."""
    return dict(
        pair
        for node in inner_statements(modules()[module])
        for pair in imported(module, node)
    )


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
    return next(
        (resolved(module, word) for word in words if word not in TRANSPARENT), None
    )


@functools.cache
def bases(name: str) -> tuple[str, ...]:
    """Return a class of the package with those that it derives from, nearest first."""
    found = [name]
    for known in found:  # it grows
        if known in classes():
            module, node = classes()[known]
            above = (
                resolved(module, ast.unparse(base).partition("[")[0])
                for base in node.bases
            )
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
            for target in (
                node.targets if isinstance(node, ast.Assign) else [node.target]
            ):
                parts = target.elts if isinstance(target, ast.Tuple) else [target]
                found |= {ast.unparse(part).removeprefix("self.") for part in parts}
    return frozenset(part for part in found if re.fullmatch("_[a-z]\\w*", part))


@functools.cache
def engine_parts() -> frozenset[str]:
    return frozenset().union(
        *(
            private_parts(name)
            for name in classes()
            if name.startswith("trioflow._core.")
        )
    )


class Reads(ast.NodeVisitor):
    """Finds where a module reads private parts of objects of the engine, or of objects that it does not tell apart."""

    def __init__(self, module: str, text: str) -> None:
        self.module, self.lines = module, text.splitlines()
        self.found: list[str] = []
        self._class = ""
        self._types: dict[str, str | None] = {}  # of the names that the function knows

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        outer, self._class = self._class, resolved(self.module, node.name) or ""
        self.generic_visit(node)
        self._class = outer

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        attributes = re.findall(r"\.(_[a-z]\w*)", text_of(node, self.lines))
        if engine_parts().isdisjoint(attributes):
            return  # as most do; what stands in a function takes long to go through
        outer, self._types = (
            self._types,
            {**self._types, **local_types(self.module, self._class, node)},
        )
        self.generic_visit(node)
        self._types = outer

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        if node.attr in engine_parts() and is_of_engine(
            self._type(node.value), node.attr
        ):
            self.found.append(f"{self.module}:{node.lineno} {ast.unparse(node)}")

    def _type(self, node: ast.expr) -> str | None:
        return type_of(self.module, self._class, self._types, node)


def is_of_engine(name: str | None, part: str) -> bool:
    """Return whether the private part of an object of this class is the engine's; it is if the class is not known."""
    if name is None:
        return True
    mine = next((base for base in bases(name) if part in private_parts(base)), None)
    return any(
        base.startswith("trioflow._core.") for base in ([mine] if mine else bases(name))
    )


def of_arguments(
    module: str, function: ast.FunctionDef | ast.AsyncFunctionDef
) -> dict[str, str | None]:
    arguments = [
        *function.args.posonlyargs,
        *function.args.args,
        *function.args.kwonlyargs,
    ]
    return {
        one.arg: one.annotation and of_annotation(module, one.annotation)
        for one in arguments
    }


def local_types(
    module: str, own: str, function: ast.FunctionDef | ast.AsyncFunctionDef
) -> dict[str, str | None]:
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


def type_of(
    module: str, own: str, types: dict[str, str | None], node: ast.expr
) -> str | None:
    """Return the full name of the class of an expression, or of the module that it is; None if neither is said."""
    if isinstance(node, ast.Name):
        return types[node.id] if node.id in types else resolved(module, node.id)
    if isinstance(node, ast.Attribute):
        inside = type_of(module, own, types, node.value)
        return None if inside is None else type_of_attribute(inside, node.attr)
    if isinstance(node, ast.Call):
        return (
            own
            if ast.unparse(node.func) == "super"
            else type_of(module, own, types, node.func)
        )
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
            found[inner.name] = (
                of_annotation(module, inner.returns) if inner.returns else None
            )
            for line in inner_statements(inner):
                if isinstance(line, ast.Assign | ast.AnnAssign):
                    target = ast.unparse(
                        line.targets[0] if isinstance(line, ast.Assign) else line.target
                    )
                    said = (
                        of_annotation(module, line.annotation)
                        if isinstance(line, ast.AnnAssign)
                        else None
                    )
                    if said is None and isinstance(line.value, ast.Name):
                        said = of_arguments(module, inner).get(line.value.id)
                    elif said is None and isinstance(line.value, ast.Call):
                        said = resolved(module, ast.unparse(line.value.func))
                    if target.startswith("self.") and said is not None:
                        found.setdefault(target.removeprefix("self."), said)
    return found
