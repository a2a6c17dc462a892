"""`BatchCommandJob`: the job of a command, its outcome, and the part of its failure that a journal keeps.

The outcome is in the terms of a shell, of GNU parallel, and of the summary of the batch.
"""

from __future__ import annotations

import contextlib
import io
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal

import anyio

from .. import (
    CommandError,
    CommandJob,
    CommandResult,
    JobCancelled,
    JobState,
    JobTimeout,
    SshError,
    Unreachable,
)
from .._core.base._text_forms import fit
from ..abc import AbstractJob, LocalDirectory, Work, restoration_of, run_of
from ..jobs.command._output_sinks import SPOOL_LIMIT_BYTES, OutputSpool
from ..jobs.command._result import MAX_COMMAND_LENGTH, text_with_notes
from ..jobs.posix._processes import describe_exit
from ._output import TaggedLineStream
from ._sources import Arguments

if TYPE_CHECKING:
    from .. import SshJob
    from ._batch import Batch, Node

KILLED_EXIT_VALUE: Final = -1
NOT_FOUND_CODE: Final = 127
NOT_FOUND_PATTERN: Final = re.compile(
    rb": (command )?not found\b|\bcommand not found: "
)
"""How a shell says that it has not found a command. The code alone could also mean that a shared library is missing."""
NOT_STARTED_CODE: Final = 126
KILLED_CODE: Final = 255
"""Exit codes for commands that did not exit by themselves. As in shells, 126 means that the program could not be
started, and 128 plus the number of a signal means that this signal ended it. 255 means that trioflow ended the command,
or that the node was unreachable or lost."""
NOT_STARTED_CODES: Final = (NOT_STARTED_CODE, NOT_FOUND_CODE)
"""The exit codes of a shell for a program that cannot be executed, or is not found. The next batch tries again."""
COMMAND_ERRORS: Final = (CommandError, SshError, JobTimeout, OSError, ValueError)
"""Errors that make a single command fail. All other errors end the batch. An OSError is raised, for example, if the
disk is full, and a ValueError if an argument contains a NUL."""
OUTCOME_OPTIONS: Final = {
    "retries": "1", "memory_limit": "None", "pin": "False", "needs": "{}", "nodes": "()", "ssh_config": "None",
}  # fmt: skip
"""The options, with their defaults, that can turn a failure into a success. A timeout counts if it ended a command."""


@dataclass(frozen=True, slots=True)
class CommandOutcome:
    """The outcome of a command's last attempt.

    Attributes:
        sequence: the number of the command, from 1.
        command: the command line.
        result: the result of the process, or None if no process was started.
        error: the error that the command failed with, or None if it succeeded.
        start_timestamp: the time of the start, in seconds since 1970.
        runtime: the duration in seconds.
        is_restored: whether the outcome was restored from a journal instead of running the command.
        received_bytes: the number of bytes of standard output that this program has read.
        host: the name of the node, or `:` for this machine.
        is_kept: whether a journal with `--keep all` keeps the outcome.
        in_shell: whether a shell ran the command line.

    """

    sequence: int
    command: str
    result: CommandResult | None
    error: Exception | None
    start_timestamp: float
    runtime: float
    is_restored: bool = False
    received_bytes: int = 0
    host: str = ":"
    is_kept: bool = True
    in_shell: bool = False

    @property
    def has_large_output(self) -> bool:
        """Whether it takes so long to save the outputs that a thread should do it."""
        sizes = [output.seek(0, io.SEEK_END) for output in open_outputs(self.result)]
        return sum(sizes) > SPOOL_LIMIT_BYTES

    @property
    def has_failed(self) -> bool:
        return self.error is not None

    @property
    def signal(self) -> int:
        if not self.result:
            return 0
        return int(self.result.signal or 0)

    @property
    def joblog_exit_value(self) -> int:
        """The exit code in a job log.

        It is 0 if a signal ended the command, -1 if trioflow ended it, 126 if it could not be started, and 255 if its
        node was unreachable or lost. If a timeout has only ended processes of a failed command, it is that command's.
        """
        if isinstance(self.error, SshError):
            return KILLED_CODE
        if isinstance(self.error, JobCancelled):
            return KILLED_EXIT_VALUE
        if isinstance(self.error, JobTimeout):
            if (
                self.result is not None
                and self.error.waits
                and self.result.returncode > 0
            ):
                return self.result.returncode
            return KILLED_EXIT_VALUE
        if self.result is None:
            return NOT_STARTED_CODE
        if self.error is not None and not isinstance(self.error, CommandError):
            return KILLED_EXIT_VALUE
        if self.signal:
            return 0
        return self.result.returncode

    @property
    def table_exit_code(self) -> int | None:
        """The exit code in a table of results: as in a job log, but None if a signal or trioflow ended the command.

        So no crash has the exit code 0 there.
        """
        if self.signal or self.joblog_exit_value == KILLED_EXIT_VALUE:
            return None
        return self.joblog_exit_value

    @property
    def exit_code(self) -> int:
        """The exit code that a shell would report."""
        if self.joblog_exit_value == KILLED_EXIT_VALUE:
            return KILLED_CODE
        if self.signal:
            return 128 + self.signal
        return self.joblog_exit_value

    @property
    def message(self) -> str:
        """The message to print about a new failure, or "" if there is none, or if other output explains it."""
        if self.is_restored or self.error is None:
            return ""
        if isinstance(self.error, JobTimeout | JobCancelled):
            return f"{self.reason}: {shorten_line(self.command)}"
        if isinstance(self.error, Unreachable):
            # The batch reports each unreachable node once.
            return ""
        if isinstance(self.error, CommandError) and self.result is not None:
            return ""
        if isinstance(self.error, (CommandError, SshError)):
            return text_with_notes(self.error)
        if isinstance(self.error, OSError):
            return f"{shorten_line(self.command)}: {self.error}"
        return str(self.error)

    @property
    def reason(self) -> str:
        """The reason for the failure, in a few words. Read this only if the command failed."""
        if isinstance(self.error, JobTimeout):
            limit = "--timeout" if self.error.missing is None else "--idle-timeout"
            if not self.error.waits or self.result is None:
                return f"ended by {limit}"
            return f"{describe_exit(self.result.returncode)}; what it left running was ended by {limit}"
        if self.result is not None and isinstance(self.error, CommandError):
            code = self.result.returncode
            errors = self.error.stderr or b""
            if code == NOT_FOUND_CODE and NOT_FOUND_PATTERN.search(errors):
                return f"{describe_exit(code)}: command not found"
            return describe_exit(code)
        return str(self.error)

    @property
    def failure_kind(self) -> tuple[object, ...]:
        """A key that is equal for failures of the same kind, whose commands share a line in the summary."""
        if isinstance(self.error, JobTimeout) or self.result is not None:
            return (self.reason,)
        cause = None if self.error is None else self.error.__cause__
        return type(self.error), self.host, getattr(cause, "errno", None)


