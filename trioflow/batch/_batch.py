"""A running batch: as many runners as commands may run at once, each of which runs one command after another.

```
arguments ──► next one (a lock; --delay; --resume) ──► runner 1: CommandJob, CommandJob, ... ──► printer, job log, tally
  read as they are needed                         ├──► runner 2: CommandJob, ...                                    │
                                                  └──► ...                              stop, or cancel, by --halt ◄┘
```

A runner is a job of the scheduler; a command is a `CommandJob` that the runner runs itself. So a command that
has ended takes no memory, however many there are. `{%}` is the lowest number that no other running command has.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import anyio
import anyio.lowlevel

from .. import (
    CommandError,
    CommandJob,
    CommandResult,
    Job,
    JobTimeout,
    Pool,
    Scheduler,
    SshError,
    StopReason,
    Unreachable,
    current_job,
    granted,
)
from ..jobs.command._limits import Slots
from ._halt import Halt, Tally
from ._joblog import Done, Entry, Joblog, Outcome, outputs, shown
from ._machine import Hold
from ._output import Aside, Printer, results_directory, save
from ._quoting import Shell
from ._sources import Arguments, Product
from ._template import Template

if TYPE_CHECKING:  # when the batch runs, it gets them only if it needs them: they take as long to import as the rest
    from .. import LocalNode, SshJob, SshNode
    from ..abc import Amount
    from ..journal._journal import Session

    Node = SshNode | LocalNode

BETWEEN_PAUSES: Final = 1000
"""The number of commands that are skipped as done before other tasks may run."""
BETWEEN_LOOKS: Final = 1.0
"""Seconds between two looks at what a start has to wait for."""
COUNT_CPUS: Final = "getconf _NPROCESSORS_ONLN || nproc"


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
        tag: whether each line is printed with the arguments before it.
        results: a directory where outputs are saved, instead of being printed.
        nodes: where commands run; here, if there are none.
        reads: with a journal, the files that a command reads: if one has changed, the command runs again.
        writes: with a journal, the files that it writes: if one is not as the command has left it, it runs again.
        idle_timeout: seconds that a command may write nothing.
        nice: how much lower its priority is than this program's.
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
    tag: bool = False
    results: str | None = None
    nodes: Sequence[Node] = ()
    reads: Sequence[Template] = ()
    writes: Sequence[Template] = ()
    idle_timeout: float | None = None
    nice: int | None = None
    holds: Sequence[Hold] = ()
    needs: Mapping[str, Amount] = field(default_factory=dict[str, Any])
    pool: Pool | None = None
    at_once: int | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A command that is to run."""

    number: int  # from 0, without gaps
    sequence: int  # of its arguments, from 1
    slot: int  # from 1; the lowest that was free
    arguments: Arguments
    line: str
    path: str  # in the journal


def lines(template: Template, product: Product, done: Done) -> Iterator[str]:
    """Yield the command lines that would run, waiting for their arguments where necessary."""
    for sequence, arguments in enumerate(filter(None, product.items(blocking=True)), 1):
        line = template.fill(arguments, sequence, 1)
        if not done.take(line):
            yield line


def ssh_job() -> type[SshJob]:
    """Return the class, imported at the first call."""
    from .. import SshJob

    return SshJob


class Runner(Job[None], keeps_time=True):  # it may take long to end: its command has `terminate_grace`
    """A job of the batch's scheduler that runs one command after another."""

    __slots__ = ()


