"""A running batch: a scheduler in which one job adds a job for each command, and another tells how these have ended.

```
arguments ──► feed: is there room? is it time? ──► a BatchItem, restored by the journal or run ──► tell ──► printer
  read as they are needed       ▲   ▲                as often as --retries says                   │  │    job log
                                │   └────────────── room for one more ◄───────────────────────────┘  ▼    tally
                                └─────────────────── cancelled, and the scheduler drained or cancelled, by --halt
```

The scheduler keeps no jobs, so a command that has been told takes no memory, however many there are. A command is added
when there is room for it, because only then is it known which number is the lowest that no other has: `{%}`.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import anyio

from .. import (
    CommandError,
    CommandJob,
    CommandResult,
    Job,
    JobState,
    JobTimeout,
    Pool,
    Scheduler,
    SshError,
    StopReason,
    Unreachable,
    granted,
)
from .. import _posix as posix
from ..abc import AbstractJob, Work
from ..jobs.command._resource_limits import Slots
from ._halt import CommandTally, Halt
from ._joblog import CommandOutcome, Joblog, outputs, shown
from ._output import Aside, Printer, TaggedLines, results_directory, save, tagged
from ._quoting import Shell
from ._sources import Arguments, Product
from ._start_conditions import StartCondition
from ._template import LineTemplate

if TYPE_CHECKING:  # when the batch runs, it gets them only if it needs them: they take as long to import as the rest
    from .. import Journal, LocalNode, SshJob, SshNode
    from ..abc import Amount
    from ._records import Records

    Node = SshNode | LocalNode

BETWEEN_LOOKS: Final = 1.0
"""Seconds between two looks at what a start has to wait for."""
COUNT_CPUS: Final = "getconf _NPROCESSORS_ONLN || nproc"
MOST_NAMED: Final = 5
"""Failed commands that are named at the end; the others are counted."""
FAILURES: Final = (CommandError, SshError, JobTimeout, OSError, ValueError)
"""What a command fails with. OSError: the disk is full; ValueError: a NUL in an argument. All else ends the batch."""


def lines(template: LineTemplate, product: Product, tag: LineTemplate | None = None) -> Iterator[bytes]:
    """Yield the command lines that would run, tagged as their output, waiting for their arguments where necessary."""
    every = (arguments for arguments in product.items(blocking=True) if arguments is not None)
    for sequence, arguments in enumerate(every, 1):
        data = os.fsencode(template.fill(arguments, sequence, 1))
        yield data if tag is None else b"".join(tagged([data], tag_of(tag, arguments, sequence, 1)))


def tag_of(tag: LineTemplate, arguments: Arguments, sequence: int, slot: int) -> bytes:
    """Return what stands before each line that a command prints."""
    return os.fsencode(tag.fill(arguments, sequence, slot) + "\t")


@dataclass(frozen=True, slots=True)
class Options:
    """How a batch is run.

    Attributes:
        slots: how many commands at once.
        timeout: seconds for each attempt.
        tries: how often a command runs at most until it succeeds; 0 for no limit.
        delay: seconds between two starts.
        halt: when to stop before all is done.
        in_order: whether outputs are printed in the order of the arguments.
        line_buffer: whether each line is printed as it comes, instead of the whole output when a command has ended.
        tag: what is printed before each line.
        verbose: whether each command line is printed before its output.
        results: where outputs are saved instead of being printed: a directory, or names with replacement strings.
        columns: the names of the arguments, in the names of these directories.
        slot_variable: the name of a variable that has the number of the slot, from 0.
        nodes: where commands run; here, if there are none.
        reads: with a journal, the files that a command reads: if one has changed, the command runs again.
        writes: with a journal, the files that it writes: if one is not as the command has left it, it runs again.
        idle_timeout: seconds that a command may write nothing.
        nice: how much lower its priority is than this program's.
        memory_limit: bytes of address space that each of its processes may have.
        pin: whether each slot has a CPU of its own, in turn.
        holds: what has to be so for a command to start.
        needs: what each command needs of the pool; with nodes nothing.
        pool: what there is of it.
        at_once: how many commands have what they need at the same time; None for no limit.

    """

    slots: int | None = 1  # on each node, if there are nodes; None for as many as it has CPUs
    timeout: float | None = None
    tries: int = 1
    delay: float = 0.0
    halt: Halt | None = None
    in_order: bool = False
    line_buffer: bool = False
    tag: LineTemplate | None = None
    verbose: bool = False
    results: LineTemplate | str | None = None
    columns: Sequence[str] = ()
    slot_variable: bytes | None = None
    nodes: tuple[Node, ...] = ()
    reads: Sequence[LineTemplate] = ()
    writes: Sequence[LineTemplate] = ()
    idle_timeout: float | None = None
    nice: int | None = None
    memory_limit: int | None = None
    pin: bool = False
    holds: Sequence[StartCondition] = ()
    needs: Mapping[str, Amount] = field(default_factory=dict[str, Any])
    pool: Pool | None = None
    at_once: int | None = None


class BatchItem(AbstractJob[CommandResult], keeps_time=True):  # the job that it makes for each attempt does that
    """A command: it runs here, or on a node, and on another node if that one cannot be reached.

    Args:
        batch: the batch that it is of.
        sequence: its number, from 1, without gaps.
        slot: from 1; the lowest that was free.
        arguments: one from each source.
        line: the line; in it, what it will be granted of resources is not filled in yet.
        node: where it runs; None for this machine.

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
        self.printing: tuple[TaggedLines, TaggedLines] | None = None  # its output, if that is printed as it comes
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
                self.node = await self._batch.elsewhere(error)

    def for_journal(self) -> Work:
        """Return the line, but not the environment, which differs each time, and the files that it reads and writes."""
        reads, writes = (
            [one.fill(self.arguments, self.sequence, self.slot) for one in templates]
            for templates in (self._batch.options.reads, self._batch.options.writes)
        )
        return Work(what="command", arguments=[self.line], reads=reads, writes=writes)

    @property
    def last_result(self) -> CommandResult | None:
        """That of the latest attempt, even if it has failed or was ended; None if no process was started."""
        return None if self._attempt is None else self._attempt.last_result

    def outcome(self) -> CommandOutcome:
        """Return how it has ended.

        Raises:
            BaseException: what no command fails with.

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
        """What is printed before each of its lines."""
        tag = self._batch.options.tag
        return None if tag is None else tag_of(tag, self.arguments, self.sequence, self.slot)

    @property
    def shown_line(self) -> bytes:
        """Its line, as it is printed before its output; empty if it is not."""
        return os.fsencode(self.line + "\n") if self._batch.options.verbose else b""


def ssh_job() -> type[SshJob]:
    """Return the class, imported at the first call."""
    from .. import SshJob

    return SshJob


class BatchScheduler(Scheduler):
    """The scheduler of a batch, which says itself what has failed."""

    logs_failures = False


class Batch:
    """Runs all commands.

    Args:
        template: the command line.
        product: its arguments.
        options: how they run.
        shell: what runs the lines.
        aside: what is done around each print.
        joblog: where each command that has ended is recorded.
        records: where that is recorded with its output.
        journal: where each command that has succeeded is kept, and found by a later batch.
        progress: called when a command has ended.

    """

    def __init__(
        self,
        template: LineTemplate,
        product: Product,
        options: Options,
        *,
        shell: Shell,
        aside: Aside,
        joblog: Joblog | None = None,
        records: Records | None = None,
        journal: Journal | None = None,
        progress: Callable[[], object] | None = None,
    ) -> None:
        self._template: Final = template
        self._product: Final = product
        self.options: Final = options
        self._shell: Final = shell
        self._joblog: Final = joblog
        self._records: Final = records
        self._journal: Final = journal
        self._progress: Final = progress
        total = product.count() if options.halt is not None and options.halt.percent else product.total
        self.tally: Final = CommandTally(options.halt, total)
        self.expected = product.total  # how many commands run in all; None while that is not known
        self.restored = 0  # how many commands the journal had the results of
        self.failures: Final[list[tuple[str, str]]] = []  # the lines of the first that failed, and why
        self._printer = Printer(in_order=options.in_order, aside=aside)
        self._environment: Final = {**posix.environb, b"PARALLEL_PID": str(os.getpid()).encode()}
        self.retry: Final = self._again if options.tries != 1 else None
        self._feeder: Final = Job(self._feed, label="feed", critical=True, save=None)
        teller = Job(self._tell_all, label="tell", critical=True, save=None)  # first: it has to hear of each command
        self.scheduler: Final = BatchScheduler(teller, self._feeder, label="batch", pool=options.pool, keep_jobs=False)
        self._untold: Final[dict[BatchItem, None]] = {}
        self._said = set[StartCondition]()  # the holds that have been reported
        self._stopped = False  # no further command starts
        # ---- where there is room: a node for each command that may start
        self._slots: Final = Slots()
        self._alive: Final = set(options.nodes)  # as far as is known
        self._free: Final[deque[Node | None]] = deque()
        if options.slots is None:
            self.scheduler.update([Job(self._count_cpus, node, forever=True) for node in options.nodes])
        else:
            self._free.extend((options.nodes or (None,)) * min(options.slots, options.at_once or options.slots))
        self._room: Final = anyio.Semaphore(len(self._free), fast_acquire=True)

    def run(self, handle_signals: Callable[[int], Callable[[], object] | None] | bool = True) -> int:
        """Run all commands, and return the exit code.

        Args:
            handle_signals: as for `Scheduler.run`.

        Raises:
            BaseException: what ended the batch: KeyboardInterrupt, BatchError, JournalError, or an OSError of an
                output.

        """
        try:
            # asyncio, because its import takes half as long as trio's
            self.scheduler.run(backend="asyncio", handle_signals=handle_signals, journal=self._journal)
        except BaseException:
            with contextlib.suppress(OSError):
                self._print_untold()
            raise
        if self.scheduler.stop_reason is StopReason.CRITICAL:
            raise self._error()
        self._print_untold()
        return self.tally.exit_code

    @property
    def running(self) -> int:
        """How many commands run, or have ended and are about to be told."""
        return len(self._untold)

    @property
    def was_interrupted(self) -> bool:
        """Whether a signal ended the batch."""
        return self.scheduler.stop_reason is StopReason.INTERRUPTED

    def _error(self) -> BaseException:
        """Return what ended the batch: an error of our own, or the journal could not be written."""
        culprit = self.scheduler.culprit
        reported = [one.exception for one in self.scheduler.incidents]
        errors = reported if culprit is None else [culprit.raised_exception()]
        return next(error for error in reversed(errors) if error is not None)

    # ---- starting commands

    async def _feed(self) -> None:
        """Add one command after another, each when it may start."""
        sequence, next_start = 0, time.monotonic()
        for arguments in self._product.items(blocking=False):
            if arguments is None:
                await anyio.wait_readable(self._product.descriptor)
                continue
            node = await self._where()  # not before there is a command for it: commands of dead nodes wait for room too
            if self.options.delay:
                await anyio.sleep(max(0, next_start - time.monotonic()))
            await self._until_allowed()
            if self._stopped:
                self._give_room(node)
                return
            sequence, slot = sequence + 1, self._slots.take()
            line = self._template.fill(arguments, sequence, slot)
            command = BatchItem(self, sequence, slot, arguments, line, node)
            self._untold[command] = None
            self.scheduler.add(command)
            if not command.is_settled():  # as it is if the journal has its result
                next_start = time.monotonic() + self.options.delay
        self.expected = sequence

    async def _until_allowed(self) -> None:
        """Wait until no hold forbids a start, or the batch has stopped; say once for each hold what it waits for."""
        while not self._stopped:
            waits = {hold: until for hold in self.options.holds if (until := hold.until()) is not None}
            if not waits:
                return
            for hold, until in waits.items():
                if hold not in self._said:
                    self._said.add(hold)
                    await self._printer.say(f"no command starts until {until}")
            await anyio.sleep(BETWEEN_LOOKS)

    def _again(self, attempt: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
        """Make further attempts of a command that has failed, as many as --retries says."""

        async def tried() -> Any:
            left = self.options.tries  # below 0 if there is no limit
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

        return tried

    def attempt(self, command: BatchItem) -> CommandJob | SshJob:
        """Return the job that makes one attempt of a command."""
        options, node, line = self.options, command.node, command.line
        stdout, stderr = self._streams(command)
        if node is not None:
            return ssh_job()(
                node,
                line if options.nice is None else ("nice", f"-n{options.nice}", "/bin/sh", "-c", line),
                env={"PARALLEL_SEQ": command.sequence, "PARALLEL_JOBSLOT": command.slot,
                     "PARALLEL_SSHHOST": node.hostname},
                stdout=stdout, stderr=stderr, timeout=options.timeout,
                idle_timeout=options.idle_timeout, label=shown(line),
            )  # fmt: skip
        numbers = {b"PARALLEL_SEQ": b"%d" % command.sequence, b"PARALLEL_JOBSLOT": b"%d" % command.slot}
        if options.slot_variable is not None:
            numbers[options.slot_variable] = b"%d" % (command.slot - 1)
        if options.needs:
            has = {name: granted(name).text(command) for name in options.needs}
            line = self._template.fill(command.arguments, command.sequence, command.slot, has)
        return CommandJob(
            self._shell.command(line), env={**self._environment, **numbers}, nice=options.nice,
            memory_limit=options.memory_limit, pin="slot" if options.pin else None,
            stdout=stdout, stderr=stderr, timeout=options.timeout,
            idle_timeout=options.idle_timeout, label=shown(command.line),
        )  # fmt: skip

    def _streams(self, command: BatchItem) -> tuple[Any, Any]:
        """Return where an attempt of a command writes; its line may be printed there before."""
        if not self.options.line_buffer:
            return subprocess.PIPE, subprocess.PIPE
        if command.printing is None:
            command.printing = (self._lines(command, 0), self._lines(command, 1))
            command.printing[0].show(command.shown_line)
        return command.printing

    def _lines(self, command: BatchItem, stream: int) -> TaggedLines:
        return TaggedLines(lambda data: self._printer.print_now(command.sequence, stream, data), command.tag)

    # ---- room for commands, on nodes

    def _give_room(self, node: Node | None) -> None:
        self._free.append(node)
        self._room.release()

    async def _where(self) -> Node | None:
        """Wait until there is room for one more command, and return the node for it; None for this machine."""
        while True:
            await self._room.acquire()
            node = self._free.popleft()
            if node is None or node in self._alive or not self._alive:
                return node

    async def _count_cpus(self, node: Node) -> None:
        """Make room on a node for as many commands as it has CPUs; for one if it does not say."""
        asking = ssh_job()(node, COUNT_CPUS, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        cpus = 1
        with contextlib.suppress(SshError, ValueError):
            cpus = max(1, int((await asking.co_run()).stdout))
        for _ in range(cpus):
            self._give_room(node)

    async def elsewhere(self, error: Unreachable) -> Node | None:
        """Return another node with room for a command whose node cannot be reached, which is said once for the node.

        Raises:
            Unreachable: there is no other node, or the batch has stopped.

        """
        if error.node in self._alive:
            self._alive.remove(error.node)
            then = "" if self._alive else "; no node is left: the commands that have not run fail"
            await self._printer.say(f"{error}{then}")
        if self._alive and not self._stopped:
            return await self._where()
        raise error

    # ---- telling how they have ended

    async def _tell_all(self) -> None:
        async for job in self.scheduler.as_settled():
            if isinstance(job, BatchItem) and job.state is not JobState.CANCELLED:
                await self._tell(job)
                self._give_room(job.node)

    async def _tell(self, command: BatchItem) -> None:
        """Print or save the output of a command, log its outcome, and count it."""
        outcome = command.outcome()
        self._slots.give_back(command.slot)
        if outcome.remark:
            await self._printer.say(outcome.remark)
        if self._records is not None:
            self._records.add(outcome, command.arguments)
        self._keep(command, outputs(outcome.result))
        await self._printer.print(command.sequence)
        if self._joblog is not None and not outcome.restored:
            self._joblog.add(outcome)
        if outcome.failed and len(self.failures) < MOST_NAMED:
            self.failures.append((command.line, outcome.reason))
        self.restored += outcome.restored
        met = self.tally.add(outcome.code)
        if self._progress is not None:
            self._progress()
        if met and not self._stopped:
            await self._stop(command)

    def _keep(self, command: BatchItem, written: tuple[BinaryIO, BinaryIO]) -> None:
        """Save what a command has written, or hand it over to the printer."""
        del self._untold[command]
        results = self.options.results
        if self._records is not None:
            return
        if results is None:
            before = b"" if self.options.line_buffer else command.shown_line
            self._printer.keep(command.sequence, before, written, command.tag)
            return
        if isinstance(results, str):
            path = results_directory(results, command.arguments, self.options.columns) + "/"
        else:
            path = results.fill(command.arguments, command.sequence, command.slot)
        save(path, command.sequence, written)

    async def _stop(self, command: BatchItem) -> None:
        """Stop as the --halt rule says; this command has met it."""
        self._stopped = True
        self._feeder.cancel()
        assert self.options.halt is not None
        what = "running commands are ended" if self.options.halt.at_once else "no further command is started"
        await self._printer.say(f"--halt: {what}, after: {shown(command.line)}")
        if self.options.halt.at_once:
            self.scheduler.cancel()
        else:
            self.scheduler.drain()

    def _print_untold(self) -> None:
        """Print what is left when the run has ended: of commands that have ended, or that an interruption has."""
        for command in list(self._untold):
            if command.last_result is not None and (command.is_done() or not self._stopped):
                self._keep(command, outputs(command.last_result))
        self._printer.flush()
