"""`BatchCommandJob`: the job of one command, with what a journal keeps of its failure."""

from __future__ import annotations

import dataclasses
import io
import time
from typing import TYPE_CHECKING, Any, Final

import anyio

from .. import CommandError, CommandJob, CommandResult, JobCancelled, JobState, JobTimeout, SshError, Unreachable
from ..abc import AbstractJob, LocalDirectory, Work, restoration_of, run_of
from ..jobs.command._output_sinks import OutputSpool
from ..jobs.posix._processes import describe_exit
from ._command_outcome import CommandOutcome, open_outputs
from ._output import TaggedLineStream
from ._sources import Arguments

if TYPE_CHECKING:  # imported on demand at run time, because importing them would double the import time
    from .. import SshJob
    from ._batch import Batch
    from ._node_pool import Node

COMMAND_ERRORS: Final = (CommandError, SshError, JobTimeout, OSError, ValueError)
"""Errors that make a single command fail. All other errors end the batch.

An OSError is raised, for example, if the disk is full, and a ValueError if an argument contains a NUL.
"""
OUTCOME_OPTIONS: Final = {
    "retries": "1", "memory_limit": "None", "pin": "False", "needs": "{}", "nodes": "()", "ssh_config": "None",
}  # fmt: skip
"""The options, with their defaults, that can turn a failure into a success. A timeout counts if it ended a command."""
NOT_STARTED_CODES: Final = (126, 127)
"""The exit codes of a shell for a program that cannot be executed, or is not found. The next batch tries again."""


@dataclasses.dataclass(frozen=True)
class KeptFailure:
    """The failure of a command, as a journal keeps it with `--keep all`."""

    result: CommandResult
    limit: float | None
    """After a timeout, the timeout or idle timeout in seconds."""
    is_idle: bool
    """Whether it was the idle timeout."""
    waits: str = ""
    """As in `JobTimeout`."""
    options: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    """Those of `OUTCOME_OPTIONS` that were not the defaults."""

    @classmethod
    def of(cls, error: Exception, result: CommandResult | None, options: dict[str, str]) -> KeptFailure | None:
        """Return what to keep of a failure; None if the command was not started, or its node was lost."""
        is_started = result is not None and result.returncode not in NOT_STARTED_CODES
        if result is None or not is_started or not isinstance(error, CommandError | JobTimeout):
            return None
        if isinstance(error, JobTimeout):
            return cls(result, error.seconds, error.missing is not None, error.waits, options)
        return None if error.result is None else cls(result, None, False, options=options)

    def error(self, job: BatchCommandJob) -> Exception:
        if self.limit is not None:
            return JobTimeout(job, self.limit, "output" if self.is_idle else None, waits=self.waits)
        return CommandError(job, job.line, describe_exit(self.result.returncode), self.result)


class BatchCommandJob(
    AbstractJob[CommandResult | KeptFailure], keeps_time=True
):  # the timeout applies to the job of each attempt
    """The job of one command of a batch. If the command's node is unreachable, the job tries another node.

    Args:
        batch: the batch.
        sequence: the number of the command. Commands are numbered from 1, without gaps.
        slot: the number of the command's slot, which is the lowest free number from 1.
        arguments: the arguments of the command, one from each source.
        line: the command line, which may still contain the placeholders of resources.
        node: the node to run the command on; None for this machine.
        label: the label of its failed try, if this is another one.

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
        self.live_outputs: tuple[TaggedLineStream, TaggedLineStream] | None = None  # set with `--line-buffer`
        self._attempt_job: CommandJob | SshJob | None = None  # the job of the latest attempt
        self._start_timestamp, self._start_time = time.time(), time.monotonic()
        super().__init__(label=label or batch.unique_label(line), needs=batch.options.needs, save=(_dump, batch.load))

    async def co_run(self) -> CommandResult | KeptFailure:
        """Run the command until it succeeds, as often as `--retries` says; with `--keep all`, return its failure.

        Raises:
            CommandError, SshError, JobTimeout: the command failed.
            OSError: for example, the disk is full.
            ValueError: the command line contains a NUL.

        """
        batch, attempts_left = self._batch, self._batch.options.retries  # from 0, it goes below 0: there is no limit
        while True:
            attempts_left -= 1
            try:
                result = await self._run_once()
                await self._store_large_output(result)
                return result
            except COMMAND_ERRORS as error:
                may_retry = attempts_left and not isinstance(error, Unreachable)
                if may_retry:
                    await batch.wait_until_allowed()
                if not may_retry or batch.is_stopped:
                    keeps_failures = batch.options.keep == "all"
                    kept = KeptFailure.of(error, self.last_result, batch.outcome_options) if keeps_failures else None
                    if kept is None:
                        raise
                    await self._store_large_output(kept)
                    return kept

    async def _store_large_output(self, value: CommandResult | KeptFailure) -> None:
        """Have a thread write the outputs into the journal, if they are on disk: the journal takes its time."""
        result = value.result if isinstance(value, KeptFailure) else value
        if self._batch.options.journal is not None and OutputSpool in map(type, (result._stdout, result._stderr)):
            await anyio.to_thread.run_sync(run_of(self).prepare_result, self, value)

    async def _run_once(self) -> CommandResult:
        """Run the command once, on the first node that can be reached."""
        while True:
            self._attempt_job, self._start_timestamp, self._start_time = None, time.time(), time.monotonic()
            self._attempt_job = self._batch.make_attempt_job(self)
            try:
                return await self._attempt_job.co_run()
            except Unreachable as error:
                self.node = await self._batch.find_other_node(error)

    def for_journal(self) -> Work:
        """Return the command line, and the directory. The environment is left out, because it differs in each run."""
        directory = None if self._batch.options.nodes else LocalDirectory()
        return Work(what="command", arguments=[self.line], options=[directory])

    @property
    def last_result(self) -> CommandResult | None:
        """The result of the latest attempt, even a failed one; None if no process was started."""
        return None if self._attempt_job is None else self._attempt_job.last_result

    def outcome(self) -> CommandOutcome:
        """Return the outcome of the command.

        Raises:
            BaseException: the command failed with an error that ends the batch.

        """
        error, result = self.raised_exception(), self.last_result
        if self.state is JobState.CANCELLED:
            error = JobCancelled("cancelled")
        elif error is None:
            value = self.result()
            result = value.result if isinstance(value, KeptFailure) else value
            error = value.error(self) if isinstance(value, KeptFailure) else None
        if error is not None and not isinstance(error, (*COMMAND_ERRORS, JobCancelled)):
            raise error
        runtime = time.monotonic() - self._start_time if result is None else result.elapsed
        restoration = restoration_of(self)
        if restoration is not None and restoration.settled_at is not None:
            self._start_timestamp = restoration.settled_at - runtime
        printed_bytes = 0 if self.live_outputs is None else self.live_outputs[0].received_bytes
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
        return self._batch.reporter.printer.shown_bytes(" ".join(self.arguments)) + b"\t"


def _dump(value: CommandResult | KeptFailure) -> Any:
    return value if isinstance(value, CommandResult) else {**vars(value)}