def open_outputs(result: CommandResult | None) -> tuple[BinaryIO, BinaryIO]:
    """Open the captured standard output and standard error of a command. A stream that was not captured is empty."""
    return _open_output(result, "stdout"), _open_output(result, "stderr")


def _open_output(
    result: CommandResult | None, stream: Literal["stdout", "stderr"]
) -> BinaryIO:
    if result is not None:
        with contextlib.suppress(ValueError):
            # The stream was not captured.
            return result.open(stream)
    return io.BytesIO()


def shorten_line(line: str) -> str:
    return fit(line, MAX_COMMAND_LENGTH, ellipsis="...")


@dataclass(frozen=True)
class KeptFailure:
    """The failure of a command, as a journal keeps it with `--keep all`."""

    result: CommandResult
    limit: float | None
    """After a timeout, its seconds, `is_idle` for an idle timeout, and `waits` as in `JobTimeout`."""
    is_idle: bool
    waits: str = ""
    options: dict[str, str] = field(default_factory=dict[str, str])
    """The options of `OUTCOME_OPTIONS` whose values were not the defaults."""

    @classmethod
    def of(
        cls, error: Exception, result: CommandResult | None, options: dict[str, str]
    ) -> KeptFailure | None:
        """Return the part of a failure to keep, or None if the command was not started, or its node was lost."""
        if result is None or result.returncode in NOT_STARTED_CODES:
            return None
        if isinstance(error, JobTimeout):
            is_idle = error.missing is not None
            return cls(result, error.seconds, is_idle, error.waits, options)
        if isinstance(error, CommandError) and error.result is not None:
            return cls(result, None, False, options=options)
        return None

    def error(self, job: BatchCommandJob) -> Exception:
        if self.limit is not None:
            missing = "output" if self.is_idle else None
            return JobTimeout(job, self.limit, missing, waits=self.waits)
        ending = describe_exit(self.result.returncode)
        return CommandError(job, job.line, ending, self.result)