class Batch:
    """Runs all commands.

    Args:
        template: the command line.
        product: its arguments.
        options: how they run.
        shell: what runs the lines.
        done: the commands that need not run again.
        aside: what is done around each print.
        joblog: where each command that has ended is recorded.
        journal: where each command that has succeeded is kept, and found by a later batch.
        progress: called when a command has ended, with the counts, and the expected total if it is known.

    """

    def __init__(
        self,
        template: Template,
        product: Product,
        options: Options,
        *,
        shell: Shell,
        done: Done,
        aside: Aside,
        joblog: Joblog | None = None,
        journal: Session | None = None,
        progress: Callable[[Tally, int | None], object] | None = None,
    ) -> None:
        self._template: Final = template
        self._product: Final = product
        self._options: Final = options
        self._shell: Final = shell
        self._done: Final = done
        self._joblog: Final = joblog
        self._journal: Final = journal
        self._times: Final = Counter[str]()  # how often each command line was there
        self._progress: Final = progress
        total = product.count() if options.halt is not None and options.halt.percent else product.total
        self.tally: Final = Tally(options.halt, total)
        self._scheduler: Final = Scheduler(label="batch", pool=options.pool)
        self._said = set[Hold]()  # the holds that have been reported
        self._arguments: Final = product.items(blocking=False)
        self._sequence = 0
        self._printer = Printer(in_order=options.in_order, aside=aside)
        self._environment: Final = {**os.environb, b"PARALLEL_PID": str(os.getpid()).encode()}
        self._number = 0  # of the next command
        self._expected = product.total
        self._turn: Final = anyio.Lock()
        self._slots: Final = Slots()
        self._waiting: anyio.CancelScope | None = None
        self._next_start = 0.0
        self._error: Exception | None = None  # what ends the batch
        self._stopped = False  # no further command starts
        # ---- of nodes
        self._returned: Final[deque[Task]] = deque()  # by runners whose node cannot be reached
        self._alive: Final = dict.fromkeys(options.nodes, 0)  # the runners of each node that can, as far as is known
        self._unasked: Final = set(options.nodes if options.slots is None else ())  # for their CPUs

    def run(self, handle_signals: Callable[[int], Callable[[], object] | None] | bool = True) -> int:
        """Run all commands, and return the exit code.

        Args:
            handle_signals: as for `Scheduler.run`.

        Raises:
            BaseException: what ended the batch: KeyboardInterrupt, BatchError, or an OSError of an output.

        """
        nodes = itertools.cycle(self._options.nodes or (None,))
        for _ in range(self._runners):
            self._add_runner(next(nodes))
        try:
            # asyncio, because its import takes half as long as trio's
            self._scheduler.run(backend="asyncio", handle_signals=handle_signals)
        except BaseException:
            with contextlib.suppress(OSError):
                self._printer.flush()
            raise
        if self._error is not None:
            raise self._error
        self._printer.flush()
        return self.tally.exit_code

    @property
    def stop_reason(self) -> StopReason | None:
        """How the batch has ended; None before that."""
        return self._scheduler.stop_reason

    @property
    def was_interrupted(self) -> bool:
        """Whether a signal ended the batch."""
        return self.stop_reason is StopReason.INTERRUPTED

    @property
    def _runners(self) -> int:
        slots = (self._options.slots or 1) * max(1, len(self._options.nodes))
        if self._options.at_once is not None:
            slots = min(slots, self._options.at_once)
        return slots if self.tally.total is None else min(slots, self.tally.total)

    # ---- one runner

    def _add_runner(self, node: Node | None) -> None:
        where = "" if node is None else f" on {node}"
        label = f"runner {len(self._scheduler) + 1}{where}"
        self._scheduler.add(Runner(self._runner, node, label=label, needs=self._options.needs))
        if node is not None:
            self._alive[node] += 1

    async def _runner(self, node: Node | None) -> None:
        """Run one command after another; an error ends the batch, whose caller reports it."""
        try:
            if node is not None and node in self._unasked:
                self._unasked.remove(node)
                await self._add_runners(node)
            await self._run_all(node)
        except Exception as error:
            self._error = self._error or error
            self._scheduler.cancel()
        if node is not None and node in self._alive:
            self._alive[node] -= 1

    async def _run_all(self, node: Node | None) -> None:
        while (task := await self._next_task()) is not None:
            outcome = await self._restored_or_run(task, node)
            if isinstance(outcome.error, Unreachable) and await self._hand_back(task, outcome.error):
                return
            self._slots.give_back(task.slot)
            await self._tell(task, outcome, node)
            met = self.tally.add(outcome.code)
            if self._progress is not None:
                self._progress(self.tally, self._expected)
            if met and not self._stopped:
                await self._stop(task)

    async def _add_runners(self, node: Node) -> None:
        """Add a runner for each further CPU of a node."""
        asking = ssh_job()(node, COUNT_CPUS, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        with contextlib.suppress(SshError, ValueError):
            cpus = int((await asking.co_run()).stdout)
            total = self.tally.total
            for _ in range(1, cpus):
                if total is not None and sum(self._alive.values()) >= total:
                    return
                self._add_runner(node)

    async def _hand_back(self, task: Task, error: Unreachable) -> bool:
        """Let others run what cannot be run on a node that is not there; False if there are no others."""
        if error.node in self._alive:
            del self._alive[error.node]
            then = "" if self._alive else "; no node is left: the commands that have not run fail"
            await self._printer.say(f"{error}{then}")
        if not self._alive or self._stopped:
            return False
        self._returned.append(task)
        if not any(self._alive.values()):  # they had nothing left to do
            self._add_runner(next(iter(self._alive)))
        return True

    async def _next_task(self) -> Task | None:
        """Return the next command that is not done yet, or None if there is none left."""
        async with self._turn:
            while not self._stopped:
                if self._returned:
                    return self._returned.popleft()
                arguments = next(self._arguments, ())
                if arguments == ():
                    self._expected = self._number
                    return None
                if arguments is None:
                    await self._until_readable()
                    continue
                self._sequence += 1
                slot = self._slots.take()
                line = self._template.fill(arguments, self._sequence, slot)
                if not self._done.take(line):
                    self._number += 1
                    path = self._path(line)
                    return await self._when_due(Task(self._number - 1, self._sequence, slot, arguments, line, path))
                self._slots.give_back(slot)
                if self._expected is not None:
                    self._expected -= 1
                if self._sequence % BETWEEN_PAUSES == 0:
                    await anyio.lowlevel.checkpoint()
            return None

    def _path(self, line: str) -> str:
        """Return what a command is called in the journal: its line, with a number if it is there more than once."""
        if self._journal is None:
            return line
        self._times[line] += 1
        return line if self._times[line] == 1 else f"{line} #{self._times[line]}"

    async def _until_readable(self) -> None:
        with anyio.CancelScope() as self._waiting:
            await anyio.wait_readable(self._product.descriptor)

    async def _when_due(self, task: Task) -> Task | None:
        """Wait until a command may start again; return this one, or None if the batch has stopped meanwhile."""
        if self._options.delay:
            with anyio.CancelScope() as self._waiting:
                await anyio.sleep(max(0, self._next_start - time.monotonic()))
            self._next_start = time.monotonic() + self._options.delay
        await self._until_allowed()
        return None if self._stopped else task

    async def _until_allowed(self) -> None:
        """Wait until no hold forbids a start, or the batch has stopped; say once for each hold what it waits for."""
        while not self._stopped:
            waits = {hold: until for hold in self._options.holds if (until := hold.until()) is not None}
            if not waits:
                return
            for hold, until in waits.items():
                if hold not in self._said:
                    self._said.add(hold)
                    await self._printer.say(f"no command starts until {until}")
            with anyio.CancelScope() as self._waiting:
                await anyio.sleep(BETWEEN_LOOKS)

    # ---- one command

    async def _restored_or_run(self, task: Task, node: Node | None) -> Outcome:
        """Run a command, unless the journal has its result."""
        journal = self._journal
        if journal is None:
            return await self._run_until_good(task, node)
        job = self._in_journal(task)
        result = journal.look_up(job, task.path)
        if isinstance(result, CommandResult):
            await anyio.lowlevel.checkpoint()  # there may be many of them
            return Outcome(result, None, time.time(), result.elapsed, is_restored=True)
        began = time.monotonic()
        outcome = await self._run_until_good(task, node)
        if not outcome.failed:
            journal.record(job, outcome.result, time.monotonic() - began)
            journal.commit()
        return outcome

    def _in_journal(self, task: Task) -> CommandJob:
        """Return a job that stands for a command in the journal: the environment it runs in differs each time."""
        reads, writes = (
            [one.fill(task.arguments, task.sequence, task.slot) for one in templates]
            for templates in (self._options.reads, self._options.writes)
        )
        return CommandJob(task.line, shell=True, label=shown(task.line), reads=reads, writes=writes)

    async def _run_until_good(self, task: Task, node: Node | None) -> Outcome:
        outcome = await self._run(task, node)
        tries = 1
        while outcome.failed and tries != self._options.tries and not self._stopped:
            if isinstance(outcome.error, Unreachable):
                break
            await anyio.lowlevel.checkpoint()
            await self._until_allowed()
            if self._stopped:
                break
            outcome = await self._run(task, node)
            tries += 1
        return outcome

    async def _run(self, task: Task, node: Node | None) -> Outcome:
        job: CommandJob | SshJob | None = None
        error: Exception | None = None
        started, began = time.time(), time.monotonic()
        try:
            job = self._job(task) if node is None else self._job_on(node, task)
            await job.co_run()
        except (CommandError, SshError, JobTimeout, OSError, ValueError) as failure:
            error = failure  # OSError: the disk is full; ValueError: a NUL in an argument
        except BaseException:
            if job is not None and job.last_result is not None and not self._stopped:  # interrupted, not by --halt
                self._keep(task, outputs(job.last_result))
            raise
        result = None if job is None else job.last_result
        return Outcome(result, error, started, result.elapsed if result else time.monotonic() - began)

    def _job(self, task: Task) -> CommandJob:
        numbers = {b"PARALLEL_SEQ": b"%d" % task.sequence, b"PARALLEL_JOBSLOT": b"%d" % task.slot}
        return CommandJob(
            self._shell.command(self._line_with_grant(task)),
            env={**self._environment, **numbers},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            nice=self._options.nice,
            timeout=self._options.timeout,
            idle_timeout=self._options.idle_timeout,
            label=shown(task.line),
        )

    def _line_with_grant(self, task: Task) -> str:
        """Return the line of a command with what its runner was granted, which is not in logs: it differs each time."""
        if not self._options.needs:
            return task.line
        runner = current_job()
        found = {name: granted(name).text(runner) for name in self._options.needs}
        return self._template.fill(task.arguments, task.sequence, task.slot, found)

    def _job_on(self, node: Node, task: Task) -> SshJob:
        return ssh_job()(
            node,
            task.line
            if self._options.nice is None
            else ("nice", f"-n{self._options.nice}", "/bin/sh", "-c", task.line),
            env={"PARALLEL_SEQ": task.sequence, "PARALLEL_JOBSLOT": task.slot, "PARALLEL_SSHHOST": node.hostname},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=self._options.timeout,
            idle_timeout=self._options.idle_timeout,
            label=shown(task.line),
        )

    async def _tell(self, task: Task, outcome: Outcome, node: Node | None) -> None:
        """Print or save the output of a command, and log its outcome."""
        if remark := outcome.remark(task.line):
            await self._printer.say(remark)
        self._keep(task, outputs(outcome.result))
        await self._printer.print(task.number)
        if self._joblog is not None and not outcome.is_restored:
            entry = Entry(
                task.sequence, outcome.started, outcome.runtime, outcome.received, outcome.exit_value, outcome.signal,
                task.line, ":" if node is None else node.name, outcome.usage,
            )  # fmt: skip
            self._joblog.add(entry)

    def _keep(self, task: Task, written: tuple[BinaryIO, BinaryIO]) -> None:
        """Save what a command has written, or hand it over to the printer."""
        if self._options.results is None:
            tag = os.fsencode(" ".join(task.arguments) + "\t") if self._options.tag else None
            self._printer.keep(task.number, written, tag)
        else:
            save(results_directory(self._options.results, task.arguments), task.sequence, written)

    async def _stop(self, task: Task) -> None:
        """Stop as the --halt rule says; this command has met it."""
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()
        assert self._options.halt is not None
        what = "running commands are ended" if self._options.halt.at_once else "no further command is started"
        await self._printer.say(f"--halt: {what}, after: {shown(task.line)}")
        if self._options.halt.at_once:
            self._scheduler.cancel()
