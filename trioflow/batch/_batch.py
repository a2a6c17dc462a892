"""A running batch: a scheduler in which one job adds a job for each command, and another reports their outcomes.

```
arguments ──► feed: is there room? is it time? ──► a BatchItem, restored by the journal or run ──► report ──► printer
  read on demand                ▲   ▲                up to --retries times                          │  │      job log
                                │   └────────────── room for another ◄──────────────────────────────┘  ▼      tally
                                └─────────────────── cancelled, and the scheduler drained or cancelled, by --halt
```

The scheduler keeps no jobs, so a reported command takes no memory, however many there are. A command is added when
there is room for it, because only then is its slot known, the lowest free number: `{%}`.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import anyio

from .. import (
    CommandError,
    CommandJob,
    CommandResult,
    Job,
    JobState,
    JobTimeout,
    Scheduler,
    SshError,
    StopReason,
    Unreachable,
    granted,
)
from .. import _posix as posix
from ..abc import AbstractJob, Work
from ..jobs.command._resource_limits import SlotNumbers
from ._batch_pool import make_pool
from ._halt import CommandTally
from ._joblog import CommandOutcome, Joblog, outputs, shorten_line
from ._options import Options
from ._output import Aside, Printer, TaggedLines, results_directory, save, tag_lines
from ._quantities import parse_slots
from ._quoting import Shell
from ._sources import Arguments, Product
from ._start_conditions import StartCondition
from ._template import LineTemplate, Strings

if TYPE_CHECKING:  # imported on demand at run time: they take as long to import as the rest
    from .. import LocalNode, SshJob, SshNode
    from ._records import Records

    Node = SshNode | LocalNode

POLL_INTERVAL: Final = 1.0
"""Seconds between two polls of the start conditions."""
COUNT_CPUS: Final = "getconf _NPROCESSORS_ONLN || nproc"
MAX_NAMED: Final = 5
"""The number of failed commands that the summary names; the others are counted."""
FAILURES: Final = (CommandError, SshError, JobTimeout, OSError, ValueError)
"""Errors that fail a command. OSError: the disk is full; ValueError: a NUL in an argument. All others end the batch."""


def command_lines(template: LineTemplate, product: Product, tag: LineTemplate | None = None) -> Iterator[bytes]:
    """Yield the command lines that would run, with their tags; this blocks until the arguments are available."""
    every = (arguments for arguments in product.items(blocking=True) if arguments is not None)
    for sequence, arguments in enumerate(every, 1):
        data = os.fsencode(template.fill(arguments, sequence, 1))
        yield data if tag is None else b"".join(tag_lines([data], fill_tag(tag, arguments, sequence, 1)))


def fill_tag(tag: LineTemplate, arguments: Arguments, sequence: int, slot: int) -> bytes:
    """Return the tag for each line that a command prints."""
    return os.fsencode(tag.fill(arguments, sequence, slot) + "\t")


class BatchItem(AbstractJob[CommandResult], keeps_time=True):  # the job of each attempt does
    """A command of a batch, run on this machine or on a node; if the node is unreachable, on another one.

    Args:
        batch: the batch that it belongs to.
        sequence: its number, from 1, without gaps.
        slot: from 1; the lowest that was free.
        arguments: one from each source.
        line: its command line; placeholders of granted resources are not filled in yet.
        node: the node that runs it; None for this machine.

    """

    __slots__ = (
        "_attempt", "_batch", "_began", "_started", "arguments", "line", "node", "printing", "sequence", "slot",
    )  # fmt: skip

    def __init__(
        self, batch: Batch, sequence: int, slot: int, arguments: Arguments, line: str, node: Node | None
    ) -> None:
        self._batch: Final = batch
        self.sequence: Final = sequence
        self.slot: Final = slot
        self.arguments: Final = arguments
        self.line: Final = line
        self.node = node
        self.printing: tuple[TaggedLines, TaggedLines] | None = None  # its output streams, if printed as they come
        self._attempt: CommandJob | SshJob | None = None  # the latest
        self._started, self._began = time.time(), time.monotonic()
        super().__init__(label=line, retry=batch.retry, needs=batch.options.needs)

    async def co_run(self) -> CommandResult:
        """Make one attempt.

        Raises:
            CommandError, SshError, JobTimeout: it has failed.
            OSError: the disk is full, for instance.
            ValueError: its line cannot be run, because there is a NUL in it.

        """
        while True:
            self._attempt, self._started, self._began = None, time.time(), time.monotonic()
            self._attempt = self._batch.attempt(self)
            try:
                return await self._attempt.co_run()
            except Unreachable as error:
                self.node = await self._batch.another_node(error)

    def for_journal(self) -> Work:
        """Return the line and its files, without the environment, which differs each time."""
        reads, writes = (
            [template.fill(self.arguments, self.sequence, self.slot) for template in templates]
            for templates in (self._batch.reads, self._batch.writes)
        )
        return Work(what="command", arguments=[self.line], reads=reads, writes=writes)

    @property
    def last_result(self) -> CommandResult | None:
        """The result of the latest attempt, even a failed one; None if no process was started."""
        return None if self._attempt is None else self._attempt.last_result

    def outcome(self) -> CommandOutcome:
        """Return the outcome of the command.

        Raises:
            BaseException: an error that fails no command, but ends the batch.

        """
        error, result = self.raised_exception(), self.result() if self.restored else self.last_result
        if error is not None and not isinstance(error, FAILURES):
            raise error
        runtime = time.monotonic() - self._began if result is None else result.elapsed
        printed = 0 if self.printing is None else self.printing[0].received
        received = printed or outputs(result)[0].seek(0, io.SEEK_END)
        return CommandOutcome(
            self.sequence, self.line, result, error, self._started, runtime, self.restored, received,
            ":" if self.node is None else self.node.name,
        )  # fmt: skip

    @property
    def tag(self) -> bytes | None:
        """The tag of its lines."""
        tag = self._batch.tag
        return None if tag is None else fill_tag(tag, self.arguments, self.sequence, self.slot)

    @property
    def shown_line(self) -> bytes:
        """The command line as printed before the command's output; empty without `--verbose`."""
        return os.fsencode(self.line + "\n") if self._batch.options.verbose else b""


