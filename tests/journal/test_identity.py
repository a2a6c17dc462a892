"""What identifies a function: no job gets the result of another function in silence, whatever their names are."""

import functools
import itertools
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
import pytest
from trioflow import AbstractJob, Job, Scheduler, ThreadJob, job
from ..bodies import give_now, nap
from ..conftest import Virtual
from ..pythons import python


def multiplied(factor: int) -> Callable[[Any], Any]:
    """Return a decorator that multiplies results, and hides itself as `functools.wraps` does."""

    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        async def wrapper(*args: Any) -> Any:
            return factor * await function(*args)

        return wrapper

    return decorate


class Meta(type):
    number: int

    async def of_metaclass(cls) -> int:
        return cls.number


class One(metaclass=Meta):
    number = 1

    @classmethod
    async def of_class(cls) -> int:
        return cls.number

    @classmethod
    def in_thread(cls) -> int:
        return cls.number

    async def of_object(self) -> int:
        return self.number


class Two(One):
    number = 2


@dataclass
class Adder:
    number: int

    async def add(self) -> int:
        return self.number

    async def __call__(self) -> int:
        return self.number


class Caller:
    """An object that cannot be stored."""

    def __init__(self, number: int) -> None:
        self.number = number

    async def __call__(self) -> int:
        return self.number

    async def method(self) -> int:
        return self.number


async def one() -> int:
    return 1


async def two() -> int:
    return 2


async def give(number: int) -> int:
    return number


def closure(number: int) -> Callable[[], Any]:
    async def inner() -> int:
        return number

    return inner


def with_default(value: int) -> Callable[[], Any]:
    async def inner(number: int = value) -> int:
        return number

    return inner


def nested(number: int) -> Callable[[], Any]:
    if number == 1:

        async def inner() -> int:
            return 1

    else:

        async def inner() -> int:
            return 2

    return inner


def local_class(number: int) -> AbstractJob[Any]:
    class Local(AbstractJob[int]):
        async def co_run(self) -> int:
            return number

    return Local(label="job")


CASES: dict[str, Callable[[int], Any]] = {
    "inherited classmethod": lambda number: (One, Two)[number - 1].of_class,
    "method of a metaclass": lambda number: (One, Two)[number - 1].of_metaclass,
    "method of an inherited class": lambda number: (One, Two)[number - 1]().of_object,
    "wraps": lambda number: multiplied(number)(one),
    "partial of wraps": lambda number: functools.partial(multiplied(number)(one)),
    "partial": lambda number: functools.partial(give, number),
    "lambda": lambda number: lambda: give(number),
    "closure": closure,
    "default": with_default,
    "nested function": nested,
    "method of a dataclass": lambda number: Adder(number).add,
    "object that can be stored": Adder,
    "method of another object": lambda number: Caller(number).method,
    "another object": Caller,
    "local class of jobs": local_class,
    "named function": lambda number: (one, two)[number - 1],
}


def make(case: str, number: int) -> AbstractJob[Any]:
    function = CASES[case](number)
    return function if isinstance(function, AbstractJob) else Job(function, label="job")


