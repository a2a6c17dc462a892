"""Several processes for the tests, forked when these are collected: `pytest --workers 3`.

Each worker of pytest-xdist collects all tests, which takes six seconds of work; here it is done once. A worker asks for
the next file of tests when it has ended one, and sends the reports of tests as they end.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import multiprocessing.connection
import os
import signal
import sys
import threading
import traceback
import types
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, cast

import pytest
from _pytest.runner import runtestprotocol  # public for plugins that repeat tests

Items = list[pytest.Item]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--workers`."""
    parser.addoption("--workers", default="0", metavar="NUMBER|auto", help="how many processes run the tests")


def pytest_xdist_auto_num_workers() -> int:
    """Return how many processes run the tests: three for two cores, because many tests wait for programs.

    CI, which runs several of these at once, asks for fewer.
    """
    return int(os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") or 1 + (os.cpu_count() or 1))


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the tests in workers, if they are asked for."""
    asked = session.config.option.workers
    if asked == "0" or session.config.option.collectonly or session.testsfailed:
        return None
    Workers(session, pytest_xdist_auto_num_workers() if asked == "auto" else int(asked)).run()
    return True


@dataclass(eq=False, slots=True)
class Worker:
    """A process that runs tests, as the first process sees it."""

    pid: int
    connection: Connection
    items: Items = field(default_factory=list)  # of its file, without those that have ended

    def fileno(self) -> int:
        """Return the descriptor of its connection, to wait for."""
        return self.connection.fileno()


class Workers:
    """Runs the tests of a session in workers, and reports what they send."""

    def __init__(self, session: pytest.Session, count: int) -> None:
        self._session = session
        by_file = itertools.groupby(session.items, lambda item: item.path)
        self._files: deque[Items] = deque(list(items) for _, items in by_file)
        self._numbers = itertools.count()
        self._workers: list[Worker] = []
        self._count = min(count, len(self._files))
        cast(Any, session.config)._tmp_path_factory.getbasetemp()  # in which each worker makes a folder of its own

    def run(self) -> None:
        """Run all tests, or up to the failure or the interruption that ends the session."""
        try:
            for _ in range(self._count):
                self._start()
            while self._workers:
                for worker in multiprocessing.connection.wait(self._workers):
                    self._hear(cast(Worker, worker))
        finally:
            for worker in self._workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGINT)
                worker.connection.close()
                os.waitpid(worker.pid, 0)

    def _start(self) -> None:
        number = next(self._numbers)
        ours, theirs = multiprocessing.Pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        if pid := os.fork():
            theirs.close()
            self._workers.append(Worker(pid, ours))
            return
        for connection in (ours, *(worker.connection for worker in self._workers)):
            connection.close()
        work(self._session, theirs, number)

    def _hear(self, worker: Worker) -> None:
        with contextlib.suppress(EOFError, ConnectionResetError):
            self._take(worker, worker.connection.recv())
            return
        self._has_ended(worker)

    def _take(self, worker: Worker, data: Any) -> None:
        if data is None:  # it is ready for a file
            worker.items = self._files.popleft() if self._files else []
            first = self._session.items.index(worker.items[0]) if worker.items else 0
            worker.connection.send((first, first + len(worker.items)))
            return
        config = self._session.config
        report = config.hook.pytest_report_from_serializable(config=config, data=data)
        worker.items = [item for item in worker.items if item.nodeid != report.nodeid]
        self._show(report)

    def _has_ended(self, worker: Worker) -> None:
        """Report the test during which a worker has ended, and leave the others of the file to a new one."""
        self._workers.remove(worker)
        worker.connection.close()
        code = os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])
        if not worker.items:
            if code:
                self._session.shouldfail = f"a worker has ended with {code} after its tests; see above"
                raise self._session.Failed(self._session.shouldfail)
            return
        broken, *others = worker.items
        reason = f"the worker has ended with {code} during this test"
        self._show(pytest.TestReport(broken.nodeid, broken.location, {}, "failed", reason, "call"))
        if others:
            self._files.appendleft(others)
        self._start()

    def _show(self, report: Any) -> None:
        hook = self._session.config.hook
        hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=report.nodeid, location=report.location)
        if self._session.shouldfail:
            raise self._session.Failed(self._session.shouldfail)
        if self._session.shouldstop:
            raise self._session.Interrupted(self._session.shouldstop)


# ---------------------------------------------------------------- in a worker


def work(session: pytest.Session, connection: Connection, number: int) -> None:
    """Run the tests that the first process names, and end this process."""
    code = 1
    try:
        become_worker(session, number)
        session.config.pluginmanager.register(Sender(connection))
        try:
            for items in files(session, connection):
                for item, following in itertools.pairwise((*items, session)):  # what is of the session outlives a file
                    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        except (BrokenPipeError, EOFError, KeyboardInterrupt):  # the first process ends, and says why
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        session._setupstate.teardown_exact(None)
        code = 0
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(Exception):
        cast(Any, threading)._shutdown()
        cast(Any, atexit)._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # to take apart all that was forked costs seconds


def files(session: pytest.Session, connection: Connection) -> Iterator[Items]:
    """Ask for tests until none are left."""
    while True:
        connection.send(None)
        first, end = connection.recv()
        if first == end:
            return
        yield session.items[first:end]


def become_worker(session: pytest.Session, number: int) -> None:
    """Part from the first process: have an own file of captured output, and an own folder for those of tests."""
    sys.modules["__main__"] = types.ModuleType("__main__")  # that of pytest would be imported by each process of a pool
    capture = session.config.pluginmanager.getplugin("capturemanager")
    capture.stop_global_capturing()
    capture.start_global_capturing()
    folders = cast(Any, session.config)._tmp_path_factory
    folders._basetemp = folders.getbasetemp() / f"worker{number}"
    folders._basetemp.mkdir(0o700)


class Sender:
    """The plugin of a worker that runs a test and sends its reports: of a test that passes, one in place of three."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item) -> bool:
        """Run a test."""
        for report in runtestprotocol(item, log=False, nextitem=nextitem):
            if report.when == "call" or not report.passed or item.config.option.durations is not None:
                self._connection.send(item.config.hook.pytest_report_to_serializable(config=item.config, report=report))
        return True
