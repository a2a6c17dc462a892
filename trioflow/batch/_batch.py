"""A running batch: a scheduler with a job that adds a job for each command, and another job that reports the outcomes.

```
arguments ──► feed: is a slot free? is it time? ──► a BatchCommandJob, restored or run ──► report ──► printer
  read on demand                   ▲   ▲               up to --retries times            │  │          job log
                                   │   └──────────── the slot is free again ◄───────────┘  ▼          tally
                                   └──────────────── --halt cancels the feed, and drains or cancels the scheduler
```

The scheduler does not keep jobs, so commands take no memory after they are reported. A command is added only when a
slot is free for it, because its line may contain the slot's number (`{%}`).

Decided in docs/decisions: 38-batch.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio

from .. import (
    CommandJob,
    CommandResult,
    Job,
    JobState,
    Scheduler,
    SshError,
    StopReason,
    Unreachable,
    granted,
)
from .. import _posix as posix
from .._command_options import parse_slots
from ..abc import AbstractJob, incidents_of, printable, run_of
from ..jobs.command import _resource_limits, _result
from ..jobs.ssh._wrapper import parse_cpu_count
from . import BatchError, _options, _output, _resources, _sources, _template
from ._command_job import (
    COMMAND_ERRORS,
    OUTCOME_OPTIONS,
    BatchCommandJob,
    KeptFailure,
    shorten_line,
)
from ._reporter import FailedCommand, Reporter

if TYPE_CHECKING:
    # Imported on demand at run time, because importing them would double the import time.
    from .. import LocalNode, SshJob, SshNode

    Node = SshNode | LocalNode

COUNT_CPUS_COMMAND: Final = "getconf _NPROCESSORS_ONLN || nproc"
POLL_INTERVAL: Final = 1.0


def command_lines(
    template: _template.CommandTemplate, product: _sources.SourceProduct, *, tags: bool
) -> Iterator[bytes]:
    """Yield the command lines that would run, with their tags. Block while no arguments are available."""
    argument_lists = (
        arguments
        for arguments in product.iter_arguments(blocking=True)
        if arguments is not None
    )
    for sequence, arguments in enumerate(argument_lists, 1):
        data = os.fsencode(template.fill(arguments, sequence, 1))
        if tags:
            tag = os.fsencode(" ".join(arguments) + "\t")
            data = b"".join(_output.tag_lines([data], tag))
        yield data


class BatchPart(Job[None], takes_slot=False):
    """The job that starts the commands, or the job that reports them. Who looks at the batch cannot cancel it alone."""

    def cancel(self) -> None:
        raise RuntimeError(
            f"{self.label!r} is a part of the batch: drain the batch, or cancel it"
        )

    def end(self) -> None:
        super().cancel()


class BatchScheduler(Scheduler):
    """The scheduler of a batch. Its jobs are the commands, for all that count them, and not those that start them.

    Attributes:
        batch: the batch.

    """

    batch: Batch

    @property
    def jobs_window(self) -> Any:
        """The number of commands that may run at once, over all nodes. Each node has its own limit, too."""
        return Scheduler.jobs_window.__get__(self, type(self))

    @jobs_window.setter
    def jobs_window(self, slots: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        Scheduler.jobs_window.__set__(self, slots)
        self.batch.unreported.total_tokens = slots

    def drain(self) -> None:
        self.batch.end_feed()
        super().drain()

    def cancel(self) -> None:
        self.batch.end_feed()
        super().cancel()

    def try_again(self) -> None:
        """Run the commands that have failed in this batch again, as new jobs. The last try of each counts."""
        self.try_commands_again([*self.batch.reporter.failed])

    def try_commands_again(self, wanted: Sequence[object]) -> list[str]:
        """Run the failed commands among these again, and return their labels.

        Each is a new job with the number of the job whose place it takes, as soon as a slot is free.

        Args:
            wanted: the numbers or the labels of the commands, as they are or as they are printed.

        Raises:
            RuntimeError: none has failed, or the batch is ending.

        """
        failed = self.batch.reporter.failed
        names = {*wanted}
        found = [
            each
            for each in failed.values()
            if {each.sequence, each.label, printable(each.label)} & names
        ]
        commands = [failed.pop(each.sequence) for each in found]
        if not commands:
            raise RuntimeError(
                "no such command has failed, or only such as --keep all keeps as results"
            )
        feed = self.batch.feed_failed
        self.add(BatchPart(feed, commands, label="retry", critical=True, save=None))
        return [shorten_line(command.label) for command in commands]

    def _all_counts(self) -> dict[JobState, int]:
        return self.batch.count_commands()

    def _counted_state(self, job: AbstractJob[Any]) -> JobState | None:
        """Return the state of a command, whose failure may be kept as a result. Of other jobs, count failures only."""
        if isinstance(job, BatchCommandJob):
            has_result = job.state is JobState.SUCCEEDED
            if has_result and isinstance(job.result(), KeptFailure):
                return JobState.FAILED
            return job.state
        return job.state if job.state is JobState.FAILED else None


class Batch:
    """A run of all commands of a batch.

    Args:
        options: the options of the command line.
        template: the template of the command lines.
        product: the arguments of all commands.
        nodes: the nodes to run the commands on, or empty for this machine. Each node runs `options.jobs` commands at
            the same time, by default as many as it has CPUs.
        reporter: reports the commands that have ended.

    Attributes:
        expected_count: the number of all commands, or None while it is unknown.
        unreported: has a token for each command that may run, or is being reported.

    Raises:
        ValueError: the pool has too little of a resource for a single command, or its amount is unknown.

    """

    def __init__(
        self,
        options: _options.Options,
        template: _template.CommandTemplate,
        product: _sources.SourceProduct,
        *,
        nodes: Sequence[Node],
        reporter: Reporter,
    ) -> None:
        self._template: Final = template
        self._product: Final = product
        self.options: Final = options
        self.reporter: Final = reporter
        self.expected_count = product.total
        self._shell: Final = _template.Shell(os.environ)
        self._environment: Final = {
            **posix.environb,
            b"PARALLEL_PID": str(os.getpid()).encode(),
        }
        self._feeder: Final = BatchPart(
            self._feed_commands, label="feed", critical=True, save=None
        )
        # The reporting job is added before the feeder, so that it sees every command.
        report_job = BatchPart(
            self._report_commands, label="report", critical=True, save=None
        )
        pool, pool_limit = _resources.make_pool(options.needs, options.pool)
        slots_per_node = None
        if options.jobs is not None or not nodes:
            slots_per_node = options.jobs or parse_slots("100%")
            slots_per_node = min(slots_per_node, pool_limit or slots_per_node)
        slots = len(nodes or (None,)) * (slots_per_node or 1)
        self.scheduler: Final = BatchScheduler(
            report_job, self._feeder, label="batch", jobs_window=slots, pool=pool, keep_jobs=False,
            log=False,  # the batch reports failures
        )  # fmt: skip
        self.scheduler.batch = self
        self.unreported: Final = anyio.CapacityLimiter(slots)
        given = {name: str(getattr(options, name)) for name in OUTCOME_OPTIONS}
        self.outcome_options: Final = {
            name: text for name, text in given.items() if text != OUTCOME_OPTIONS[name]
        }
        self._has_reported_wait = False
        self.is_stopped = False
        self._is_ended_from_outside = False
        for stream in reporter.printer.streams:
            stream.on_broken = self._stop
        # With a journal, how often each command line has occurred.
        self._line_counts: Final = Counter[str]()
        self._slots: Final = _resource_limits.NumberedSlots()
        self._slots_of_nodes = slots
        self._node_pool: Final = NodePool(
            nodes, slots_per_node, reporter.printer.print_message
        )
        if slots_per_node is None:
            self.scheduler.update(
                [BatchPart(self._add_slots, node, forever=True) for node in nodes]
            )

    def run(
        self, handle_signals: Callable[[int], Callable[[], object] | None] | bool = True
    ) -> int:
        """Run all commands, and return the exit code.

        Args:
            handle_signals: as for `Scheduler.run`.

        Raises:
            BaseException: an error ended the batch: a BatchError or a JournalError.

        """
        try:
            # asyncio is used because it is imported in half the time of trio.
            self.scheduler.run(
                backend="asyncio",
                handle_signals=handle_signals,
                journal=self.options.journal,
            )
            if self.scheduler.stop_reason is StopReason.CRITICAL:
                raise self._find_fatal_error()
        except BaseException:
            with contextlib.suppress(OSError, BatchError):
                self.reporter.print_unreported(self.is_stopped)
            raise
        self.reporter.print_unreported(self.is_stopped)
        if any(stream.is_broken for stream in self.reporter.printer.streams):
            raise BrokenPipeError
        return self.reporter.tally.exit_code or int(self.was_cut_short)

    def unique_label(self, line: str) -> str:
        """Return the label that identifies the next command with this line in a journal."""
        if self.options.journal is None:
            return line
        self._line_counts[line] += 1
        number = self._line_counts[line]
        return line if number == 1 else f"{line}#{number}"

    @property
    def was_interrupted(self) -> bool:
        return self.scheduler.stop_reason is StopReason.INTERRUPTED

    @property
    def was_cut_short(self) -> bool:
        """Whether commands have not run, or not to their end, because of a signal or of who looked at the batch."""
        tally = self.reporter.tally
        has_all = tally.succeeded_count + tally.failed_count == self.expected_count
        return self.was_interrupted or (self._is_ended_from_outside and not has_all)

    def count_commands(self) -> dict[JobState, int]:
        """Return the number of commands by state. Commands to come are IDLE. If they are unknown, IDLE is missing.

        A command that waited for its start when the batch was stopped was not cancelled: it is one of those to come.
        """
        tally = self.reporter.tally
        counts = Counter(
            command.state
            for command in list(self.reporter.unreported)
            if command.started_at is not None or command.state != JobState.CANCELLED
        )
        counts[JobState.SCHEDULED] += counts.pop(JobState.IDLE, 0)
        counts[JobState.SUCCEEDED] += tally.succeeded_count
        counts[JobState.FAILED] += tally.failed_count
        if self.expected_count is not None:
            counts[JobState.IDLE] = max(0, self.expected_count - counts.total())
        return dict(counts)

    def _find_fatal_error(self) -> BaseException:
        """Return the error that ended the batch. The feeder, the reporter or the journal raised it."""
        culprit = self.scheduler.culprit
        reported = [incident.exception for incident in incidents_of(self.scheduler)]
        errors = reported
        if culprit is not None:
            errors = [culprit.raised_exception()]
        return next(error for error in reversed(errors) if error is not None)

    # ---- starting commands

    async def _feed_commands(self) -> None:
        self.reporter.begin()
        sequence = 0
        for arguments in self._product.iter_arguments(blocking=False):
            if arguments is None:
                await anyio.wait_readable(self._product.descriptor)
                continue
            sequence += 1
            if not await self._start(sequence, arguments):
                return
        self.expected_count = sequence

    async def _start(
        self,
        sequence: int,
        arguments: _sources.Arguments,
        failed: FailedCommand | None = None,
    ) -> bool:
        """Add the job of a command when a slot is free. Return False if the batch has stopped before.

        A command that has failed is said to have until then.
        """
        # Take a slot only when there is a command for it: commands whose node is unreachable wait for slots, too.
        await self.unreported.acquire_on_behalf_of(sequence)
        node = None
        if self.options.nodes:
            node = await self._node_pool.wait_for_slot()
        await self.wait_until_allowed()
        if self.is_stopped:
            self._release_node(node)
            return False
        slot = self._slots.take_lowest()
        line = self._template.fill(arguments, sequence, slot)
        label = None
        if failed is not None:
            await self._take_back(failed)
            label = failed.label
        command = BatchCommandJob(self, sequence, slot, arguments, line, node, label)
        if self.options.journal is not None:
            read = run_of(self._feeder).prefetch_result(command.path)
            if read is not None:
                await anyio.to_thread.run_sync(read)
        self.reporter.add(command)
        self.scheduler.add(command)
        return True

    async def feed_failed(self, commands: list[FailedCommand]) -> None:
        """Add a new job for each of these commands, as soon as slots are free."""
        for failed in commands:
            if not await self._start(failed.sequence, failed.arguments, failed):
                return

    async def _take_back(self, failed: FailedCommand) -> None:
        """Let the failure of a command count no longer: the scheduler drops its job, and its label is free."""
        self.reporter.take_back(failed)
        for job in list(self.scheduler):
            if getattr(job, "sequence", None) == failed.sequence:
                with contextlib.suppress(*COMMAND_ERRORS):
                    await job

    def _release_node(self, node: Node | None) -> None:
        # A command without a node was on this machine, where only the window limits the commands.
        if node is not None:
            self._node_pool.release(node)

    async def _add_slots(self, node: Node) -> None:
        """Add the slots of a node, also to the window, unless who looks at the batch has set another."""
        # The window had a slot for each node.
        more = await self._node_pool.add_slots_for_cpus(node) - 1
        is_own = self.scheduler.jobs_window == self._slots_of_nodes
        self._slots_of_nodes += more
        if is_own:
            self.scheduler.jobs_window = self._slots_of_nodes

    async def wait_until_allowed(self) -> None:
        """Wait until enough memory is free for a start, or until the batch has stopped. Report a wait once."""
        find_wait = self.options.memfree
        while find_wait is not None and not self.is_stopped:
            wait = find_wait()
            if not wait:
                return
            if not self._has_reported_wait:
                self._has_reported_wait = True
                await self.reporter.printer.print_message(
                    f"no command starts until {wait}"
                )
            await anyio.sleep(POLL_INTERVAL)

    def load(self, value: Any) -> CommandResult | KeptFailure:
        """Return the journal's record of a command.

        Raises:
            ValueError: it is a failure, and `--keep all` is not given, so that the command runs again.
            ValueError: a limit ended the command, and that limit has changed, or another option that matters has.

        """
        if isinstance(value, CommandResult):
            return value
        if self.options.keep != "all":
            raise ValueError("it failed, and --keep all is not given")
        failure = KeptFailure(**value)
        limit = self.options.timeout
        if failure.is_idle:
            limit = self.options.idle_timeout
        if failure.limit not in (None, limit):
            raise ValueError(
                f"it was ended at a limit of {failure.limit} s, which is now another"
            )
        for name in OUTCOME_OPTIONS:
            if failure.options.get(name) != self.outcome_options.get(name):
                option = name.replace("_", "-")
                raise ValueError(f"it failed with another --{option}")
        return failure

    def needs_shell(self, line: str) -> bool:
        return self._shell.command(line)[1:] == ["-c", line]

    def make_attempt_job(self, command: BatchCommandJob) -> CommandJob | SshJob:
        options = self.options
        node = command.node
        line = command.line
        stdout, stderr = self._output_streams(command)
        if node is not None:
            from .. import SshJob

            return SshJob(
                node,
                ("/bin/sh", "-c", line),  # `SshJob` would fill in {node} in a line
                env={"PARALLEL_SEQ": command.sequence, "PARALLEL_JOBSLOT": command.slot,
                     "PARALLEL_SSHHOST": node.hostname},
                stdout=stdout, stderr=stderr, timeout=options.timeout,
                idle_timeout=options.idle_timeout, label=shorten_line(line),
            )  # fmt: skip
        environment = {
            **self._environment,
            b"PARALLEL_SEQ": b"%d" % command.sequence,
            b"PARALLEL_JOBSLOT": b"%d" % command.slot,
        }
        if options.needs:
            texts = {name: granted(name).text(command) for name in options.needs}
            line = self._template.fill(
                command.arguments, command.sequence, command.slot, texts
            )
        return CommandJob(
            self._shell.command(line), env=environment, memory_limit=options.memory_limit,
            pin="slot" if options.pin else None, stdout=stdout, stderr=stderr, timeout=options.timeout,
            idle_timeout=options.idle_timeout, label=shorten_line(command.line),
        )  # fmt: skip

    def _output_streams(self, command: BatchCommandJob) -> tuple[Any, Any]:
        """Return the output streams of an attempt."""
        if not self.options.line_buffer:
            return subprocess.PIPE, subprocess.PIPE
        print_live = partial(self.reporter.printer.print_live, command.sequence)
        command.live_outputs = (
            _output.TaggedLineStream(partial(print_live, 0), command.tag),
            _output.TaggedLineStream(partial(print_live, 1), command.tag),
        )
        return command.live_outputs

    async def find_other_node(self, error: Unreachable) -> Node | None:
        """Wait for a slot on another node than the node of the error, which is reported once, and return that node.

        Raises:
            Unreachable: no reachable node is left, or the batch has stopped.

        """
        if await self._node_pool.report_unreachable(error) and not self.is_stopped:
            return await self._node_pool.wait_for_slot()
        raise error

    # ---- the end of commands

    async def _report_commands(self) -> None:
        async for job in self.scheduler.as_settled():
            if not isinstance(job, BatchCommandJob):
                continue
            if job.started_at is not None or not self.is_stopped:
                must_stop = await self.reporter.report(job)
                self._slots.give_back(job.slot)
                if must_stop and not self.is_stopped:
                    await self._stop_by_halt_rule(job)
                self._release_node(job.node)
                self.unreported.release_on_behalf_of(job.sequence)

    async def _stop_by_halt_rule(self, command: BatchCommandJob) -> None:
        self._stop()
        assert self.options.halt is not None
        effect = "starting no more commands"
        if self.options.halt.is_immediate:
            effect = "ending the running commands"
        await self.reporter.printer.print_message(
            f"--halt: {effect} after: {shorten_line(command.line)}"
        )
        if self.options.halt.is_immediate:
            self.scheduler.cancel()

    def _stop(self) -> None:
        """Start no more commands, and end with those that run."""
        self.is_stopped = True
        with contextlib.suppress(RuntimeError):
            # The run has ended.
            self.scheduler.drain()

    def end_feed(self) -> None:
        """Start no more commands, because the scheduler is about to be drained or cancelled."""
        self._is_ended_from_outside |= not self.is_stopped
        self.is_stopped = True
        self._feeder.end()


class NodePool:
    """The free slots, each on a node.

    Args:
        nodes: the nodes.
        slots_per_node: the number of slots on each, or None for a slot for each of its CPUs, which `add_slots_for_cpus`
            adds.
        print_message: prints a message to the user.

    """

    def __init__(
        self,
        nodes: Sequence[Node],
        slots_per_node: int | None,
        print_message: Callable[[str], Awaitable[Any]],
    ) -> None:
        self._print_message: Final = print_message
        # All nodes, until a node proves to be unreachable.
        self._reachable_nodes: Final = set(nodes)
        self._free_slots: Final = deque(list(nodes) * (slots_per_node or 0))
        self._semaphore: Final = anyio.Semaphore(
            len(self._free_slots), fast_acquire=True
        )

    def release(self, node: Node) -> None:
        """Add a free slot on a node."""
        self._free_slots.append(node)
        self._semaphore.release()

    async def wait_for_slot(self) -> Node:
        while True:
            await self._semaphore.acquire()
            node = self._free_slots.popleft()
            if node in self._reachable_nodes or not self._reachable_nodes:
                return node

    async def add_slots_for_cpus(self, node: Node) -> int:
        """Add a slot for each CPU of a node, and return their number. If it is unknown, add a single slot."""
        from .. import SshJob

        count_job = SshJob(
            node,
            COUNT_CPUS_COMMAND,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        cpus = 1
        with contextlib.suppress(SshError):
            cpus = parse_cpu_count((await count_job.co_run()).stdout)
        for _ in range(cpus):
            self.release(node)
        return cpus

    async def report_unreachable(self, error: Unreachable) -> bool:
        """Report an unreachable node once, and return whether another node can be reached."""
        if error.node in self._reachable_nodes:
            self._reachable_nodes.remove(error.node)
            consequence = "; no nodes are left: the remaining commands fail"
            if self._reachable_nodes:
                consequence = ""
            await self._print_message(f"{_result.text_with_notes(error)}{consequence}")
        return bool(self._reachable_nodes)