@pytest.mark.parametrize("case", CASES)
def test_no_job_gets_the_result_of_another_function_in_silence(
    virtual: Virtual, tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Where names do not tell two functions apart, each run that uses the journal says so, the restoring one too."""
    for number in (1, 2):
        caplog.clear()
        made = make(case, number)
        assert virtual(
            lambda made=made: Scheduler(made).co_run(journal=tmp_path / "run.db")
        )
        is_known_by_name_only = "by name only" in caplog.text
        assert made.result() == number or (is_known_by_name_only and made.restored)
    again = make(case, 2)
    assert virtual(lambda: Scheduler(again).co_run(journal=tmp_path / "run.db"))
    assert again.restored


def test_two_kinds_of_functions_never_share_an_identity_in_silence(
    virtual: Virtual,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A function of another kind is other work, though `wraps` gives it the same name, or each run says so. A plain
    function and its wrapped version once got each other's results, and only one of the runs said so."""
    monkeypatch.setattr("trioflow.journal._end_notes.MAX_NAMED_JOBS", 1000)
    jobs: list[AbstractJob[Any]] = []
    for number in (1, 2):
        caplog.clear()
        pairs = [*itertools.permutations(CASES, 2)]
        jobs = [make(pair[number - 1], number) for pair in pairs]
        for made, pair in zip(jobs, pairs, strict=True):
            made.label = ", then ".join(pair)
        assert virtual(
            lambda jobs=jobs: Scheduler(*jobs).co_run(journal=tmp_path / "run.db")
        )
    shared = [made.label for made in jobs if made.result() != 2]
    assert [
        label
        for label in shared
        if repr(label) not in caplog.text or "named function" in label
    ] == []


def test_two_functions_of_one_run_keep_their_results_apart(
    virtual: Virtual, tmp_path: Path
) -> None:
    for numbers in ((1, 2), (2, 1)):
        groups = [
            Scheduler(*(make(case, number) for number in numbers), label=case)
            for case in CASES
        ]
        assert virtual(
            lambda groups=groups: Scheduler(*groups).co_run(journal=tmp_path / "run.db")
        )
        assert {group.label: [made.result() for made in group] for group in groups} == {
            case: [*numbers] for case in CASES
        }


def test_a_class_is_an_argument_of_its_methods_in_other_kinds_of_jobs(
    tmp_path: Path, backend: str
) -> None:
    for cls, restored in ((One, False), (One, True), (Two, False)):
        made = ThreadJob(cls.in_thread, label="job")
        assert Scheduler(made).run(backend=backend, journal=tmp_path / "run.db")
        assert (made.result(), made.restored) == (cls.number, restored)


@job
async def decorated(number: int) -> int:
    await nap(1)
    return number


def test_a_decorated_function_is_named(
    virtual: Virtual, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A function behind `@job`, a static method and a method of a class need no warning."""
    for restored in (False, True):
        jobs = [decorated(1), Job(One.of_class), Job(Static.give, 1)]
        assert virtual(
            lambda jobs=jobs: Scheduler(*jobs).co_run(journal=tmp_path / "run.db")
        )
        assert [made.restored for made in jobs] == [restored] * 3
    assert "by name only" not in caplog.text


class Static:
    @staticmethod
    async def give(number: int) -> int:
        return number


PROGRAM = """
import sys
from dataclasses import dataclass
from trioflow import Job, Scheduler

@dataclass
class Loaded:
    program: str

async def load():
    return Loaded("NAME")

scenario = Scheduler(Job(load, label="load"), label="NAME")
if __name__ == "__main__":
    scenario.run(journal="run.db", backend=sys.argv[1])
    print(*[(job.result().program, "restored" if job.restored else "ran") for job in scenario])
"""


def test_programs_in_one_folder_are_told_apart(tmp_path: Path, backend: str) -> None:
    """`python b.py` once got results of functions of `a.py`; it shares records with `trioflow run b.py`."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text(PROGRAM.replace("NAME", name))

    def outcome(*words: str) -> str:
        return str(python(*words, backend, cwd=tmp_path, text=True).stdout).strip()

    assert outcome("a.py") == "('a', 'ran')"
    assert outcome("a.py") == "('a', 'restored')"
    assert outcome("b.py") == "('b', 'ran')"
    words = [
        "-m",
        "trioflow",
        "run",
        "b.py",
        "--journal",
        "run.db",
        "--no-monitor",
        "--backend",
    ]
    assert "restored" in python(*words, backend, cwd=tmp_path, text=True).stdout


PLAIN = PROGRAM.replace('Loaded("NAME")', '"NAME"').replace(".program, ", ", ")


def write_program(path: Path, program: str) -> str:
    path.parent.mkdir(exist_ok=True, parents=True)
    if path.suffix == ".pyz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("__main__.py", program)
    else:
        path.write_text(program)
    return str(path)


def link_program(path: Path, program: str) -> str:
    write_program(path.parent / "real" / path.parent.name, program)
    path.symlink_to(path.parent / "real" / path.parent.name)
    return str(path)


RUN_PATH = "import runpy; runpy.run_path('{}', run_name='__main__')"
WITH_FILE: dict[str, tuple[tuple[str, str], Callable[[Path, str], list[str]]]] = {
    "two names": (
        ("a.py", "b.py"),
        lambda path, program: [write_program(path, program)],
    ),
    "one name": (
        ("x/load.py", "y/load.py"),
        lambda path, program: [write_program(path, program)],
    ),
    "one stem": (
        ("job", "job.py"),
        lambda path, program: [write_program(path, program)],
    ),
    "names with dots": (
        ("load.v1.py", "load.v2.py"),
        lambda path, program: [write_program(path, program)],
    ),
    "zip applications": (
        ("x.pyz", "y.pyz"),
        lambda path, program: [write_program(path, program)],
    ),
    "links": (
        ("x/load.py", "y/load.py"),
        lambda path, program: [link_program(path, program)],
    ),
    "directories": (
        ("x/__main__.py", "y/__main__.py"),
        lambda path, program: [str(Path(write_program(path, program)).parent)],
    ),
    "packages": (
        ("x/__main__.py", "y/__main__.py"),
        lambda path, program: ["-m", Path(write_program(path, program)).parent.name],
    ),
    "runpy": (
        ("a.py", "b.py"),
        lambda path, program: ["-c", RUN_PATH.format(write_program(path, program))],
    ),
    "profiled": (
        ("x/load.py", "y/load.py"),
        lambda path, program: [
            "-m",
            "cProfile",
            "-o",
            "/dev/null",
            write_program(path, program),
        ],
    ),
}
WITHOUT_FILE: dict[str, Callable[[str], list[str]]] = {
    "-c": lambda program: ["-c", program],
    "exec": lambda program: ["-c", f"exec(compile({program!r}, 'load.py', 'exec'))"],
    "standard input": lambda _: ["-"],
    "/dev/stdin": lambda _: ["/dev/stdin"],
    "a descriptor": lambda _: ["/dev/fd/0"],
}


@pytest.mark.parametrize("way", WITH_FILE)
def test_a_program_is_known_by_its_file_whatever_the_way_it_is_started(
    tmp_path: Path, way: str
) -> None:
    """Programs whose files have one stem once got each other's results; the same program is restored each time."""
    files, write = WITH_FILE[way]
    seen: list[str] = []
    for name in ("A", "B"):
        words = write(tmp_path / files[name == "B"], PLAIN.replace("NAME", name))
        for _ in range(2):
            done = python(*words, "trio", cwd=tmp_path, text=True)
            seen.append(done.stdout.strip() or done.stderr)
    assert seen == [
        "('A', 'ran')",
        "('A', 'restored')",
        "('B', 'ran')",
        "('B', 'restored')",
    ]


def test_imported_modules_of_one_name_are_one_and_the_verdict_says_so(
    tmp_path: Path,
) -> None:
    """A module has its name wherever it lies, so that a project may move; a result of another one is not silent."""
    seen: list[tuple[str, bool]] = []
    for name in ("x", "y"):
        module, _, program = PLAIN.replace("NAME", name).partition("scenario = ")
        os.utime(
            write_program(tmp_path / name / "steps.py", module), (1, 1)
        )  # older than the program that imports it
        main = write_program(
            tmp_path / name / "main.py",
            f"import sys\nfrom steps import *\nscenario = {program}",
        )
        done = python(main, "trio", cwd=tmp_path, text=True)
        seen.append(
            (
                done.stdout.strip(),
                "the code of 1 restored job has changed since, 'load'" in done.stderr,
            )
        )
    assert seen == [("('x', 'ran')", False), ("('x', 'restored')", True)]


@pytest.mark.parametrize("way", WITHOUT_FILE)
def test_a_program_without_a_file_is_stored_only_with_a_key_or_a_version(
    tmp_path: Path, way: str
) -> None:
    words = WITHOUT_FILE[way]
    for version, outcome in (("None", "ran"), ("1", "restored")):
        program = PLAIN.replace("NAME", way).replace(
            'label="load"', f'label="load", version={version}'
        )
        for _ in range(2):
            done = python(
                *words(program), "trio", cwd=tmp_path, input=program, text=True
            )
        assert done.stdout.strip() == f"({way!r}, {outcome!r})"
        assert ("whose program has no file" in done.stderr) is (version == "None")


async def append(rows: list[str], name: str) -> int:
    rows.append(name)
    return len(rows)


async def count(rows: list[str], file: Any) -> int:
    file.write_text("which is no argument")
    return len(rows)


def test_jobs_that_change_their_arguments_in_place_are_named_once(
    virtual: Virtual, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A resumed run has other results than the first if jobs change their arguments, and once said nothing."""
    rows: list[str] = []
    first = Job(append, rows, "a", label="first")
    second = Job(
        append, kwargs={"rows": rows, "name": "b"}, label="second", required=first
    )
    file = tmp_path / "read"
    scheduler = Scheduler(
        first,
        second,
        Job(count, rows, file, label="third", required=second, reads=[file]),
    )
    virtual(lambda: scheduler.co_run(journal=tmp_path / "run.db"))
    (message,) = [
        record.message for record in caplog.records if "in place" in record.message
    ]
    assert (
        "changed their arguments in place, 'first', 'second': a run that restores them"
        in message
    )


class Slotted(AbstractJob[str]):
    __slots__ = ("unit",)

    def __init__(self, unit: str, **options: Any) -> None:
        super().__init__(**options)
        self.unit = unit

    async def co_run(self) -> str:
        return self.unit


def test_the_slots_of_a_kind_count_as_its_other_attributes(
    virtual: Virtual, tmp_path: Path
) -> None:
    """A job of a kind with `__slots__` was once restored with the result for other values."""

    def outcome(unit: str) -> tuple[str, bool]:
        one = Slotted(unit, label="one")
        virtual(lambda: Scheduler(one).co_run(journal=tmp_path / "run.db"))
        return one.result(), one.restored

    assert [outcome("m"), outcome("m"), outcome("km")] == [
        ("m", False),
        ("m", True),
        ("km", False),
    ]


def test_a_slash_in_a_label_is_no_group(virtual: Virtual, tmp_path: Path) -> None:
    """A job "eu/db" and one "db" in a group "eu" had one path: with one `key=`, one got the other's result."""

    def outcome(value: int, label: str, *groups: str) -> tuple[int, bool]:
        one: Any = Job(give_now, value, label=label, key="today")
        member = functools.reduce(
            lambda inner, group: Scheduler(inner, label=group), groups, one
        )
        virtual(lambda: Scheduler(member).co_run(journal=tmp_path / "run.db"))
        return one.result(), one.restored

    assert [outcome(1, "eu/db"), outcome(2, "eu/db")] == [(1, False), (1, True)]
    assert [outcome(3, "db", "eu"), outcome(4, "db", "eu"), outcome(5, "eu/db")] == [
        (3, False),
        (3, True),
        (1, True),
    ]
