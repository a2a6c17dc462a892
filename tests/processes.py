"""Tests in several processes, forks of the one that has collected them: `pytest --processes auto`.

A fork has all that is imported and collected, for a few milliseconds; to collect the tests anew, as pytest-xdist lets
each process do, takes fifteen seconds of work each. The tests of a unit, which is a file or a part of one that takes
long, run in one process, in their order: fixtures of a module are made once, and the examples of a page go on with what
is above. Between two units, the fixtures of the session stay. What ends a process in the middle of a test fails this
test; another process runs what is left.

The process that has collected runs no test. It gets the reports, for the terminal and for all plugins."""

import os
import signal
import sys
import traceback
import warnings
import zlib
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any
import pytest
from _pytest import runner  # public for plugins that end a session

Unit = list[int]
"""Tests that stay together, by their places in `Session.items`."""
PARTS: dict[str, int] = {}
"""Into how many units the tests of some files are divided, by their paths."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--processes", default=1, metavar="N", type=number_of, help=number_of.__doc__
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the tests in several processes, if that is asked for."""
    options = session.config.option
    if options.processes < 2 or options.collectonly or session.testsfailed:
        return None
    units = units_of(session.items)
    Workers(session, units).run(min(options.processes, len(units)))
    return True


def number_of(word: str) -> int:
    """Run the tests in so many processes. "auto": three for each core, because they wait for most of their time."""
    if word != "auto":
        return int(word)
    return int(os.environ.get("TEST_PROCESSES") or 3 * (os.cpu_count() or 1))


def units_of(items: list[pytest.Item]) -> deque[Unit]:
    """Return the tests of each file together, or of each part of one."""
    units: dict[tuple[str, int], Unit] = {}
    for place, item in enumerate(items):
        file, _, test = item.nodeid.partition("::")
        part = zlib.crc32(test.encode()) % PARTS.get(file, 1)
        units.setdefault((file, part), []).append(place)
    return deque(units.values())


@dataclass(eq=False)
class Worker:
    """A process that runs tests, as the process that has collected them sees it."""

    number: int
    line: "Connection[Any, Any]"
    given: Unit = field(default_factory=list)
    """The tests that it has been given and has not ended; it runs the first of them."""
    pid: int = 0


class Workers:
    """All of them; what they ask and what they report."""

    def __init__(self, session: pytest.Session, units: deque[Unit]) -> None:
        self.session = session
        self.hook = session.config.hook
        self.units = units
        self.living: dict[Connection[Any, Any], Worker] = {}
        self.started = 0

    def start(self) -> None:
        """Fork a process, which runs tests until there is none left."""
        ours, theirs = Pipe()
        worker = Worker(self.started, ours)
        self.started += 1
        worker.pid = os.fork()
        if not worker.pid:
            for line in (ours, *self.living):
                line.close()
            leave_after(self.session, theirs, worker.number)
        theirs.close()
        self.living[ours] = worker

    def run(self, count: int) -> None:
        """Run all tests in so many processes.

        Raises:
            pytest.Session.Failed: enough tests have failed, as the option `-x` has it.
            pytest.Session.Interrupted: a plugin wants no more.

        """
        try:
            for _ in range(count):
                self.start()
            self.serve()
        finally:
            self.interrupt()

    def serve(self) -> None:
        """Give units to those who ask, and pass their reports on, until all processes have ended."""
        while self.living:
            for line in wait([*self.living]):
                worker = self.living[line]  # type: ignore[index]
                try:
                    kind, told = worker.line.recv()
                except (EOFError, ConnectionResetError):
                    self.has_ended(worker)
                else:
                    getattr(self, kind)(worker, told)
                if self.session.shouldfail:
                    raise self.session.Failed(self.session.shouldfail)
                if self.session.shouldstop:
                    raise self.session.Interrupted(self.session.shouldstop)

    def asks(self, worker: Worker, _: None) -> None:
        worker.given = self.units.popleft() if self.units else []
        worker.line.send(worker.given)

    def reports(self, worker: Worker, data: dict[str, Any]) -> None:
        report = self.hook.pytest_report_from_serializable(
            config=self.session.config, data=data
        )
        self.hook.pytest_runtest_logreport(report=report)

    def warns(self, worker: Worker, told: dict[str, Any]) -> None:
        self.hook.pytest_warning_recorded.call_historic(kwargs=told)

    def has_run(self, worker: Worker, place: int) -> None:
        worker.given.remove(place)
        item = self.session.items[place]
        self.hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def has_ended(self, worker: Worker) -> None:
        """If a process has ended before its tests, the one that it ran has failed, and another runs the rest."""
        del self.living[worker.line]
        code = os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])
        if not worker.given:
            assert code == 0, f"a process has ended with {code} after its tests"
            return
        first, *rest = worker.given
        item = self.session.items[first]
        words = f"the process of this test has ended in the middle of it, with {code}"
        report = pytest.TestReport(
            item.nodeid, item.location, {}, "failed", words, "call"
        )
        self.hook.pytest_runtest_logreport(report=report)
        if rest:
            self.units.appendleft(rest)
        if self.units:
            self.start()

    def interrupt(self) -> None:
        """End all processes, as Ctrl-C would."""
        for worker in self.living.values():
            os.kill(worker.pid, signal.SIGINT)
        for worker in self.living.values():
            worker.line.close()
            os.waitpid(worker.pid, 0)


