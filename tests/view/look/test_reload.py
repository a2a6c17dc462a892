"""Code that was mended while its program runs is taken as a whole, or not at all."""

import importlib.util
import itertools
import linecache
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
import anyio
import anyio.lowlevel
import pytest
import trioflow.look
from trioflow import (
    Job,
    JobState,
    ProcessJob,
    Scheduler,
    ThreadJob,
    _loaded_files,
    current_scheduler,
)
from trioflow._core.base import _user_code
from trioflow._core.base._user_code import innermost_line
from trioflow._core.job._errors import Failure
from trioflow._core.words._job_queries import has_older_code
from trioflow._core.words._run_view import runs_in_progress
from trioflow.cli._scenario import load_file
from trioflow.view.look import _reload
from trioflow.view.look._steering import steer
from trioflow.view.text._failure_text import describe_failure
from ...bodies import hooked, in_threads
from ...cli.command_line import unchanged_process
from ...conftest import TESTS, BackendName
from ...pythons import python
from . import edits

HELPERS = """
def scale(x):
    return x * factor
"""
STEPS = """
import functools
import os

import helpers
from trioflow import job

def logged(function):
    @functools.wraps(function)
    async def wrapper(*args):
        return await function(*args)

    return wrapper

def made(number):
    async def inner():
        return number + missing

    return inner

class Store:
    LIMIT = 3

    async def put(self, x):
        return x + missing

store = Store()
inner = made(1)

@job
async def decorated(x):
    return x + missing

@logged
async def wrapped(x, more=0):
    return x + more + missing

async def has_local(x):
    def convert(value):
        return value + missing

    table = {"convert": lambda value: convert(value)}
    return table["convert"](x)

async def of_two_files(x):
    return helpers.scale(x)

async def good():
    return 5

def numbers():
    yield 1
    yield 2

def plain(x):
    return x + missing

async def write():
    raise OSError

async def fails_late(wait):
    await wait()
    return late

async def waits(wait):
    await wait()
    return 6

def where():
    return os.getpid()

@functools.cache
def cached():
    return 1
"""