def ssh_job() -> type[SshJob]:
    """Import the class on demand and return it."""
    from .. import SshJob

    return SshJob


class BatchScheduler(Scheduler):
    """The scheduler of a batch, which reports failures itself."""

    logs_failures = False


class Batch:
    """A run of all commands.

    Args:
        options: the options of the command line.
        template: the command line.
        product: its arguments.
        strings: the replacement strings, for names of files.
        tag: printed before each line.
        nodes: the nodes that run the commands, `options.jobs` at once on each, by default one for each CPU; empty for
            this machine.
        aside: a context for each print.
        joblog: the log of the outcomes.
        records: the log of the outcomes with their outputs.
        progress: called after the end of each command.

    Raises:
        ValueError: there is not enough of a resource for a single command, or the name of a file has a replacement
            string that is not supported.

    """

    def __init__(
        self,
        options: Options,
        template: LineTemplate,
        product: Product,
        strings: Strings,
        *,
        tag: LineTemplate | None,
        nodes: Sequence[Node],
        aside: Aside,
        joblog: Joblog | None,
        records: Records | None,
        progress: Callable[[], object],
    ) -> None:
        self._template: Final = template
        self._product: Final = product
        self._columns: Final = strings.columns
        self.options: Final = options
        self.tag: Final = tag
        self.reads: Final = [strings.name(name) for name in options.reads]
        self.writes: Final = [strings.name(name) for name in options.writes]
        self._results: Final = None if options.results is None else strings.name(options.results)
        self._shell: Final = Shell(os.environ)
        self._joblog: Final = joblog
        self._records: Final = records
        self._progress: Final = progress
        total = product.count() if options.halt is not None and options.halt.percent else product.total
        self.tally: Final = CommandTally(options.halt, total)
        self.expected = product.total  # the number of all commands; None while unknown
        self.restored = 0  # the number of commands restored from the journal
        self.failures: Final[list[tuple[str, str]]] = []  # the lines of the first failed commands, with reasons
        self._printer = Printer(in_order=options.keep_order, aside=aside)
        self._environment: Final = {**posix.environb, b"PARALLEL_PID": str(os.getpid()).encode()}
        self.retry: Final = self._with_retries if options.retries != 1 else None
        self._feeder: Final = Job(self._feed, label="feed", critical=True, save=None)
        reporter = Job(self._report_all, label="report", critical=True, save=None)  # first, to get every command
        pool, parallel = make_pool(options.needs, options.pool)
        self.scheduler: Final = BatchScheduler(reporter, self._feeder, label="batch", pool=pool, keep_jobs=False)
        self._unreported: Final[dict[BatchItem, None]] = {}
        self._conditions: Final = [condition for condition in (options.memfree, options.load) if condition is not None]
        self._reported = set[StartCondition]()  # the conditions that have been reported
        self._stopped = False  # whether no further command starts
        # ---- capacity: a node for each command that may start
        self._slots: Final = SlotNumbers()
        self._alive: Final = set(nodes)  # nodes not known to be unreachable
        self._free: Final[deque[Node | None]] = deque()
        if options.jobs is None and nodes:
            self.scheduler.update([Job(self._count_cpus, node, forever=True) for node in nodes])
        else:
            most = parse_slots("100%") if options.jobs is None else options.jobs
            self._free.extend(list(nodes or (None,)) * min(most, parallel or most))
        self._room: Final = anyio.Semaphore(len(self._free), fast_acquire=True)

    def run(self, handle_signals: Callable[[int], Callable[[], object] | None] | bool = True) -> int:
        """Run all commands, and return the exit code.

        Args:
            handle_signals: as for `Scheduler.run`.

        Raises:
            BaseException: the error that ended the batch: KeyboardInterrupt, BatchError, JournalError, or an OSError of
            an output stream.

        """
        try:
            # asyncio, because its import takes half as long as trio's
            self.scheduler.run(backend="asyncio", handle_signals=handle_signals, journal=self.options.journal)
        except BaseException:
            with contextlib.suppress(OSError):
                self._print_unreported()
            raise
        if self.scheduler.stop_reason is StopReason.CRITICAL:
            raise self._error()
        self._print_unreported()
        return self.tally.exit_code

    @property
    def running(self) -> int:
        """The number of commands that run, or have ended and are about to be reported."""
        return len(self._unreported)

    @property
    def was_interrupted(self) -> bool:
        """Whether a signal ended the batch."""
        return self.scheduler.stop_reason is StopReason.INTERRUPTED

    def _error(self) -> BaseException:
        """Return the error that ended the batch: our own, or that of a journal that could not be written."""
        culprit = self.scheduler.culprit
        reported = [incident.exception for incident in self.scheduler.incidents]
        errors = reported if culprit is None else [culprit.raised_exception()]
        return next(error for error in reversed(errors) if error is not None)

    # ---- starting commands

    async def _feed(self) -> None:
        """Add the commands, each when it may start."""
        sequence, next_start = 0, time.monotonic()
        for arguments in self._product.items(blocking=False):
            if arguments is None:
                await anyio.wait_readable(self._product.descriptor)
                continue
            node = await self._next_node()  # after the arguments are there: commands of dead nodes also wait for room
            if self.options.delay:
                await anyio.sleep(max(0, next_start - time.monotonic()))
            await self._until_allowed()
            if self._stopped:
                self._free_slot(node)
                return
            sequence, slot = sequence + 1, self._slots.take()
            line = self._template.fill(arguments, sequence, slot)
            command = BatchItem(self, sequence, slot, arguments, line, node)
            self._unreported[command] = None
            self.scheduler.add(command)
            if not command.is_settled():  # settled already if restored from the journal
                next_start = time.monotonic() + self.options.delay
        self.expected = sequence

    async def _until_allowed(self) -> None:
        """Wait until all conditions allow a start, or the batch has stopped; report each condition once."""
        while not self._stopped:
            waits = {hold: until for hold in self._conditions if (until := hold.describe_wait()) is not None}
            if not waits:
                return
            for hold, until in waits.items():
                if hold not in self._reported:
                    self._reported.add(hold)
                    await self._printer.print_message(f"no command starts until {until}")
            await anyio.sleep(POLL_INTERVAL)

    def _with_retries(self, attempt: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
        """Wrap an attempt in the retries of --retries."""

        async def retried() -> Any:
            left = self.options.retries  # negative if there is no limit
            while True:
                left -= 1
                try:
                    return await attempt()
                except FAILURES as error:
                    may_go_on = left and not isinstance(error, Unreachable)
                    if may_go_on:
                        await self._until_allowed()
                    if not may_go_on or self._stopped:
                        raise

        return retried

    def attempt(self, command: BatchItem) -> CommandJob | SshJob:
        """Return the job for one attempt of a command."""
        options, node, line = self.options, command.node, command.line
        stdout, stderr = self._output_streams(command)
        if node is not None:
            return ssh_job()(
                node,
                line if options.nice is None else ("nice", f"-n{options.nice}", "/bin/sh", "-c", line),
                env={"PARALLEL_SEQ": command.sequence, "PARALLEL_JOBSLOT": command.slot,
                     "PARALLEL_SSHHOST": node.hostname},
                stdout=stdout, stderr=stderr, timeout=options.timeout,
                idle_timeout=options.idle_timeout, label=shorten_line(line),
            )  # fmt: skip
        numbers = {b"PARALLEL_SEQ": b"%d" % command.sequence, b"PARALLEL_JOBSLOT": b"%d" % command.slot}
        if options.needs:
            has = {name: granted(name).text(command) for name in options.needs}
            line = self._template.fill(command.arguments, command.sequence, command.slot, has)
        return CommandJob(
            self._shell.command(line), env={**self._environment, **numbers}, nice=options.nice,
            memory_limit=options.memory_limit, pin="slot" if options.pin else None,
            stdout=stdout, stderr=stderr, timeout=options.timeout,
            idle_timeout=options.idle_timeout, label=shorten_line(command.line),
        )  # fmt: skip

    def _output_streams(self, command: BatchItem) -> tuple[Any, Any]:
        """Return the output streams of an attempt; its line may be printed there first."""
        if not self.options.line_buffer:
            return subprocess.PIPE, subprocess.PIPE
        if command.printing is None:
            command.printing = (self._tagged_lines(command, 0), self._tagged_lines(command, 1))
            command.printing[0].show(command.shown_line)
        return command.printing

    def _tagged_lines(self, command: BatchItem, stream: int) -> TaggedLines:
        return TaggedLines(lambda data: self._printer.print_now(command.sequence, stream, data), command.tag)

    # ---- capacity for commands, on nodes

    def _free_slot(self, node: Node | None) -> None:
        self._free.append(node)
        self._room.release()

    async def _next_node(self) -> Node | None:
        """Wait until there is room for another command, and return its node; None for this machine."""
        while True:
            await self._room.acquire()
            node = self._free.popleft()
            if node is None or node in self._alive or not self._alive:
                return node

    async def _count_cpus(self, node: Node) -> None:
        """Make room on a node for as many commands as it has CPUs; for one if that is unknown."""
        asking = ssh_job()(node, COUNT_CPUS, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        cpus = 1
        with contextlib.suppress(SshError, ValueError):
            cpus = max(1, int((await asking.co_run()).stdout))
        for _ in range(cpus):
            self._free_slot(node)

    async def another_node(self, error: Unreachable) -> Node | None:
        """Return another node with room for a command whose node is unreachable; report that once per node.

        Raises:
            Unreachable: there is no other node, or the batch has stopped.

        """
        if error.node in self._alive:
            self._alive.remove(error.node)
            then = "" if self._alive else "; no node is left: the commands that have not run fail"
            await self._printer.print_message(f"{error}{then}")
        if self._alive and not self._stopped:
            return await self._next_node()
        raise error

    # ---- reporting outcomes

    async def _report_all(self) -> None:
        async for job in self.scheduler.as_settled():
            if isinstance(job, BatchItem) and job.state is not JobState.CANCELLED:
                await self._report(job)
                self._free_slot(job.node)

    async def _report(self, command: BatchItem) -> None:
        """Print or save the output of a command, log its outcome, and count it."""
        outcome = command.outcome()
        self._slots.give_back(command.slot)
        if outcome.remark:
            await self._printer.print_message(outcome.remark)
        if self._records is not None:
            self._records.add(outcome, command.arguments)
        self._save_output(command, outputs(outcome.result))
        await self._printer.print(command.sequence)
        if self._joblog is not None and not outcome.restored:
            self._joblog.add(outcome)
        if outcome.failed and len(self.failures) < MAX_NAMED:
            self.failures.append((command.line, outcome.reason))
        self.restored += outcome.restored
        met = self.tally.add(outcome.code)
        self._progress()
        if met and not self._stopped:
            await self._stop(command)

    def _save_output(self, command: BatchItem, written: tuple[BinaryIO, BinaryIO]) -> None:
        """Save the output of a command, or hand it to the printer."""
        del self._unreported[command]
        if self._records is not None:
            return
        if self._results is None:
            before = b"" if self.options.line_buffer else command.shown_line
            self._printer.keep(command.sequence, before, written, command.tag)
            return
        path = self._results.fill(command.arguments, command.sequence, command.slot)
        if not self._results.has_placeholders:
            path = results_directory(path, command.arguments, self._columns) + "/"
        save(path, command.sequence, written)

    async def _stop(self, command: BatchItem) -> None:
        """Stop as the --halt rule demands; `command` has met it."""
        self._stopped = True
        self._feeder.cancel()
        assert self.options.halt is not None
        what = "running commands are ended" if self.options.halt.immediately else "no further command is started"
        await self._printer.print_message(f"--halt: {what}, after: {shorten_line(command.line)}")
        if self.options.halt.immediately:
            self.scheduler.cancel()
        else:
            self.scheduler.drain()

    def _print_unreported(self) -> None:
        """Print the remaining output after the run: of commands not reported yet, or ended by an interruption."""
        for command in list(self._unreported):
            if command.last_result is not None and (command.is_done() or not self._stopped):
                self._save_output(command, outputs(command.last_result))
        self._printer.flush()