@dataclass(eq=False)
class Reporter:
    """What stands for the terminal in a process that runs tests: it sends what the other process prints."""

    config: pytest.Config
    line: "Connection[Any, Any]"
    _tw: Any
    """What writes, as pytest looks for it: pytest-timeout shows where all threads are."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self.config.hook.pytest_report_to_serializable(
            config=self.config, report=report
        )
        self.line.send(("reports", data))

    def pytest_warning_recorded(
        self,
        warning_message: warnings.WarningMessage,
        when: str,
        nodeid: str,
        location: Any,
    ) -> None:
        if when != "runtest":  # the other process has seen it
            return
        warning_message.source = None  # which may be anything
        told = {
            "warning_message": warning_message,
            "when": when,
            "nodeid": nodeid,
            "location": location,
        }
        self.line.send(("warns", told))


def work(session: pytest.Session, line: "Connection[Any, Any]", number: int) -> None:
    """Run tests until there is none left; this is what a fork does."""
    config = session.config
    reporter = Reporter(config, line, config.get_terminal_writer())
    config.pluginmanager.unregister(name="terminalreporter")
    config.pluginmanager.register(reporter, "terminalreporter")
    capture_anew(config)
    temporary = config._tmp_path_factory  # type: ignore[attr-defined]
    temporary._basetemp = temporary.mktemp(f"process{number}", numbered=False)
    while unit := next_unit(line):
        following = [*(session.items[place] for place in unit[1:]), session]
        for place, nextitem in zip(unit, following, strict=True):
            config.hook.pytest_runtest_protocol(
                item=session.items[place], nextitem=nextitem
            )
            line.send(("has_run", place))


def next_unit(line: "Connection[Any, Any]") -> Unit:
    line.send(("asks", None))
    unit: Unit = line.recv()
    return unit


def capture_anew(config: pytest.Config) -> None:
    """What this process prints goes to a file of its own: a fork shares that of the other, and the place in it."""
    manager = config.pluginmanager.getplugin("capturemanager")
    manager.stop_global_capturing()
    manager.start_global_capturing()
    manager.suspend_global_capture()


def leave_after(
    session: pytest.Session, line: "Connection[Any, Any]", number: int
) -> None:
    """Work, and end: a fork never returns to what the process that has collected does at the end."""
    code = 1
    try:
        try:
            work(session, line, number)
        finally:
            runner.pytest_sessionfinish(session)
            save_coverage()
        code = 0
    except (
        KeyboardInterrupt,
        BrokenPipeError,
    ):  # the other process has been interrupted
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def save_coverage() -> None:
    if "coverage" in sys.modules:
        import coverage

        if (current := coverage.Coverage.current()) is not None:
            current.stop()
            current.save()