class Program:
    """Two files in a directory that is on `sys.path`, whose functions are jobs."""

    def __init__(self, directory: Path) -> None:
        self.directory, self._times = directory, itertools.count(2)
        self.write("helpers", HELPERS)
        self.write("steps", STEPS)
        self.steps: Any = importlib.import_module("steps")

    def write(self, name: str, text: str) -> None:
        """Save a file, at a time before this program has started, and another one each time."""
        path, seconds = self.directory / f"{name}.py", next(self._times)
        path.write_text(text)
        os.utime(path, (seconds, seconds))

    def mend(self, *changes: tuple[str, str]) -> None:
        text = STEPS
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self.write("steps", text)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the files of tests be no part of the program: each reload would read all of them, hundreds of times."""
    libraries = (*_user_code.library_prefixes(), f"{TESTS}{os.sep}")
    monkeypatch.setattr(_loaded_files, "library_prefixes", lambda: libraries)


@pytest.fixture
def program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> Iterator[Program]:
    monkeypatch.syspath_prepend(str(tmp_path))
    _loaded_files.loaded.clear()
    found = Program(tmp_path)
    _loaded_files.remember()
    yield found
    for name in ("steps", "helpers"):
        sys.modules.pop(name, None)
    _loaded_files.loaded.clear()


def run(
    backend: BackendName, jobs: list[Any], *mends: Callable[[], object]
) -> list[str]:
    """Run jobs, mend the code and reload it whenever one has failed, and try that again. Return the answers."""
    answers, left = list[str](), [*mends]

    def try_again(job: Any) -> None:
        if job.state is JobState.FAILED:
            if left:
                left.pop(0)()
                answers.append(answer_of_reload())
            if answers[-1].startswith("reloaded") and job.attempts <= len(mends):
                job.try_again()

    Scheduler(*jobs, on_job_settled=try_again, label="publish").run(backend=backend)
    return answers


def answer_of_reload() -> str:
    try:
        return trioflow.look.reload()
    except RuntimeError as error:
        return str(error)


@pytest.mark.both_backends
def test_all_that_refers_to_a_function_calls_its_new_code(
    program: Program, backend: BackendName
) -> None:
    """It does so in methods that are bound, whatever functions are decorated with, and in closures; of two files."""
    steps = program.steps
    jobs = [
        *(
            Job(each, 1)
            for each in (
                steps.store.put,
                steps.wrapped,
                steps.has_local,
                steps.of_two_files,
            )
        ),
        steps.decorated(1),
        Job(steps.inner),
        ThreadJob(steps.plain, 1),
    ]

    def mend() -> None:
        program.mend(
            ("+ missing", "+ TEN"),
            ("import functools", "import functools\nTEN: int = 10"),
        )
        program.write(
            "helpers",
            HELPERS.replace("factor", "7").replace("def", "import math\n\n\ndef"),
        )

    assert run(backend, jobs, mend) == [
        "reloaded helpers.py, steps.py: scale, made, Store.put, decorated, wrapped and 4 more; "
        "functools.cache keeps the results of cached() until cache_clear()"
    ]
    assert [job.result() for job in jobs] == [11, 11, 11, 7, 11, 11, 11]
    assert (
        steps.has_local.__code__.co_firstlineno
        == STEPS.splitlines().index("async def has_local(x):") + 2
    )


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (
            "LIMIT = 3",
            "LIMIT = 4",
            "steps.py:23: 'LIMIT = 4' has changed, and what has run does not run again",
        ),
        (
            "class Store",
            "class Store(dict)",
            "steps.py:22: 'class Store(dict)' has changed, and",
        ),
        (
            "async def put(",
            "def more(self): ...\n\n    async def put(",
            "'def more(self)' is new in its class, and what has run",
        ),
        (
            "class Store:\n",
            "class Store:\n    size: int\n\n",
            "'size: int' is new in its class",
        ),
        ("store = Store()", "store = None", "steps.py:28: 'store = None' has changed"),
        (
            "store = Store()",
            "made(2)\nstore = Store()",
            "'made(2)' does more than bind a new name",
        ),
        (
            "@logged",
            "@functools.cache",
            ": 'async def wrapped(x, more=0)' has other decorators",
        ),
        (
            "wrapped(x, more=0)",
            "wrapped(x, most=0)",
            "'async def wrapped(x, most=0)' has changed",
        ),
        ("async def good", "def good", "'def good()' has changed"),
        (
            "return 5",
            f"return {'+'.join('a' * 3000)}",
            "steps.py: RecursionError: maximum recursion depth exceeded",
        ),
        (
            "import os",
            "import os\nfrom os import *",
            "steps.py:4: 'from os import *' does more than bind a new name",
        ),
        (
            "return 5",
            "yield 5",
            "steps.py: good() has become a generator, or is no generator any more",
        ),
        (
            "more=0",
            "more=store",
            "the defaults of wrapped() have changed, and not all of them are literals",
        ),
        (
            "async def good():\n    return 5\n",
            "",
            "steps.py: 'async def good()' is gone, and what has run cannot be undone",
        ),
        (
            "async def inner",
            "number += 1\n    async def inner",
            "steps.py: made.<locals>.inner() was made by a function",
        ),
        (
            "return wrapper",
            "return [wrapper][0]",
            "wrapped() was made by a function that has itself changed",
        ),
        (
            "import functools",
            "import functools, nowhere",
            "raised ModuleNotFoundError: No module named 'nowhere'",
        ),
        (
            "yield 2\n",
            "yield 2\n\nlate = 1 / 0\n",
            "'late = 1 / 0' raised ZeroDivisionError: division by zero",
        ),
        (
            "import functools",
            "import functools\nwrapped = 1",
            "steps.py:3: 'wrapped = 1' binds 'wrapped' again",
        ),
        ("import os", "import functools as os", "'import functools as os' has changed"),
        ("return 5", "return (", "SyntaxError: '(' was never closed"),
        (
            "return x + missing\n\nstore",
            "return super().put(x)\n\nstore",
            "uses other variables of the functions around it",
        ),
        (
            "return number + missing",
            "return missing",
            "inner() uses other variables of the functions around it",
        ),
        ("store = Store()\n", "", "steps.py: 'store = Store()' is gone"),
    ],
)
def test_what_cannot_be_taken_is_named_and_nothing_is_taken(
    program: Program, old: str, new: str, reason: str
) -> None:
    program.mend(
        (old, new),
        ("value + missing", "value + NEW"),
        ("import helpers", "import helpers\nNEW = 1"),
    )
    before = {**vars(program.steps)}, program.steps.has_local.__code__
    assert reason in answer_of_reload()
    assert ({**vars(program.steps)}, program.steps.has_local.__code__) == before
    program.write("steps", STEPS)
    assert (
        answer_of_reload() == "no file of the program has changed since it was loaded"
    )


def test_what_was_loaded_has_to_be_known() -> None:
    loaded = _loaded_files.loaded.copy()
    _loaded_files.loaded.clear()
    assert (
        "`trioflow run` remembers it, and a run with hold=True as it begins"
        in answer_of_reload()
    )
    Scheduler(hold=True).run()
    assert __file__ in _loaded_files.loaded
    _loaded_files.loaded.update(loaded)


def test_the_log_of_a_held_run_names_reload_once_a_file_has_changed(
    program: Program, backend: BackendName, caplog: pytest.LogCaptureFixture
) -> None:
    """Before, it names `try-again` alone; so does it after the code was taken."""

    def incident(
        scheduler: Any, job: Any, message: str, exception: BaseException | None
    ) -> None:
        if message.endswith("is held"):
            scheduler.resume()

    async def work(mend: Callable[[], object]) -> None:
        mend()
        raise OSError

    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: None, "try-again` tries"),
        (lambda: program.mend(("return 5", "return 6")), "try-again --reload` tries"),
        (trioflow.look.reload, "try-again` tries"),
    ]
    for mend, advice in cases:
        caplog.clear()
        Scheduler(
            Job(work, mend), hold=True, instruments=[hooked(incident=incident)]
        ).run(backend=backend)
        assert [
            advice in record.getMessage()
            for record in caplog.records
            if "is held" in record.getMessage()
        ] == [True]


def test_functions_of_calls_that_have_ended_hinder_nothing(
    program: Program, backend: BackendName
) -> None:
    """The traceback of a failure refers to them, and to what holds them, when what has made them has changed; twice."""
    job = Job(program.steps.has_local, 1)
    ends = ("table = {", "x += 0\n    table = {")
    answers = run(
        backend,
        [job],
        lambda: program.mend(ends),
        lambda: program.mend(ends, ("+ missing", "+ 10")),
    )
    assert [answer.partition(";")[0] for answer in answers] == [
        "reloaded steps.py: has_local",
        "reloaded steps.py: made, Store.put, decorated, wrapped, has_local and 1 more",
    ]
    assert (job.result(), job.attempts) == (11, 3)


def test_what_runs_goes_on_with_its_code(program: Program) -> None:
    running = program.steps.numbers()
    assert next(running) == 1
    program.mend(("yield 2", "yield 3"))
    trioflow.look.reload()
    assert ([*running], [*program.steps.numbers()]) == ([2], [1, 3])


def test_what_a_call_makes_of_old_code_is_mended_by_the_next_reload(
    program: Program,
) -> None:
    makes = STEPS.replace(
        "def numbers():",
        "def makes():\n    while True:\n        yield lambda: 1\n\ndef numbers():",
    )
    program.write("makes", makes)
    calls = importlib.import_module("makes").makes()
    _loaded_files.remember()
    functions = []
    for number in (2, 3):
        program.write("makes", makes.replace("lambda: 1", f"lambda: {number}"))
        functions.append(next(calls))
        assert answer_of_reload().startswith("reloaded makes.py: makes")
        functions.append(next(calls))
        assert [function() for function in functions] == [number] * (2 * number - 3) + [
            1
        ]
    del sys.modules["makes"]


def test_a_file_that_a_new_import_has_loaded_can_be_mended(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it was saved after the program had started: it was not loaded before the first reload."""
    saved, mended = time.time() - 60, time.time() + 60
    monkeypatch.setattr(_loaded_files, "_remembered_at", saved - 60)
    later = program.directory / "later.py"
    for text, moment in (
        ("TEN = 10", saved),
        ("TEN = 10\n\ndef ten(): return TEN", mended),
    ):
        later.write_text(text)
        os.utime(later, (moment, moment))
        program.mend(
            ("import helpers", "import helpers\nimport later"),
            ("return 5", f"return {moment}"),
        )
        assert answer_of_reload().startswith("reloaded ")
    assert program.steps.later.ten() == 10
    del sys.modules["later"]


