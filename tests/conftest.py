"""Which tests are slow, and fixtures for every test: both backends, virtual time, a check that nothing is left behind.

Coroutines that were never awaited are errors, by ``filterwarnings = ["error"]``. The check makes sure that the error
appears in the test that left them."""

import asyncio
import contextlib
import functools
import gc
import html
import importlib
import os
import signal
import sys
import threading
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple, get_args
import anyio
import hypothesis
import pytest
import sniffio
import trio
from _pytest.runner import runtestprotocol  # public for plugins that repeat tests
from trioflow import _loaded_files
from trioflow._core.base import _graph_algorithms
from trioflow._core.run import _instruments, _worker
from trioflow._core.words import _failures
from trioflow.abc import BackendName
from trioflow.testing import run_virtual
from trioflow.testing._task_order import TaskOrder, set_task_order
from trioflow.view.graph import _dot
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController
from . import invariants, isolations, transitions

TESTS = Path(__file__).parent
TREE = str(TESTS.parent)
BACKENDS = get_args(BackendName)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# A program that a shell starts in the background ignores Ctrl-C, and SIGHUP under nohup; so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# In the CI of GitHub or GitLab, `trioflow run` folds what jobs write.
for ci in ("GITHUB_ACTIONS", "GITLAB_CI"):
    os.environ.pop(ci, None)

