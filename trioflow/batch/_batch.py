"""A running batch: a scheduler in which one job adds a job for each command, and another reports the outcomes.

```
arguments ──► feed: is a slot free? is it time? ──► a BatchCommandJob, restored or run ──► report ──► printer
  read on demand                   ▲   ▲               up to --retries times            │  │          job log
                                   │   └──────────── the slot is free again ◄───────────┘  ▼          tally
                                   └──────────────── --halt cancels the feed, and drains or cancels the scheduler
```

The scheduler does not keep jobs, so commands take no memory after they are reported. A command is added only when a
slot is free for it, because its line may contain the slot's number (`{%}`).
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import time
from collections import Counter, deque
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
from ..abc import AbstractJob, Work, restoration_of
from ..jobs.command._resource_limits import NumberedSlots
from ._batch_pool import make_pool
from ._halt_rule import CommandTally
from ._joblog import CommandOutcome, Joblog, open_outputs, shorten_line
from ._options import Options
from ._output import Printer, PrintGuard, TaggedLineStream, results_directory, save_output, tag_lines
from ._quantities import parse_slots
from ._quoting import Shell
from ._sources import Arguments, SourceProduct
from ._start_conditions import StartCondition
from ._template import CommandTemplate, ReplacementStrings

if TYPE_CHECKING:  # imported on demand at run time, because importing them would double the import time
    from .. import LocalNode, SshJob, SshNode
    from ._jsonl_results import JsonlResults

    Node = SshNode | LocalNode

POLL_INTERVAL: Final = 1.0
"""The time between two polls of the start conditions, in seconds."""
COUNT_CPUS_COMMAND: Final = "getconf _NPROCESSORS_ONLN || nproc"
MAX_NAMED_FAILURES: Final = 5
"""The maximum number of failed commands that the summary names. Further failures are only counted."""
COMMAND_ERRORS: Final = (CommandError, SshError, JobTimeout, OSError, ValueError)
"""Errors that make a single command fail. All other errors end the batch.

An OSError is raised, for example, if the disk is full, and a ValueError if an argument contains a NUL.
"""


def command_lines(
    template: CommandTemplate, product: SourceProduct, tag: CommandTemplate | None = None
) -> Iterator[bytes]:
    """Yield the command lines that would run, with their tags. Block while no arguments are available."""
    argument_lists = (arguments for arguments in product.iter_arguments(blocking=True) if arguments is not None)
    for sequence, arguments in enumerate(argument_lists, 1):
        data = os.fsencode(template.fill(arguments, sequence, 1))
        yield data if tag is None else b"".join(tag_lines([data], fill_tag(tag, arguments, sequence, 1)))


def fill_tag(tag: CommandTemplate, arguments: Arguments, sequence: int, slot: int) -> bytes:
    """Return the tag to print before each line of a command's output, with a tab at its end."""
    return os.fsencode(tag.fill(arguments, sequence, slot) + "\t")