class BatchCommandJob(
    AbstractJob[CommandResult | KeptFailure],
    keeps_time=True,
    # The timeout applies to the job of each attempt.
):
    """The job of a command of a batch. If the command's node is unreachable, the job tries another node.

    Args:
        batch: the batch.
        sequence: the number of the command. Commands are numbered from 1, without gaps.
        slot: the number of the command's slot, which is the lowest free number from 1.
        arguments: the arguments of the command, one from each source.
        line: the command line, which may still contain the placeholders of resources.
        node: the node to run the command on, or None for this machine.
        label: the label of its failed try, if this is another.

    """

    def __init__(
        self,
        batch: Batch,
        sequence: int,
        slot: int,
        arguments: Arguments,
        line: str,
        node: Node | None,
        label: str | None = None,
    ) -> None:
        self._batch: Final = batch
        self.sequence: Final = sequence
        self.slot: Final = slot
        self.arguments: Final = arguments
        self.line: Final = line
        self.node = node
        # Set with `--line-buffer`.
        self.live_outputs: tuple[TaggedLineStream, TaggedLineStream] | None = None
        # The job of the latest attempt.
        self._attempt_job: CommandJob | SshJob | None = None
        self._tries = 0
        self._start_timestamp = time.time()
        self._start_time = time.monotonic()
        super().__init__(
            label=label or batch.unique_label(line),
            needs=batch.options.needs,
            save=(_dump, batch.load),
        )

    def try_again(self) -> None:
        """Run the command again in this batch, as a new job, if it has failed. The last try counts."""
        self._batch.scheduler.try_commands_again([self.sequence])

    _has_status_text = True

    def status_text(self) -> str:
        """Return which attempt runs, if it is not the first, as views say it of other jobs."""
        if self._tries > 1:
            return f"attempt {self._tries}"
        return ""

    async def co_run(self) -> CommandResult | KeptFailure:
        """Run the command until it succeeds, as often as `--retries` says. With `--keep all`, return its failure.

        Raises:
            CommandError, SshError, JobTimeout: the command failed.
            OSError: for example, the disk is full.
            ValueError: the command line contains a NUL.

        """
        batch = self._batch
        while True:
            self._tries += 1
            try:
                result = await self._run_once()
                await self._store_large_output(result)
                return result
            except COMMAND_ERRORS as error:
                # With `--retries 0`, no try is the last one.
                is_last = self._tries == batch.options.retries
                if not is_last and not isinstance(error, Unreachable):
                    await batch.wait_until_allowed()
                    if not batch.is_stopped:
                        continue
                options = batch.outcome_options
                kept = KeptFailure.of(error, self.last_result, options)
                if kept is None or batch.options.keep != "all":
                    raise
                await self._store_large_output(kept)
                return kept

    async def _store_large_output(self, value: CommandResult | KeptFailure) -> None:
        """Have a thread write the outputs into the journal, if they are on disk: the journal takes its time."""
        result = value.result if isinstance(value, KeptFailure) else value
        if self._batch.options.journal is not None and OutputSpool in map(
            type, (result._stdout, result._stderr)
        ):
            await anyio.to_thread.run_sync(run_of(self).prepare_result, self, value)

    async def _run_once(self) -> CommandResult:
        """Run the command once, on the first node that can be reached."""
        while True:
            self._attempt_job = None
            self._start_timestamp = time.time()
            self._start_time = time.monotonic()
            self._attempt_job = self._batch.make_attempt_job(self)
            try:
                return await self._attempt_job.co_run()
            except Unreachable as error:
                self.node = await self._batch.find_other_node(error)

    def for_journal(self) -> Work:
        """Return the command line, and the directory. The environment is left out, because it differs in each run."""
        directory = None
        if not self._batch.options.nodes:
            directory = LocalDirectory()
        return Work(what="command", arguments=[self.line], options=[directory])

    @property
    def last_result(self) -> CommandResult | None:
        """The result of the latest attempt, even if it failed, or None if no process was started."""
        if self._attempt_job is None:
            return None
        return self._attempt_job.last_result

    def outcome(self) -> CommandOutcome:
        """Return the outcome of the command.

        Raises:
            BaseException: the command failed with an error that ends the batch.

        """
        error = self.raised_exception()
        result = self.last_result
        if self.state is JobState.CANCELLED:
            error = JobCancelled("cancelled")
        elif error is None:
            value = self.result()
            if isinstance(value, KeptFailure):
                result = value.result
                error = value.error(self)
            else:
                result = value
        if error is not None and not isinstance(error, (*COMMAND_ERRORS, JobCancelled)):
            raise error
        runtime = time.monotonic() - self._start_time
        if result is not None:
            runtime = result.elapsed
        restoration = restoration_of(self)
        if restoration is not None and restoration.settled_at is not None:
            self._start_timestamp = restoration.settled_at - runtime
        printed_bytes = 0
        if self.live_outputs is not None:
            printed_bytes = self.live_outputs[0].received_bytes
        received_bytes = printed_bytes or open_outputs(result)[0].seek(0, io.SEEK_END)
        return CommandOutcome(
            self.sequence, self.line, result, error, self._start_timestamp, runtime, self.restored, received_bytes,
            ":" if self.node is None else self.node.name, self.state is JobState.SUCCEEDED,
            self.node is not None or self._batch.needs_shell(self.line),
        )  # fmt: skip

    @property
    def tag(self) -> bytes | None:
        if not self._batch.options.tag:
            return None
        return (
            self._batch.reporter.printer.shown_bytes(" ".join(self.arguments)) + b"\t"
        )


def _dump(value: CommandResult | KeptFailure) -> Any:
    if isinstance(value, CommandResult):
        return value
    return {**vars(value)}
