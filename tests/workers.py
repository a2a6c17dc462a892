"""A pytest plugin that runs tests in several processes: `pytest -n 4`, or `-n auto`.

One process collects the tests, for five seconds, and forks. A pipe holds the numbers of all parts, of which each fork
takes the next one when it needs one; what it reports comes through a pipe of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import mmap
import multiprocessing.connection
import os
import select
import struct
import sys
import threading
import traceback
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

TESTS = Path(__file__).parent

LONGEST = {
    "docs/test_sessions.py": 20, "testing/test_check_kind.py": 4, "jobs/process/test_process_job.py": 3,
    "jobs/ssh/test_ssh_job.py": 3, "cli/test_bad_input.py": 2, "jobs/ssh/test_connections.py": 3, "test_dask.py": 1,
    "journal/test_commands.py": 2, "jobs/posix/test_adverse_conditions.py": 3, "batch/test_batch.py": 2,
    "jobs/ssh/test_remote_service.py": 3, "cli/test_ssh.py": 1, "jobs/ssh/test_copying.py": 2,
    "batch/test_parallel.py": 2, "compat/pyexpool/test_ending.py": 2, "scheduler/test_signals.py": 2,
    "view/trace/test_report_browser.py": 1, "examples/test_checkers.py": 3, "libraries/test_http.py": 1,
    "test_elsewhere.py": 3, "view/trace/test_report.py": 1, "batch/test_processes.py": 2, "batch/test_journal.py": 1,
    "cli/test_end_of_run.py": 2, "journal/test_killed.py": 2, "examples/test_crawler.py": 2,
    "compat/pyexpool/test_signals.py": 1, "journal/test_restoring.py": 1,
}  # fmt: skip
"""Files that take longest, mostly to wait for programs: they begin first, each in so many parts."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `-n`."""
    group: Any = parser.getgroup("workers")  # `addoption` keeps short options for pytest itself
    group._addoption(
        "-n", dest="processes", type=number_of_processes, default=1, help="how many processes run the tests"
    )


def number_of_processes(text: str) -> int:
    """Read a number; `auto`: five for two cores, because tests wait for half of their time; CI asks for fewer."""
    if not hasattr(os, "fork"):
        return 1
    return int(os.environ.get("TRIOFLOW_WORKERS") or 1 + 2 * (os.cpu_count() or 1)) if text == "auto" else int(text)