def test_a_file_that_was_mended_with_its_old_time_is_taken(program: Program) -> None:
    """`cp -p`, or a clock of whole seconds: the answer was that no file had changed."""
    file = program.directory / "steps.py"
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    program.mend(("return 5", "return 6"))
    os.utime(file, ns=times)
    assert answer_of_reload().startswith("reloaded steps.py: good")


def test_a_traceback_quotes_the_text_that_was_loaded(program: Program) -> None:
    """After an edit, tracebacks and views quoted lines that never ran; after a reload, the new lines are those."""

    def quoted() -> set[str]:
        with pytest.raises(NameError) as raised:
            program.steps.plain(1)
        frame = traceback.extract_tb(raised.value.__traceback__)[-1]
        return {
            str(frame.line),
            str(innermost_line(raised.value.__traceback__))
            .partition(" (")[2]
            .removesuffix(")"),
        }

    added = (
        ("def plain(x):", "# one\n# two\ndef plain(x):"),
        ("missing\n\nasync def wr", "missed\n\nasync def wr"),
    )
    assert quoted() == {"return x + missing"}
    program.mend(*added)
    assert quoted() == {"return x + missing"}
    assert answer_of_reload().startswith("reloaded steps.py: plain")
    assert quoted() == {"return x + missed"}
    program.mend(*added, ("# one", "# one\n# more"), ("x + missed", "x + unseen"))
    assert quoted() == {"return x + missed"}


