"""The mutation tool: it finds faults to inject, and detects whether a test notices them."""

import ast
import itertools
from collections.abc import Sequence
from pathlib import Path
import pytest
from tests.mutation.__main__ import (
    KILLED,
    ROOMS,
    ROOT,
    SURVIVED,
    UNREACHED,
    Reach,
    fate,
    files_in,
    noticed,
    sample,
)
from tests.mutation.mutants import Mutant, mutants_of

SOURCE = '''
def limited(number, *, most=10):
    """Return a number."""
    assert number is not None
    if number < most and number:  # ü
        note(number)
        return number + 1
    raise ValueError(f"{number + 1}")
'''
DOUBLE = "def double(number):\n    return number + number\n"


def test_mutants_have_the_line_and_the_text_of_the_source(tmp_path: Path) -> None:
    """Defaults, comparisons, operators, calls and returns are mutated; assertions and raised exceptions are not."""
    (tmp_path / "module.py").write_text(SOURCE, encoding="utf-8")
    mutants = list(mutants_of(tmp_path, tmp_path / "module.py"))
    assert mutants[-1].name == "module.py: 1 -> (2), in note(number) return number + 1"
    assert {(mutant.old, mutant.new) for mutant in mutants} == {
        ("10", "(11)"),
        ("number < most and number", "(not (number < most and number))"),
        ("number < most and number", "((number < most) or (number))"),
        ("number < most and number", "((number))"),
        ("number < most and number", "((number < most))"),
        ("number < most", "(number <= most)"),
        ("note(number)", "pass"),
        ("return number + 1", "return None"),
        ("number + 1", "(number - 1)"),
        ("1", "(2)"),
    }


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_has_mutants_that_can_be_compiled(room: str) -> None:
    """The paths of each room exist, and its shortest file with mutants stays valid Python with ten of them."""
    _, tests = ROOMS[room]
    assert all((ROOT / path).exists() for path in tests)
    for file in sorted(files_in(room), key=lambda file: file.stat().st_size):
        text = file.read_text(encoding="utf-8")
        if mutants := list(itertools.islice(mutants_of(ROOT, file), 10)):
            for mutant in mutants:
                ast.parse(
                    text[: mutant.start]
                    + mutant.new
                    + text[mutant.start + len(mutant.old) :]
                )
            return
    pytest.fail("there is no file with faults")


def test_each_module_is_in_a_room() -> None:
    """Each module of the package is in a room, so that a sample of all rooms covers it, unless it only re-exports."""
    rooms = [ROOT / folder for folder, _ in ROOMS.values()]
    left = {
        path.name
        for path in ROOT.glob("trioflow/**/*.py")
        if not any(map(path.is_relative_to, rooms))
    }
    assert left == {
        "__init__.py",
        "__main__.py",
        "_hints.py",
        "_posix.py",
        "abc.py",
        "graph.py",
        "look.py",
    }


def test_a_seed_draws_the_same_sample_again() -> None:
    assert sample(["clock", "base"], 20, 7) == sample(["clock", "base"], 20, 7)
    assert sample(["clock", "base"], 20, 7) != sample(["clock", "base"], 20, 8)
    assert sum(map(len, sample(["clock", "base"], 20, 7).values())) == 20


@pytest.mark.parametrize(
    ("body", "is_noticed"),
    [
        ("assert double(2) == 4", False),
        ("assert double(2) == 5", True),
        ("os._exit(0)", True),
    ],
)
def test_a_failing_test_or_the_end_of_the_process_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, is_noticed: bool
) -> None:
    (tmp_path / "module.py").write_text(DOUBLE, encoding="utf-8")
    test = f"import os\n\nfrom module import double\n\n\ndef test_two():\n    {body}\n"
    (tmp_path / "test_module.py").write_text(test, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n", encoding="utf-8")
    monkeypatch.setenv(
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"
    )  # to import all of them takes a second each time
    monkeypatch.setenv("PYTEST_PLUGINS", "xdist.plugin,pytest_timeout")
    assert noticed(tmp_path, ["test_module.py::test_two"], 30, {}) is is_noticed


def test_a_mutant_is_killed_survives_or_is_not_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests that reach a mutant decide its fate, else those that start processes; then the file is unchanged."""
    (tmp_path / "module.py").write_text(DOUBLE, encoding="utf-8")
    (tmp_path / "test_process.py").write_text("import subprocess\n", encoding="utf-8")
    minus = next(
        one
        for one in mutants_of(tmp_path, tmp_path / "module.py")
        if one.new == "(number - number)"
    )
    failing: set[str] = set()

    def run(copy: Path, tests: Sequence[str], *_: object) -> bool:
        assert "number - number" in (copy / "module.py").read_text(encoding="utf-8")
        return not failing.isdisjoint(tests)

    monkeypatch.setattr("tests.mutation.__main__.noticed", run)
    monkeypatch.setattr("tests.mutation.__main__.ROOT", tmp_path)
    reach, other = (
        Reach({("module.py", 2): ["one"]}, {"one": 0.1}),
        Reach({("module.py", 2): ["other"]}, {}),
    )
    starting = Reach({}, {"test_process.py::test_two": 0.1})
    assert (
        fate(minus, tmp_path, reach) == fate(minus, tmp_path, reach, other) == SURVIVED
    )
    assert (
        fate(minus, tmp_path, Reach({}, {}))
        == fate(minus, tmp_path, starting)
        == UNREACHED
    )
    failing.update(["one", "test_process.py::test_two"])
    assert fate(minus, tmp_path, reach) == fate(minus, tmp_path, starting) == KILLED
    failing.add("other")
    failing.remove("one")
    assert fate(minus, tmp_path, reach, other) == KILLED  # with the other isolation
    assert (tmp_path / "module.py").read_text(encoding="utf-8") == DOUBLE


def test_short_tests_and_those_that_reach_most_of_a_file_run_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.mutation.__main__.FIRST_TESTS", 4)
    times = {
        "short": 1.0,
        "short[2]": 1.0,
        "middle": 2.0,
        "long[1]": 3.0,
        "long[2]": 3.0,
        "long[3]": 3.0,
    }
    much = ["long[1]", "long[2]", "long[3]", "middle"]
    reach = Reach(
        {("a.py", 1): list(times), ("a.py", 2): much, ("a.py", 3): much[:3]}, times
    )
    assert reach.tests(Mutant("a.py", 1, 0, "old", "new")) == [
        "short",
        "short[2]",
        "middle",
        *much[:3],
    ]
    assert reach.tests(Mutant("a.py", 2, 0, "old", "new")) == ["middle", *much[:3]]