class BatchCommandJob(AbstractJob[CommandResult], keeps_time=True):  # the timeout applies to the job of each attempt
    """The job of one command of a batch. If the command's node is unreachable, the job tries another node.

    Args:
        batch: the batch.
        sequence: the number of the command. Commands are numbered from 1, without gaps.
        slot: the number of the command's slot, which is the lowest free number from 1.
        arguments: the arguments of the command, one from each source.
        line: the command line, which may still contain the placeholders of resources.
        node: the node to run the command on; None for this machine.

    """

    __slots__ = (
        "_attempt_job",
        "_batch",
        "_start_time",
        "_start_timestamp",
        "arguments",
        "line",
        "live_outputs",
        "node",
        "sequence",
        "slot",
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
        self.live_outputs: tuple[TaggedLineStream, TaggedLineStream] | None = None  # set with `--line-buffer`
        self._attempt_job: CommandJob | SshJob | None = None  # the job of the latest attempt
        self._start_timestamp, self._start_time = time.time(), time.monotonic()
        super().__init__(label=batch.unique_label(line), retry=batch.retry, needs=batch.options.needs)

    async def co_run(self) -> CommandResult:
        """Run the command once, on the first node that can be reached.

        Raises:
            CommandError, SshError, JobTimeout: the command failed.
            OSError: for example, the disk is full.
            ValueError: the command line contains a NUL.

        """
        while True:
            self._attempt_job, self._start_timestamp, self._start_time = None, time.time(), time.monotonic()
            self._attempt_job = self._batch.make_attempt_job(self)
            try:
                return await self._attempt_job.co_run()
            except Unreachable as error:
                self.node = await self._batch.next_reachable_node(error)

    def for_journal(self) -> Work:
        """Return the command line and its files. The environment is left out, because it differs in each run."""
        reads, writes = (
            [template.fill(self.arguments, self.sequence, self.slot) for template in templates]
            for templates in (self._batch.reads, self._batch.writes)
        )
        return Work(what="command", arguments=[self.line], reads=reads, writes=writes)

    @property
    def last_result(self) -> CommandResult | None:
        """The result of the latest attempt, even a failed one; None if no process was started."""
        return None if self._attempt_job is None else self._attempt_job.last_result

    def outcome(self) -> CommandOutcome:
        """Return the outcome of the command.

        Raises:
            BaseException: the command failed with an error that ends the batch.

        """
        error, result = self.raised_exception(), self.result() if self.restored else self.last_result
        if error is not None and not isinstance(error, COMMAND_ERRORS):
            raise error
        runtime = time.monotonic() - self._start_time if result is None else result.elapsed
        restoration = restoration_of(self)
        if restoration is not None and restoration.settled_at is not None:
            self._start_timestamp = restoration.settled_at - runtime
        printed_bytes = 0 if self.live_outputs is None else self.live_outputs[0].received_bytes
        received_bytes = printed_bytes or open_outputs(result)[0].seek(0, io.SEEK_END)
        return CommandOutcome(
            self.sequence, self.line, result, error, self._start_timestamp, runtime, self.restored, received_bytes,
            ":" if self.node is None else self.node.name,
        )  # fmt: skip

    @property
    def tag(self) -> bytes | None:
        """The tag to print before each line of the command's output; None for no tag."""
        tag = self._batch.tag
        if tag is None:
            return None
        return self._batch.printer.shown_bytes(tag.fill(self.arguments, self.sequence, self.slot)) + b"\t"

    @property
    def echoed_line(self) -> bytes:
        """The command line to print before the output of the command; empty without `--verbose`."""
        return self._batch.printer.shown_bytes(self.line) + b"\n" if self._batch.options.verbose else b""


def import_ssh_job() -> type[SshJob]:
    """Import the class `SshJob` on demand."""
    from .. import SshJob

    return SshJob


class BatchScheduler(Scheduler):
    """The scheduler of a batch. It does not log failures, because the batch reports them.

    Its journal counts the commands, but not the jobs that start and report them.
    """

    logs_failures = False
    counted_kind = BatchCommandJob


class Batch:
    """A run of all commands of a batch.

    Args:
        options: the options of the command line.
        template: the template of the command lines.
        product: the arguments of all commands.
        strings: the replacement strings that names of files may contain.
        tag: the template of the tag before each line of output; None for no tag.
        nodes: the nodes to run the commands on; empty for this machine. Each node runs `options.jobs` commands at the
            same time, by default as many as it has CPUs.
        print_guard: called for each print; returns the context manager around it.
        joblog: the job log; None for no job log.
        jsonl_results: the file of results in JSON Lines; None for no such file.
        on_progress: called after the end of each command.

    Attributes:
        tally: the numbers of commands that succeeded and failed.
        expected_count: the number of all commands; None while it is unknown.
        restored_count: the number of commands that were restored from the journal.
        restored_times: the times, in seconds since 1970, when the first and the last of these ended; empty if none.
        failures: the lines of the first failed commands, with the reasons.

    Raises:
        ValueError: the pool has too little of a resource for a single command, or its amount is unknown.
        ValueError: the name of a file contains a replacement string that is not supported.

    """

    def __init__(
        self,
        options: Options,
        template: CommandTemplate,
        product: SourceProduct,
        strings: ReplacementStrings,
        *,
        tag: CommandTemplate | None,
        nodes: Sequence[Node],
        print_guard: PrintGuard,
        joblog: Joblog | None,
        jsonl_results: JsonlResults | None,
        on_progress: Callable[[], object],
    ) -> None:
        self._template: Final = template
        self._product: Final = product
        self._column_names: Final = strings.columns
        self.options: Final = options
        self.tag: Final = tag
        self.reads: Final = [strings.parse_text_template(name) for name in options.reads]
        self.writes: Final = [strings.parse_text_template(name) for name in options.writes]
        self._results_path_template: Final = (
            None if options.results is None else strings.parse_text_template(options.results)
        )
        self._shell: Final = Shell(os.environ)
        self._joblog: Final = joblog
        self._jsonl_results: Final = jsonl_results
        self._on_progress: Final = on_progress
        total = product.count_commands() if options.halt is not None and options.halt.is_percentage else product.total
        self.tally: Final = CommandTally(options.halt, total)
        self.expected_count = product.total
        self.restored_count = 0
        self.restored_times: tuple[float, ...] = ()
        self.failures: Final[list[tuple[str, str]]] = []
        self.printer: Final = Printer(in_order=options.keep_order, print_guard=print_guard)
        self._environment: Final = {**posix.environb, b"PARALLEL_PID": str(os.getpid()).encode()}
        self.retry: Final = self._with_retries if options.retries != 1 else None
        self._feeder: Final = Job(self._feed_commands, label="feed", critical=True, save=None)
        # The reporter is added before the feeder, so that it sees every command.
        reporter = Job(self._report_commands, label="report", critical=True, save=None)
        pool, pool_limit = make_pool(options.needs, options.pool)
        self.scheduler: Final = BatchScheduler(reporter, self._feeder, label="batch", pool=pool, keep_jobs=False)
        self._unreported: Final[dict[BatchCommandJob, None]] = {}
        self._start_conditions: Final = [
            condition for condition in (options.memfree, options.load) if condition is not None
        ]
        self._reported_conditions = set[StartCondition]()
        self._is_stopped = False
        # ---- capacity: for each command that may start, `_free_slots` contains the node
        self._line_counts: Final = Counter[str]()  # with a journal, how often each command line has occurred
        self._slots: Final = NumberedSlots()
        self._reachable_nodes: Final = set(nodes)  # all nodes, until one proves to be unreachable
        self._free_slots: Final[deque[Node | None]] = deque()
        if options.jobs is None and nodes:
            self.scheduler.update([Job(self._add_slots_for_cpus, node, forever=True) for node in nodes])
        else:
            slots_per_node = parse_slots("100%") if options.jobs is None else options.jobs
            self._free_slots.extend(list(nodes or (None,)) * min(slots_per_node, pool_limit or slots_per_node))
        self._free_slot_semaphore: Final = anyio.Semaphore(len(self._free_slots), fast_acquire=True)

    def run(self, handle_signals: Callable[[int], Callable[[], object] | None] | bool = True) -> int:
        """Run all commands, and return the exit code.

        Args:
            handle_signals: as for `Scheduler.run`.

        Raises:
            BaseException: an error ended the batch: a KeyboardInterrupt, a BatchError, a JournalError, or an OSError of
                an output stream.

        """
        try:
            # asyncio is used because it is imported in half the time of trio.
            self.scheduler.run(backend="asyncio", handle_signals=handle_signals, journal=self.options.journal)
        except BaseException:
            with contextlib.suppress(OSError):
                self._print_unreported()
            raise
        if self.scheduler.stop_reason is StopReason.CRITICAL:
            raise self._find_fatal_error()
        self._print_unreported()
        return self.tally.exit_code

    def unique_label(self, line: str) -> str:
        """Return the label of the next command with this line, by which a journal identifies it."""
        if self.options.journal is None:
            return line
        self._line_counts[line] += 1
        number = self._line_counts[line]
        return line if number == 1 else f"{line}#{number}"

    @property
    def running_count(self) -> int:
        """The number of commands that have been started but not reported yet."""
        return len(self._unreported)

    @property
    def was_interrupted(self) -> bool:
        """Whether a signal ended the batch."""
        return self.scheduler.stop_reason is StopReason.INTERRUPTED

    def _find_fatal_error(self) -> BaseException:
        """Return the error that ended the batch. The feeder, the reporter or the journal raised it."""
        culprit = self.scheduler.culprit
        reported = [incident.exception for incident in self.scheduler.incidents]
        errors = reported if culprit is None else [culprit.raised_exception()]
        return next(error for error in reversed(errors) if error is not None)

    # ---- starting commands

    async def _feed_commands(self) -> None:
        """Add each command to the scheduler when it may start."""
        sequence, next_start = 0, time.monotonic()
        for arguments in self._product.iter_arguments(blocking=False):
            if arguments is None:
                await anyio.wait_readable(self._product.descriptor)
                continue
            # Take a slot only when there is a command for it: commands whose node is unreachable wait for slots, too.
            node = await self._wait_for_slot()
            if self.options.delay:
                await anyio.sleep(max(0, next_start - time.monotonic()))
            await self._wait_until_allowed()
            if self._is_stopped:
                self._release_slot(node)
                return
            sequence, slot = sequence + 1, self._slots.take_lowest()
            line = self._template.fill(arguments, sequence, slot)
            command = BatchCommandJob(self, sequence, slot, arguments, line, node)
            self._unreported[command] = None
            self.scheduler.add(command)
            if not command.is_settled():  # a command that the journal restores settles at once, and needs no delay
                next_start = time.monotonic() + self.options.delay
        self.expected_count = sequence

    async def _wait_until_allowed(self) -> None:
        """Wait until all conditions allow a start, or until the batch has stopped. Report each condition once."""
        while not self._is_stopped:
            unmet = [(condition, condition.describe_wait()) for condition in self._start_conditions]
            unmet = [(condition, wait) for condition, wait in unmet if wait is not None]
            if not unmet:
                return
            for condition, wait in unmet:
                if condition not in self._reported_conditions:
                    self._reported_conditions.add(condition)
                    await self.printer.print_message(f"no command starts until {wait}")
            await anyio.sleep(POLL_INTERVAL)

    def _with_retries(self, attempt: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
        """Wrap an attempt so that it is retried as `--retries` allows."""

        async def attempt_with_retries() -> Any:
            attempts_left = self.options.retries  # if this is 0, the count goes below 0, and there is no limit
            while True:
                attempts_left -= 1
                try:
                    return await attempt()
                except COMMAND_ERRORS as error:
                    may_retry = attempts_left and not isinstance(error, Unreachable)
                    if may_retry:
                        await self._wait_until_allowed()
                    if not may_retry or self._is_stopped:
                        raise

        return attempt_with_retries

    def make_attempt_job(self, command: BatchCommandJob) -> CommandJob | SshJob:
        """Create the job for one attempt of a command."""
        options, node, line = self.options, command.node, command.line
        stdout, stderr = self._output_streams(command)
        if node is not None:
            return import_ssh_job()(
                node,
                line if options.nice is None else ("nice", f"-n{options.nice}", "/bin/sh", "-c", line),
                env={"PARALLEL_SEQ": command.sequence, "PARALLEL_JOBSLOT": command.slot,
                     "PARALLEL_SSHHOST": node.hostname},
                stdout=stdout, stderr=stderr, timeout=options.timeout,
                idle_timeout=options.idle_timeout, label=shorten_line(line),
            )  # fmt: skip
        numbers = {b"PARALLEL_SEQ": b"%d" % command.sequence, b"PARALLEL_JOBSLOT": b"%d" % command.slot}
        if options.needs:
            granted_texts = {name: granted(name).text(command) for name in options.needs}
            line = self._template.fill(command.arguments, command.sequence, command.slot, granted_texts)
        return CommandJob(
            self._shell.command(line), env={**self._environment, **numbers}, nice=options.nice,
            memory_limit=options.memory_limit, pin="slot" if options.pin else None,
            stdout=stdout, stderr=stderr, timeout=options.timeout,
            idle_timeout=options.idle_timeout, label=shorten_line(command.line),
        )  # fmt: skip

    def _output_streams(self, command: BatchCommandJob) -> tuple[Any, Any]:
        """Return the output streams of an attempt. With `--line-buffer --verbose`, first print the command line."""
        if not self.options.line_buffer:
            return subprocess.PIPE, subprocess.PIPE
        if command.live_outputs is None:
            command.live_outputs = (self._make_tagged_stream(command, 0), self._make_tagged_stream(command, 1))
            command.live_outputs[0].pass_on_line(command.echoed_line)
        return command.live_outputs

    def _make_tagged_stream(self, command: BatchCommandJob, stream: int) -> TaggedLineStream:
        return TaggedLineStream(lambda data: self.printer.print_live(command.sequence, stream, data), command.tag)

    # ---- capacity of the nodes

    def _release_slot(self, node: Node | None) -> None:
        self._free_slots.append(node)
        self._free_slot_semaphore.release()

    async def _wait_for_slot(self) -> Node | None:
        """Wait for a free slot, and return its node; None for this machine."""
        while True:
            await self._free_slot_semaphore.acquire()
            node = self._free_slots.popleft()
            if node is None or node in self._reachable_nodes or not self._reachable_nodes:
                return node

    async def _add_slots_for_cpus(self, node: Node) -> None:
        """Add a slot for each CPU of a node. If the number of CPUs is unknown, add one slot."""
        count_job = import_ssh_job()(
            node, COUNT_CPUS_COMMAND, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
        )
        cpus = 1
        with contextlib.suppress(SshError, ValueError):
            cpus = max(1, int((await count_job.co_run()).stdout))
        for _ in range(cpus):
            self._release_slot(node)

    async def next_reachable_node(self, error: Unreachable) -> Node | None:
        """Report an unreachable node once, wait for a free slot on another node, and return that node.

        Raises:
            Unreachable: no reachable node is left, or the batch has stopped.

        """
        if error.node in self._reachable_nodes:
            self._reachable_nodes.remove(error.node)
            consequence = "" if self._reachable_nodes else "; no nodes are left: the remaining commands fail"
            await self.printer.print_message(f"{error}{consequence}")
        if self._reachable_nodes and not self._is_stopped:
            return await self._wait_for_slot()
        raise error

    # ---- reporting outcomes

    async def _report_commands(self) -> None:
        async for job in self.scheduler.as_settled():
            if isinstance(job, BatchCommandJob) and job.state is not JobState.CANCELLED:
                await self._report_command(job)
                self._release_slot(job.node)

    async def _report_command(self, command: BatchCommandJob) -> None:
        """Print or save the output of a command, log its outcome, and count it. Stop the batch if `--halt` says so."""
        outcome = command.outcome()
        self._slots.give_back(command.slot)
        if outcome.message:
            await self.printer.print_message(outcome.message)
        if self._jsonl_results is not None:
            self._jsonl_results.add(outcome, command.arguments)
        self._save_output(command, open_outputs(outcome.result))
        await self.printer.print_kept(command.sequence)
        if self._joblog is not None and not outcome.is_restored:
            self._joblog.add(outcome)
        if outcome.has_failed and len(self.failures) < MAX_NAMED_FAILURES:
            self.failures.append((command.line, outcome.reason))
        if outcome.is_restored:
            ended_at = outcome.start_timestamp + outcome.runtime
            self.restored_count += 1
            times = (ended_at, *self.restored_times)
            self.restored_times = (min(times), max(times))
        must_stop = self.tally.add(outcome.exit_code)
        self._on_progress()
        if must_stop and not self._is_stopped:
            await self._stop_by_halt_rule(command)

    def _save_output(self, command: BatchCommandJob, outputs: tuple[BinaryIO, BinaryIO]) -> None:
        """Save the output of a command, or pass it to the printer."""
        del self._unreported[command]
        if self._jsonl_results is not None:
            return
        if self._results_path_template is None:
            prefix = b"" if self.options.line_buffer else command.echoed_line
            self.printer.keep_output(command.sequence, prefix, outputs, command.tag)
            return
        path = self._results_path_template.fill(command.arguments, command.sequence, command.slot)
        if not self._results_path_template.has_placeholders:
            path = results_directory(path, command.arguments, self._column_names) + "/"
        save_output(path, command.sequence, outputs)

    async def _stop_by_halt_rule(self, command: BatchCommandJob) -> None:
        """Stop the batch, because this command has met the rule of `--halt`."""
        self._is_stopped = True
        self._feeder.cancel()
        assert self.options.halt is not None
        effect = "ending the running commands" if self.options.halt.is_immediate else "starting no more commands"
        await self.printer.print_message(f"--halt: {effect} after: {shorten_line(command.line)}")
        if self.options.halt.is_immediate:
            self.scheduler.cancel()
        else:
            self.scheduler.drain()

    def _print_unreported(self) -> None:
        """Print or save the output of commands that the run has not reported, for example after an interruption."""
        for command in list(self._unreported):
            if command.last_result is not None and (command.is_done() or not self._is_stopped):
                self._save_output(command, open_outputs(command.last_result))
        self.printer.flush()