@pytest.mark.both_backends
def test_a_call_that_a_reload_has_met_quotes_the_lines_that_ran(
    backend: BackendName, program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job that ran through a reload, and failed, quoted the lines that had taken the place of its own."""

    async def mend_twice() -> None:
        for lines in ("# 1", "# 1\n\n# 2"):
            await anyio.sleep(0.001)
            program.mend(
                ("import os", f"import os\n{lines}"), ("return late", "return later")
            )
            assert answer_of_reload().startswith("reloaded steps.py: ")
        is_mended.set()

    async def main() -> Scheduler:
        nonlocal is_mended
        is_mended = anyio.Event()
        scheduler = Scheduler(
            Job(program.steps.fails_late, is_mended.wait, label="late"),
            Job(mend_twice),
            label="all",
        )
        await scheduler.co_run()
        return scheduler

    is_mended: Any = None
    scheduler = anyio.run(main, backend=backend)
    number = STEPS.splitlines().index("    return late") + 1
    capsys.readouterr()
    scheduler.debrief()
    assert (
        f'steps.py", line {number}, in fails_late\n    return late\n'
        in capsys.readouterr().out
    )
    ((job, error),) = scheduler.failures().items()
    assert (
        innermost_line(error.__traceback__)
        == f"in fails_late at steps.py:{number} (return late)"
    )
    described = describe_failure(job, Failure(error))
    assert described.location is not None
    assert described.location.text == "return late"
    with pytest.raises(NameError) as raised:
        anyio.run(program.steps.fails_late, anyio.lowlevel.checkpoint)
    assert str(innermost_line(raised.value.__traceback__)).endswith("(return later)")


@pytest.mark.both_backends
def test_what_has_older_code_is_known_however_often_code_is_mended(
    backend: BackendName, program: Program
) -> None:
    """What a second reload had undone was older still, and what ran through a reload was not older afterwards."""
    found = list[tuple[Any, ...]]()

    async def mend() -> None:
        jobs.append(current_scheduler().add(Job(program.steps.good)))
        for mended in (
            ("return 5", "return 7"),
            ("yield 2", "yield 3"),
            ("return 5", "return 8"),
        ):
            await jobs[-1]
            program.mend(mended, ("return 6", "return 7"))
            trioflow.look.reload()
            found.append(tuple(map(has_older_code, jobs)))
            jobs.append(current_scheduler().add(Job(program.steps.good)))
        is_mended.set()

    async def main() -> None:
        nonlocal is_mended
        is_mended = anyio.Event()
        jobs.append(Job(program.steps.waits, is_mended.wait))
        await Scheduler(*jobs, Job(mend)).co_run()

    is_mended: Any = None
    jobs: list[Job[int]] = []
    anyio.run(main, backend=backend)
    assert found == [(False, True), (False, False, True), (False, True, True, True)]
    assert [job.result() for job in jobs if has_older_code(job)] == [6, 5, 7, 5]
    assert jobs[-1].result() == 8


@pytest.mark.parametrize(
    "shadowing",
    [
        "numbers = x",
        "import os",
        "for os in [x]: ...",
        "def waits(): ...",
        "class os: ...",
    ],
)
def test_a_function_may_have_a_variable_with_the_name_of_its_module(
    program: Program, shadowing: str
) -> None:
    """It was refused: the import or the function of that name 'has moved, or is there twice'."""
    body = f"def plain(x):\n    {shadowing}\n    return 3\n    # "
    program.mend(("def plain(x):\n    ", body))
    assert answer_of_reload().startswith("reloaded steps.py: plain;")
    assert program.steps.plain(1) == 3
    program.mend()
    assert answer_of_reload().startswith("reloaded steps.py: plain;")


def test_what_a_function_makes_global_keeps_its_place(program: Program) -> None:
    makes = "def makes():\n    global made\n    made = str\n\nmakes()\n"
    program.write("globals", makes + "def made(): ...\n")
    importlib.import_module("globals")
    _loaded_files.remember()
    program.write("globals", "def made(): ...\n" + makes)
    assert "has moved, or is there twice" in answer_of_reload()
    del sys.modules["globals"]


def test_a_star_import_stays_where_it_is_as_functions_change(program: Program) -> None:
    text = "from os.path import *\ndef plain(): return {}\n"
    program.write("stars", text.format(1))
    plain = importlib.import_module("stars").plain
    _loaded_files.remember()
    for value in ("join", "1"):
        program.write("stars", text.format(value))
        assert answer_of_reload().startswith("reloaded stars.py: plain")
    assert plain() == 1
    del sys.modules["stars"]


def test_a_file_that_is_gone_is_named(program: Program) -> None:
    (program.directory / "helpers.py").unlink()
    gone = "; helpers.py is no file any more, and stays as it was loaded"
    assert (
        answer_of_reload()
        == f"no file of the program has changed since it was loaded{gone}"
    )
    program.mend(("return 5", "return 6"))
    assert answer_of_reload().startswith(f"reloaded steps.py: good{gone}")


def test_caches_share_a_remark(program: Program) -> None:
    cached = "".join(
        f"\n@functools.cache\ndef cached_{number}(): ...\n" for number in range(9)
    )
    program.mend(("return 5", "return 6"), ("def plain", f"{cached}\ndef plain"))
    names = "cached(), cached_0(), cached_1(), cached_2(), cached_3() and 5 more"
    assert answer_of_reload().endswith(
        f"; functools.cache keeps the results of {names} until cache_clear()"
    )


def test_workers_that_have_imported_the_old_code_end(
    program: Program, backend: BackendName
) -> None:
    before = ProcessJob(program.steps.where)
    jobs = [
        ProcessJob(program.steps.plain, 1, required=before),
        ProcessJob(program.steps.where),
    ]
    jobs[1].requires(jobs[0])
    answers = run(backend, [before, *jobs], lambda: program.mend(("+ missing", "+ 10")))
    assert answers[0].startswith("reloaded steps.py: ")
    assert jobs[0].result() == 11
    assert jobs[1].result() != before.result()


def test_the_answer_names_what_keeps_old_code(program: Program) -> None:
    """Results in a cache, and the processes of an executor, are not the code of a function."""
    with ProcessPoolExecutor(1) as executor:
        executor.submit(os.getpid).result()
        program.mend(("return 1", "return 2"))
        assert trioflow.look.reload() == (
            "reloaded steps.py: cached; functools.cache keeps the results of cached() until cache_clear(); "
            "the processes of an executor keep the old code"
        )


def test_a_file_that_was_loaded_from_another_text_is_not_taken(
    program: Program,
) -> None:
    """An import hook has changed it, or it was saved between its import and the moment when it was remembered."""
    program.mend(("missing", "absent"))
    _loaded_files.loaded.clear()
    _loaded_files.remember()
    program.mend(("+ missing", "+ 10"))
    assert (
        "steps.py: made.<locals>.inner() is not what the file said as it was loaded"
        in answer_of_reload()
    )


def test_a_file_that_was_saved_after_the_start_is_not_taken(program: Program) -> None:
    later = time.time() + 60
    os.utime(program.directory / "steps.py", (later, later))
    _loaded_files.loaded.clear()
    _loaded_files.remember()
    program.mend(("+ missing", "+ 10"))
    refusal = (
        "steps.py: it was saved after the program had started, "
        "so what was loaded is not known; nothing was taken: "
    )
    assert answer_of_reload().startswith(refusal)


FROZEN = """
import gc, pathlib, sys
sys.path.insert(0, "")
import steps, trioflow.look
from trioflow import _loaded_files
from trioflow._core.base import _user_code
_loaded_files.remember()
pathlib.Path("steps.py").write_text("def plain(): return 10")
for change in (gc.freeze, gc.unfreeze):
    change()
    try:
        print(trioflow.look.reload())
    except RuntimeError as error:
        print(error)
print(steps.plain())
"""


def test_functions_that_are_frozen_are_not_found(tmp_path: Path) -> None:
    """`gc.freeze()` hides all that has been made so far. A process of its own has little to collect."""
    (tmp_path / "steps.py").write_text("def plain(): return 1")
    # The process may be forked from one that imported trioflow before.
    os.utime(tmp_path / "steps.py", (0, 0))
    found = python("-c", FROZEN, cwd=tmp_path, text=True)
    refused, reloaded, value = found.stdout.splitlines()
    assert (
        refused
        == "gc.freeze() has hidden the functions of the program: call gc.unfreeze() first"
    )
    assert (reloaded.partition(" ")[0], value) == ("reloaded", "10"), found


def test_a_file_that_is_loaded_twice_is_mended_twice(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a job imports the script that runs: its second module is younger than what the run has remembered."""
    spec = importlib.util.spec_from_file_location(
        "again", program.directory / "steps.py"
    )
    assert spec is not None
    assert spec.loader is not None
    monkeypatch.setitem(
        sys.modules, "again", module := importlib.util.module_from_spec(spec)
    )
    spec.loader.exec_module(module)
    program.mend(
        ("+ missing", "+ more"), ("import helpers", "import helpers\nmore = 10")
    )
    trioflow.look.reload()
    assert (program.steps.plain(1), module.plain(1)) == (11, 11)


def test_lines_of_tracebacks_are_those_of_the_new_text(program: Program) -> None:
    path = str(program.directory / "steps.py")
    assert linecache.getline(path, 2) == "import functools\n"
    program.mend(("def plain(x):\n", "\n\ndef plain(x):\n    x = 1 + x\n"))
    trioflow.look.reload()
    with pytest.raises(NameError) as raised:
        program.steps.plain(1)
    last = traceback.extract_tb(raised.value.__traceback__)[-1]
    assert (last.lineno, last.line) == (
        STEPS.splitlines().index("def plain(x):") + 5,
        "return x + missing",
    )
    assert linecache.getline(path, last.lineno or 0) == "    return x + missing\n"


def test_reloads_keep_the_latest_codes_alone(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose code is mended each day grew by each reload."""
    monkeypatch.setattr(_reload, "MAX_OLDER", 30)
    _user_code.replaced_lines.clear()
    sizes = set[tuple[int, int]]()
    for number in range(6):
        program.mend(
            ("import functools", "import functools" + "\n" * number),
            ("+ missing", f"+ {number}"),
        )
        trioflow.look.reload()
        if number > 3:
            sizes.add(
                (
                    len(_user_code.replaced_lines),
                    len(_loaded_files.loaded[program.steps.__file__].successors),
                )
            )
    assert sizes == {(30, 30)}
    assert program.steps.plain(1) == 6


def test_code_keeps_the_name_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("named.py")

    def write(text: str, seconds: int) -> None:
        file.write_text(text)
        os.utime(file, (seconds, seconds))

    write("def outer():\n    return lambda: 1\n", 2)
    with unchanged_process():
        module = load_file(file)
        write("def outer():\n    return lambda: 2\n\ndef added(): ...\n", 3)
        trioflow.look.reload()
        found = [module.outer, module.outer(), module.added]
    assert module.outer()() == 2
    assert [function.__code__.co_filename for function in found] == ["named.py"] * 3


def test_reload_is_logged_before_try(
    program: Program, backend: BackendName, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the order of the answer, though the loop of the run itself takes the code."""
    job, answers = Job(program.steps.write, label="write"), list[str]()

    def mend() -> None:
        program.mend(("raise OSError", "return 5"))
        [run] = runs_in_progress()
        answers.append(steer(run, "reload and try-again", None, "me"))

    Scheduler(job, ThreadJob(mend).requires(job, settled=True), label="night").run(
        backend=backend
    )
    assert job.result() == 5
    steps = [answer.split("; ") for answer in answers]
    assert [(*step[:1], *step[-2:]) for step in steps] == [
        (
            "reloaded steps.py: write",
            "'night': tried again",
            "these wait or run again: write",
        )
    ]
    assert [
        re.split(r"; | \(", record.getMessage())[0] for record in caplog.records[1:]
    ] == [
        "reloaded steps.py: write by me",
        "tried again: 'write'",
        "'night': tried again by me",
    ]


def test_those_who_ask_at_once_come_one_after_the_other(program: Program) -> None:
    (program.directory / "slow.py").write_text("import time\ntime.sleep(0.1)")
    program.mend(
        ("return 5", "return 6"), ("import helpers", "import helpers\nimport slow")
    )
    answers: list[str] = []
    in_threads(lambda: answers.append(answer_of_reload()), 2)
    sys.modules.pop("slow")
    # The second may answer before the first, which goes on to tell the runs.
    assert sorted(answer.partition(";")[0] for answer in answers) == [
        "no file of the program has changed since it was loaded",
        "reloaded steps.py: good, slow",
    ]


@pytest.mark.both_backends
def test_each_run_in_progress_logs_who_has_reloaded_what(
    program: Program, backend: BackendName, caplog: pytest.LogCaptureFixture
) -> None:
    """It is one line of the log of each, and an incident."""
    told: list[tuple[Any, str]] = []
    watch = hooked(incident=lambda _, job, message, __: told.append((job, message)))

    async def mend() -> str:
        program.mend(("return 5", "return 6"))
        return trioflow.look.reload()

    inner = Job(mend)
    beside = Scheduler(inner, label="beside", instruments=[watch])
    Scheduler(Job(beside.co_run), instruments=[watch]).run(backend=backend)
    assert inner.result().startswith("reloaded steps.py: good")
    assert told == 2 * [(None, inner.result())]
    assert [record.getMessage() for record in caplog.records] == 2 * [inner.result()]


@pytest.mark.sampled
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("seed", range(8))
def test_random_edits_are_taken_whole_or_not_at_all(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    assert edits.check_edits(seed, tmp_path).total() == edits.EDITS_OF_A_MODULE


def test_of_the_replaced_codes_the_oldest_is_forgotten(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_reload, "MAX_OLDER", 30)
    _user_code.replaced_lines.clear()
    for number in range(6):
        latest = program.steps.plain.__code__
        program.mend(
            ("import functools", "import functools" + "\n" * number),
            ("+ missing", f"+ {number}"),
        )
        trioflow.look.reload()
        if not number:
            oldest = latest
    assert latest in _user_code.replaced_lines
    assert oldest not in _user_code.replaced_lines