# A limit on the time of each example, or of drawing it, would fail on a busy machine; each test has a timeout of its
# own. The suite takes a few examples, which are others each time; `python -m tests --soak` takes many.
for profile, examples in (("tests", 10), ("soak", 1000)):
    hypothesis.settings.register_profile(
        profile,
        deadline=None,
        max_examples=examples,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
hypothesis.settings.load_profile("tests")

# Many tests look at all that a run has logged. On a busy machine, any job may block the loop for a second.
MODULES_ABOUT_BLOCKING = (_failures, _instruments, _worker)
for module in MODULES_ABOUT_BLOCKING:
    vars(module)["MIN_BLOCKING_SECONDS"] = 60.0

PATIENCE = 60.0  # seconds that a thread may take to end after its test, on a busy machine; usually microseconds


SLOW = (
    "batch",
    "cli/test_bad_input.py",
    "cli/test_end_of_run.py",
    "cli/test_signals.py",
    "cli/test_machine_readable_output.py",
    "compat",
    "docs/test_sessions.py",
    "docs/test_site.py",
    "ends",
    "examples",
    "inside",
    "job/service/test_signals.py",
    "jobs",
    "laws",
    "libraries",
    "mutation",
    "plants",
    "pytest_trio",
    "run/test_soak.py",
    "scheduler/test_signals.py",
    "testing/test_fixture.py",
    "view/graph",
    "view/monitor/test_child_output.py",
    "view/monitor/test_real_programs.py",
)
"""Folders and files of tests that start processes, or take long: all others are fast.

Plain `pytest` runs the fast ones; `python -m tests` runs all.
"""


CI_ALONE = (
    "docs/test_extras.py",
    "inside",
    "jobs/process/test_engines.py",
    "libraries",
    "mutation",
    "plants",
    "view/page/test_page_browser.py",
    "view/test_notebook.py",
    "view/trace/test_report_browser.py",
)
"""Folders and files that take a sixth of the time of all tests, and seldom find what the others do not.

CI runs them; the test command of the README leaves them out.
"""
SAMPLED = (
    "cli/test_ssh.py",
    "jobs/command/test_shell_places.py",
    "jobs/ssh/test_banners.py",
    "jobs/ssh/test_coming_from_apssh.py",
    "jobs/ssh/test_connections.py",
    "jobs/ssh/test_copying.py",
    "jobs/ssh/test_ending.py",
    "jobs/ssh/test_remote_service.py",
    "jobs/ssh/test_ssh_job.py",
    "jobs/ssh/test_wrapper.py",
    "laws/test_clocks.py",
    "laws/test_growth.py",
    "model/test_ties.py",
    "test_dask.py",
    "test_doors.py",
    "view/test_cost_of_reading.py",
)
"""Files of many slow tests about one thing: the test command has every seventh, CI a seventh of the others each day.

Seven is odd, so that both backends are among them. What is about nodes and clusters is here, because it takes a tenth
of all time, and hardly anything that changes elsewhere breaks one of its tests alone: if you change `jobs/ssh`, run its
folder. In other files, the mark `sampled` says the same of the rows of one test. Its rows go through the same code, and
the first and every seventh find nearly all that all find.
"""
SAMPLE = 7


def use_loop(kind: str) -> None:
    """Let tests on asyncio run on uvloop, those on the virtual clock excepted, or with the eager tasks of Python 3.12.

    Args:
        kind: "uvloop", "eager", or "" for the usual loop.

    """
    if kind == "uvloop":
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    elif kind == "eager":
        init = asyncio.BaseEventLoop.__init__

        def init_eager(loop: asyncio.BaseEventLoop) -> None:
            init(loop)
            loop.set_task_factory(asyncio.eager_task_factory)

        asyncio.BaseEventLoop.__init__ = init_eager  # type: ignore[method-assign]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options that choose the event loop of the tests on asyncio, and the backends that they run on."""
    parser.addoption(
        "--loop", default="", choices=["uvloop", "eager"], help=use_loop.__doc__
    )
    parser.addoption(
        "--backends",
        default="both",
        choices=["both", "one", *BACKENDS],
        help=choose_backends.__doc__,
    )
    parser.addoption(
        "--part", default="1/1", metavar="K/N", help=drop_other_parts.__doc__
    )


def pytest_configure(config: pytest.Config) -> None:
    """Leave out the slow tests, unless some are asked for by path, by `-k` or by `-m`; soak tests always need `-m`."""
    use_loop(config.option.loop)
    if not config.option.markexpr:
        asked = (
            config.args_source is pytest.Config.ArgsSource.ARGS or config.option.keyword
        )
        config.option.markexpr = (
            "not soak" if asked else "not soak and not slow and not ci"
        )


@functools.cache  # there are 50 tests in a file
def is_among(file: Path, places: Collection[str]) -> bool:
    """Return whether a file of tests is one of these files, or in one of these folders."""
    path = file.as_posix().removeprefix(f"{TESTS.as_posix()}/")
    return any(path == place or path.startswith(f"{place}/") for place in places)


def is_slow(file: Path) -> bool:
    return is_among(file, SLOW)


LONGEST = {
    "jobs/ssh/test_connections.py": 4,
    "testing/test_check_kind.py": 3, "laws/test_words.py": 3, "docs/test_sessions.py": 3, "laws/test_chains.py": 2,
    "model/test_model.py": 2, "laws/test_growth.py": 2,
    "test_dask.py": 2, "jobs/process/test_process_job.py": 2, "jobs/ssh/test_ssh_job.py": 2,
    "view/test_estimate.py": 2, "run/test_each_line.py": 2, "cli/test_bad_input.py": 2,
    "jobs/command/test_shell_places.py": 2, "journal/test_commands.py": 2, "cli/test_ssh.py": 2,
    "view/test_redaction.py": 2, "jobs/test_user_files.py": 1, "jobs/ssh/test_copying.py": 1,
    "batch/test_journal.py": 1, "jobs/process/test_worker_pool.py": 1, "view/page/test_page.py": 1,
    "scheduler/test_signals.py": 1, "run/test_again.py": 1, "journal/test_requirements.py": 1,
    "examples/test_examples.py": 1, "jobs/command/test_ending.py": 1, "jobs/command/test_command.py": 1,
}  # fmt: skip
"""Files that take longest, mostly to wait for programs: they begin first, each in so many parts.

`python -m tests.longest REPORT` writes this table, from the JUnit report of a run.
"""

ONE_BACKEND = (
    "cli", "examples", "jobs/command", "jobs/posix", "jobs/process", "jobs/ssh", "jobs/test_whole_facts.py", "journal",
    "simulation", "testing", "view", "test_dask.py", "test_otel.py",
)  # fmt: skip
"""Folders and files whose tests hardly depend on the backend, because it is below what they are about.

There one test of each file without parameters runs on both backends, and so do those that are marked `both_backends`;
each of the others runs on one, which its name decides.
"""


both_of_file: dict[Path, str] = {}
"""The test of each of these files that runs on both."""
sampled: Counter[Path] = Counter()
"""How many tests of each file of `SAMPLED` have been collected."""
MANY_CELLS = 3
"""A test of a room of the engine with so many sets of parameters, or more, takes one backend for each set, in turn."""


@pytest.hookimpl(wrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Iterator[None]:
    """Make the rows of a test that the options ask for: a quarter of all tests would be made to be left out."""
    choose_backends(metafunc)
    yield
    calls = metafunc._calls
    if metafunc.definition.get_closest_marker("sampled"):
        for call in (call for number, call in enumerate(calls) if number % SAMPLE != 0):
            call.marks.append(pytest.mark.ci.mark)
    drop_second_backends(metafunc)
    terms = metafunc.config.option.markexpr.split(" and ")
    left_out = {mark for mark in ("ci", "soak") if f"not {mark}" in terms}
    asked = [
        call for call in calls if left_out.isdisjoint(mark.name for mark in call.marks)
    ]
    calls[:] = (
        asked or calls
    )  # without any, pytest would make the test without parameters


def drop_second_backends(metafunc: pytest.Metafunc) -> None:
    """Leave out one backend of each set of parameters of a test that has many, unless one is asked for by its name."""
    sets: dict[str, list[Any]] = {}
    for call in metafunc._calls:
        if "backend" in call.params:
            others = "-".join(
                part for part in call.id.split("-") if part != call.params["backend"]
            )
            sets.setdefault(others, []).append(call)
    by_name = any("::" in argument for argument in metafunc.config.args)
    if (
        len(sets) >= MANY_CELLS
        and not by_name
        and not metafunc.definition.get_closest_marker("both_backends")
    ):
        left_out = set[int]()
        for number, pair in enumerate(sets.values()):
            if len(pair) == 2:
                left_out.add(id(pair[number % 2]))  # calls are slow to compare
        calls = metafunc._calls
        calls[:] = [call for call in calls if id(call) not in left_out]


def choose_backends(metafunc: pytest.Metafunc) -> None:
    """Choose the backends of a test: both, but one for most tests in `ONE_BACKEND`; "one": one for all tests."""
    test, file, asked = (
        metafunc.definition,
        metafunc.definition.path,
        metafunc.config.option.backends,
    )
    if "backend" not in metafunc.fixturenames:
        return
    if any(
        "backend" in mark.args[0] for mark in test.iter_markers("parametrize")
    ):  # it says itself which
        return
    if asked == "both":
        if not is_among(file, ONE_BACKEND):
            return
        if test.get_closest_marker("both_backends"):
            return
        if (
            not test.get_closest_marker("parametrize")
            and both_of_file.setdefault(file, test.name) == test.name
        ):
            return
    drawn = BACKENDS[zlib.crc32(test.name.encode()) % len(BACKENDS)]
    chosen = asked if asked in BACKENDS else drawn
    test.add_marker(
        pytest.mark.parametrize("backend", [chosen], indirect=True, scope="session")
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the slow tests and those of CI alone; skip those that need fast isolation, see `fast_way`, without it."""
    if is_slow(item.path):
        item.add_marker("slow")
    is_for_ci = is_among(item.path, CI_ALONE)
    if is_among(item.path, SAMPLED):
        is_for_ci = is_for_ci or sampled[item.path] % SAMPLE != 0
        sampled[item.path] += 1
    if is_for_ci:
        item.add_marker("ci")
    marker = (
        item.get_closest_marker("fast_way")
        if isolations.ISOLATION == "direct"
        else None
    )
    if marker is not None:
        parameters = (
            item.callspec.params
            if isinstance(item, pytest.Function) and hasattr(item, "callspec")
            else {}
        )
        if not marker.args or marker.args[0] == parameters.get("backend"):
            item.add_marker(pytest.mark.skip(reason="needs fast isolation"))


def leaves_out_ci(config: pytest.Config) -> bool:
    """Return whether the tests of CI alone are left out."""
    return "not ci" in config.option.markexpr


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file of CI alone to leave out its tests: six processes would."""
    return (
        True if leaves_out_ci(config) and is_among(collection_path, CI_ALONE) else None
    )


def import_from_own_place(config: pytest.Config) -> None:
    """Import the files of tests in an order of this process, of several: what one has compiled, the others read. In a
    fresh clone pytest rewrites the assertions of all files, for nine seconds. In one order, each process would."""
    number, count = (
        os.environ.get("PYTEST_XDIST_WORKER", "gw0"),
        os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"),
    )
    asked = [
        config.invocation_params.dir / argument.partition("::")[0]
        for argument in config.args
    ]
    files = [
        file
        for file in sorted(TESTS.rglob("test_*.py"))
        if any(map(file.is_relative_to, asked))
    ]
    if leaves_out_ci(config):
        files = [file for file in files if not is_among(file, CI_ALONE)]
    first = len(files) * int(number.removeprefix("gw")) // int(count)
    for file in (*files[first:], *files[:first]) if count != "1" else ():
        # What fails, or skips the whole file, does so again when pytest imports it, and is reported then.
        with (
            contextlib.suppress(Exception, pytest.skip.Exception),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("error")
            importlib.import_module(
                ".".join(file.relative_to(TESTS.parent).with_suffix("").parts)
            )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Let the collector sleep meanwhile: what is collected stays, and to go through it takes a tenth of the time."""
    gc.disable()
    try:
        import_from_own_place(session.config)
        yield
    finally:
        gc.freeze()
        gc.enable()


def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> bool | None:
    """Of a test that passes in one of several processes, send one report, in place of three, and two notes."""
    if (
        "PYTEST_XDIST_WORKER" not in os.environ
        or item.config.option.durations is not None
    ):
        return None
    for report in runtestprotocol(item, log=False, nextitem=nextitem):
        if report.when == "call" or not report.passed:
            report.keywords = {}  # of use to plugins that look at reports of one process
            item.ihook.pytest_runtest_logreport(report=report)
    return True


def drop_other_parts(
    config: pytest.Config, items: list[pytest.Item]
) -> list[pytest.Item]:
    """Run the tests of one part of N equal parts, into which their names divide them."""
    number, count = map(int, config.option.part.split("/"))
    left_out = [
        item for item in items if zlib.crc32(item.nodeid.encode()) % count != number - 1
    ]
    config.hook.pytest_deselected(items=left_out)
    dropped = set(left_out)
    return [item for item in items if item not in dropped]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Mix the files of slow tests with the others, which use the cores while slow ones wait for programs. The last
    quarter has none, so that in the end no process is left alone with a long one, and those that wait longest begin in
    the first. For uvloop, leave out the tests on the virtual clock: they would run on the usual loop, as they do
    without the option."""
    if config.option.loop == "uvloop":
        usual = {
            item for item in items if "virtual" in getattr(item, "fixturenames", ())
        }
        config.hook.pytest_deselected(items=usual)
        items[:] = [item for item in items if item not in usual]
    items[:] = drop_other_parts(config, items)
    places = {
        TESTS / file: number / len(LONGEST) / 4 for number, file in enumerate(LONGEST)
    }
    for slow, share in ((True, 0.75), (False, 1.0)):
        alike = [item.path for item in items if is_slow(item.path) is slow]
        for number, file in enumerate(alike):
            places.setdefault(file, share * number / len(alike))
    items.sort(key=lambda item: places[item.path])


class ByFile(LoadFileScheduling):
    """Give a process the tests of one file, or of a part of one that takes long."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        return f"{file}::{zlib.crc32(test.encode()) % LONGEST.get(file.removeprefix('tests/'), 1)}"

    def mark_test_complete(
        self, node: WorkerController, item_index: int, duration: float = 0
    ) -> None:
        """Forget a part that is complete: for each test that ends, all that are known are counted, several times."""
        scope = self._split_scope(self.registered_collections[node][item_index])
        super().mark_test_complete(node, item_index, duration)
        if all(self.assigned_work[node][scope].values()):
            del self.assigned_work[node][scope]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """Return what gives the tests to the processes."""
    return ByFile(config, log)


def pytest_xdist_auto_num_workers() -> int:
    """Return how many processes run the tests: three for each core, because they wait for most of their time. Each
    takes four seconds to collect the tests. CI, which runs several of these at once, asks for fewer."""
    return int(
        os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") or 3 * (os.cpu_count() or 1)
    )


class Virtual:
    """``virtual(async_fn, *args)`` runs it under virtual time on ``virtual.backend``; no task may outlive the call."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

    def __call__(self, async_fn: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        async def watched() -> T:
            # anyio sees the library in a task alone, as under `asyncio.run`, and not in callbacks of the loop.
            sniffio.current_async_library_cvar.set(None)
            before = set(anyio.get_running_tasks())
            value = await async_fn(*args)
            left = sorted(
                str(task.name) for task in set(anyio.get_running_tasks()) - before
            )
            assert not left, f"tasks left running: {left}"
            return value

        return run_virtual(watched, backend=self.backend)


class Ordered(Virtual):
    """`Virtual`, with tasks that continue in an order which the seed determines."""

    def __init__(self, backend: str, seed: int) -> None:
        super().__init__(backend)
        self.seed = seed

    def __call__(self, async_fn: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        with set_task_order(TaskOrder(order_seed=self.seed), self.backend) as options:
            if self.backend == "trio":
                return trio.run(async_fn, *args, **options)
            return anyio.run(
                async_fn, *args, backend="asyncio", backend_options=options
            )


@pytest.fixture
def no_dot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the text of a graph stand for what `dot` would draw of it, whose start takes longer than all else."""
    monkeypatch.setattr(
        _dot, "render", lambda source, *_: f"<svg>{html.escape(source)}</svg>".encode()
    )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let the collector see again what `nothing_left_behind` has hidden, so that the last checks of pytest find it. Not
    in one of several processes: what these find so late, pytest-xdist does not report; nor in the one that starts them,
    which has the reports of all tests and runs none."""
    if "PYTEST_XDIST_WORKER" in os.environ or session.config.option.numprocesses:
        gc.freeze()
    else:
        gc.unfreeze()


# Session-scoped, because Hypothesis refuses narrower ones; neither holds any state.
@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Run the test once on each backend."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def virtual(backend: str) -> Virtual:
    """Run async functions under virtual time, on each backend."""
    return Virtual(backend)


@pytest.fixture
def blocking_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run report who blocks the loop for more than a second, as it does for users."""
    for module in MODULES_ABOUT_BLOCKING:
        monkeypatch.setattr(module, "MIN_BLOCKING_SECONDS", 1.0)


@pytest.fixture
def many_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run pause after every tenth job that it prepares, not after every thousandth: 50 jobs stand for 5000."""
    monkeypatch.setattr(_graph_algorithms, "CHUNK_SIZE", 10)


FRAMES = 110
"""How many frames a run may have with `few_frames`, beside those of the test: one of few jobs has half of them."""


@pytest.fixture
def few_frames() -> Iterator[None]:
    """Let a recursion fail early: chains of a few more jobs than `FRAMES` stand for those of a thousand."""
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(sum(1 for _ in traceback.walk_stack(None)) + FRAMES)
    yield
    sys.setrecursionlimit(usual)


STATES = pytest.StashKey[transitions.CheckedState]()
RUNS = pytest.StashKey[invariants.Look]()


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[object]:
    """Check job states and runs from the first test to the last, and that they are those of the isolation that is
    tested. As fixtures, these two would cost each test a tenth of what pytest costs it."""
    isolations.check()
    stash = session.config.stash
    with (
        transitions.checked() as stash[STATES],
        invariants.checked() as stash[RUNS],
    ):
        return (yield)


@pytest.fixture(scope="session")
def checked_states(request: pytest.FixtureRequest) -> transitions.CheckedState:
    return request.config.stash[STATES]


LOOKED_AT = ("laws", "run", "scheduler")
"""Folders of tests whose runs are looked at: see `invariants`."""


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check after each test that all coroutines were awaited, and that only idle workers of the libraries are left.
    States of jobs must have changed only as the table of transitions allows, runs must have kept their invariants, and
    no job must have failed by an assertion, which only an inspection of the run would show. A program that a test has
    written in a directory of its own is no program of the next one. One fixture for all costs a third of three."""
    stash = request.config.stash
    checked_states, checked_runs = stash[STATES], stash[RUNS]
    checked_states.illegal.clear()
    checked_states.assertions.clear()
    checked_runs.wrong.clear()
    checked_runs.is_on = is_among(request.path, LOOKED_AT)
    before = _threads()
    before_look = next(
        (thread for thread, name in before if name == "trioflow look"), None
    )
    gc.collect()
    gc.freeze()  # it takes 20 ms to go through what is there already, such as the reports of 3,000 tests
    yield
    if (
        look := sys.modules.get("trioflow.view.look._answers")
    ) is not None and before_look is None:
        look.answer_thread.stop()  # a run that was held has started it, until the program ends
    for file in [*_loaded_files.loaded]:
        if not file.startswith(TREE):
            del _loaded_files.loaded[file]
    gc.collect()
    left = sorted(
        name for thread, name in _threads() - before if not _is_harmless(thread)
    )
    assert not left, f"threads left running: {left}"
    assert not checked_states.illegal, f"illegal steps: {checked_states.illegal}"
    assert not checked_states.assertions, (
        f"failed in a job: {checked_states.assertions}"
    )
    assert not checked_runs.wrong or request.node.get_closest_marker("breaks"), [
        *checked_runs.wrong
    ]


def _threads() -> set[tuple[threading.Thread, str]]:
    # With the name: trio renames a worker thread while it works, which distinguishes a busy one from an idle one.
    return {(thread, thread.name) for thread in threading.enumerate()}


def _is_harmless(thread: threading.Thread) -> bool:
    if not thread.name.startswith("Trio thread "):  # idle, kept for ten seconds
        thread.join(PATIENCE)  # anyio asked its threads to end when the run did
    return not thread.is_alive() or thread.name.startswith("Trio thread ")