def parts_of(items: list[pytest.Item]) -> list[list[pytest.Item]]:
    """Return what one process runs at a time: a file, because the examples of a page go on with what is above.

    Of a file that takes long, or of the only one that does not consist of such examples, it is a part.
    """
    is_alone = len({item.path for item in items}) == 1 and isinstance(items[0], pytest.Function)
    counts = {TESTS / file: count for file, count in LONGEST.items()}
    parts: dict[tuple[Path, int], list[pytest.Item]] = {}
    for item in items:
        count = len(items) if is_alone else counts.get(item.path, 1)
        parts.setdefault((item.path, zlib.crc32(item.name.encode()) % count), []).append(item)
    return [*parts.values()]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Fork the workers, and pass on their reports."""
    options = session.config.option
    if options.processes < 2 or options.collectonly or session.testsfailed or not session.items:
        return None
    workers = Workers(session)
    try:
        for _ in range(min(options.processes, len(workers.parts))):
            workers.fork()
        for report in workers.reports():
            session.config.hook.pytest_runtest_logreport(report=report)
            if session.shouldfail or session.shouldstop:
                workers.stop()
    finally:
        workers.end()
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)
    return True


class Workers:
    """The processes that run the tests of a session."""

    def __init__(self, session: pytest.Session) -> None:
        self.session = session
        self.parts = parts_of(session.items)
        self.pids: dict[Any, int] = {}
        self.running = memoryview(mmap.mmap(-1, 4 * session.config.option.processes)).cast("I")
        """The number of the test that each of them runs, which is known when it has ended."""
        self.numbers, giving = os.pipe()
        os.write(giving, struct.pack(f"{len(self.parts)}H", *range(len(self.parts))))
        os.close(giving)
        self.stopped, self.stopping = os.pipe()
        """At the end of this pipe they stop: when it is closed, or the process that started them has ended."""

    def fork(self) -> None:
        """Start another one."""
        number = len(self.pids)
        factory = self.session.config._tmp_path_factory  # type: ignore[attr-defined]
        place = factory.mktemp("worker")
        reader, writer = multiprocessing.connection.Pipe(duplex=False)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        pid = os.fork()
        if pid:
            writer.close()
            self.pids[reader] = pid
            return
        try:
            os.close(self.stopping)
            factory._basetemp = place
            self._work(number, writer)
            writer.send(None)
            cast(Any, threading)._shutdown()
            cast(Any, atexit)._run_exitfuncs()
        except BaseException as error:  # of the tests' own errors there are reports
            with contextlib.suppress(BrokenPipeError):
                writer.send("".join(traceback.format_exception(error)))
        finally:
            os._exit(0)

    def _work(self, number: int, writer: Any) -> None:
        config = self.session.config
        config.pluginmanager.unregister(name="terminalreporter")
        config.pluginmanager.register(Sender(config, writer))
        capture: Any = config.pluginmanager.getplugin("capturemanager")
        capture.stop_global_capturing()  # into a file that all share
        capture.start_global_capturing()
        places = {item: place for place, item in enumerate(self.session.items)}
        following = self._next_part()
        while part := following:
            for item, after in zip(part, [*part[1:], None], strict=True):
                if after is None and (following := self._next_part()):
                    after = following[0]
                self.running[number] = places[item]
                config.hook.pytest_runtest_protocol(item=item, nextitem=after)
                if self.session.shouldfail or self.session.shouldstop or select.select([self.stopped], [], [], 0)[0]:
                    following = []
                    break
        cast(Any, self.session)._setupstate.teardown_exact(None)
        if "coverage" in sys.modules and (measured := sys.modules["coverage"].Coverage.current()):
            measured.save()  # in a file for this process, because there is one for each

    def _next_part(self) -> list[pytest.Item]:
        number = os.read(self.numbers, 2)
        return self.parts[int.from_bytes(number, sys.byteorder)] if number else []

    def reports(self) -> Iterator[pytest.TestReport]:
        """Yield the reports of all, until all have ended; one that ends early makes its test fail."""
        running = {reader: number for number, reader in enumerate(self.pids)}
        while running:
            for ready in multiprocessing.connection.wait(list(running)):
                reader = cast(Any, ready)
                try:
                    told = reader.recv()
                except EOFError:
                    told = "The process that ran this test has ended."
                if isinstance(told, dict):
                    hook = self.session.config.hook.pytest_report_from_serializable
                    yield hook(config=self.session.config, data=told)
                    continue
                number = running.pop(reader)
                if told is not None:
                    item = self.session.items[self.running[number]]
                    yield pytest.TestReport(item.nodeid, item.location, {}, "failed", told, "call")

    def stop(self) -> None:
        """Let each end after the test that it runs."""
        if self.stopping is not None:
            os.close(self.stopping)
            self.stopping = None

    def end(self) -> None:
        """Wait until all have ended."""
        self.stop()
        for pid in self.pids.values():
            os.waitpid(pid, 0)


class Sender:
    """A plugin of a worker, which sends reports."""

    def __init__(self, config: pytest.Config, writer: Any) -> None:
        self.config = config
        self.writer = writer

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Send the report of a test, but not those of its fixtures, unless they failed or their time is asked for."""
        if report.when == "call" or not report.passed or self.config.option.durations is not None:
            self.writer.send(self.config.hook.pytest_report_to_serializable(config=self.config, report=report))
