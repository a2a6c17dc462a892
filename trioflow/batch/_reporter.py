"""`Reporter`: prints, saves and counts the commands of a batch that have ended, and has the exit code of the batch."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, BinaryIO, Final

import anyio

from .. import CommandError
from . import _options, _output, _sources
from ._command_job import BatchCommandJob, CommandOutcome, open_outputs

if TYPE_CHECKING:
    # Imported on demand at run time, because few batches need it.
    from ..view.text._verdict import RestoredJobs
    from ._record_files import OutputDirectory, Record

MAX_EXIT_CODE: Final = 101
MAX_NAMED_COMMANDS: Final = 3


@dataclasses.dataclass(slots=True)
class CommandTally:
    """The numbers of commands that failed and succeeded, and whether the rule of `--halt` is met.

    Attributes:
        rule: the rule, or None if the batch never stops early.
        total: the number of all commands, or None if it is unknown. If the rule has a percentage, it is always known.
        failed_count: the number of commands that failed.
        succeeded_count: the number of commands that succeeded.
        decisive_exit_code: the exit code of the command that first met the rule, or None until the rule is met.

    Example:
        >>> tally = CommandTally(_options.HaltRule.parse("soon,fail=2"))
        >>> [tally.add(code) for code in (0, 1, 5)], tally.exit_code
        ([False, False, True], 2)

    """

    rule: _options.HaltRule | None = None
    total: int | None = None
    failed_count: int = 0
    succeeded_count: int = 0
    decisive_exit_code: int | None = None

    def add(self, code: int) -> bool:
        """Count a command that ended with this exit code, and return whether the rule is met."""
        if code:
            self.failed_count += 1
        else:
            self.succeeded_count += 1
        is_met = self.rule is not None and self._is_met(self.rule)
        if is_met and self.decisive_exit_code is None:
            self.decisive_exit_code = code
        return is_met

    def _is_met(self, rule: _options.HaltRule) -> bool:
        count = {
            "fail": self.failed_count,
            "success": self.succeeded_count,
            "done": self.failed_count + self.succeeded_count,
        }[rule.outcome]
        if rule.is_percentage:
            return 100 * count >= rule.threshold * (self.total or 0)
        return count >= rule.threshold

    @property
    def exit_code(self) -> int:
        """The exit code of the batch, as in GNU parallel.

        It is the number of failures, up to `MAX_EXIT_CODE`, unless the rule defines another code.
        """
        rule = self.rule
        if rule is not None:
            if rule.outcome == "success" and self.decisive_exit_code is not None:
                return 0
            if rule.is_percentage:
                if not self.total:
                    return 0
                return math.ceil(100 * self.failed_count / self.total)
            if rule.outcome == "fail" and rule.threshold == 1:
                return self.decisive_exit_code or 0
        return min(self.failed_count, MAX_EXIT_CODE)


@dataclasses.dataclass(slots=True)
class CommandFailures:
    """The failures of the same kind.

    Attributes:
        reason: the reason of the first.
        is_crash: whether a signal ended the commands that trioflow did not send.
        lines: the lines of the commands, by their numbers.
        was_reported: whether a message has reported any of them.

    """

    reason: str
    is_crash: bool
    lines: dict[int, str] = dataclasses.field(default_factory=dict[int, str])
    was_reported: bool = False

    @property
    def first_lines(self) -> list[str]:
        return [*itertools.islice(self.lines.values(), MAX_NAMED_COMMANDS)]


@dataclasses.dataclass(frozen=True, slots=True)
class FailedCommand:
    """A command that has failed in this batch, and may run again."""

    sequence: int
    arguments: _sources.Arguments
    label: str
    failure_kind: tuple[object, ...]


class Reporter:
    """The reports on the commands of a batch.

    Args:
        options: the options of the command line.
        total: the number of all commands, if a percentage in `--halt` needs it, or None if it is unknown.
        print_guard: called for each print. It returns the context manager around the print.
        records: the records of the batch.
        directory: the record that is a directory of outputs, if there is such a record.
        on_progress: called after the end of each command.

    Attributes:
        printer: the printer of all output of the batch.
        unreported: the commands that wait, run, or have ended and are about to be reported.
        tally: the numbers of commands that succeeded and failed.
        kept_count: the number of commands whose outcome a journal keeps, with `--keep all`.
        restored: the commands that were restored from the journal, or None if there are none.
        restored_failure_count: the number of these that had failed.
        last_restored_at: the time, on the monotonic clock, of the report on the last of these, or 0 if there was none.
        run_count: the number of commands that were reported since then. All of them have run.
        failures: the failures by their kind.
        failed: the commands that have failed in this batch, and are not to run again, by their numbers.

    """

    def __init__(
        self,
        options: _options.Options,
        total: int | None,
        *,
        print_guard: _output.PrintGuard,
        records: Sequence[Record],
        directory: OutputDirectory | None,
        on_progress: Callable[[], object],
    ) -> None:
        self.printer: Final = _output.Printer(
            in_order=options.keep_order, print_guard=print_guard
        )
        self.tally: Final = CommandTally(options.halt, total)
        self.kept_count = 0
        self.restored_failure_count = 0
        self.last_restored_at = 0.0
        self.run_count = 0
        self.restored: RestoredJobs | None = None
        self.failures: Final[dict[tuple[object, ...], CommandFailures]] = {}
        self.failed: Final[dict[int, FailedCommand]] = {}
        self._saves_results: Final = options.results is not None
        self._records: Final = records
        self._directory: Final = directory
        self._on_progress: Final = on_progress
        self.unreported: Final[dict[BatchCommandJob, None]] = {}

    def begin(self) -> None:
        """Begin the records anew, because the batch has begun.

        Raises:
            BatchError: a file cannot be written.

        """
        for record in self._records:
            record.begin()

    def add(self, command: BatchCommandJob) -> None:
        """Expect the end of a command, which is about to start.

        Raises:
            BatchError: its output would be saved in the files of another command.

        """
        if self._directory is not None:
            self._directory.claim(command.sequence, command.arguments)
        self.unreported[command] = None

    async def report(self, command: BatchCommandJob) -> bool:
        """Print or save the output of a command, log its outcome, and count it. Return whether `--halt` is met.

        Raises:
            BaseException: the command failed with an error that ends the batch.

        """
        outcome = command.outcome()
        if outcome.has_failed:
            await self._report_failure(outcome)
        if outcome.has_large_output:
            # Timeouts fire, and commands end and write, meanwhile.
            await anyio.to_thread.run_sync(self._save, command, outcome)
        else:
            self._save(command, outcome)
        if not self._saves_results:
            # Otherwise an interruption here would leave a row whose command is not counted.
            await self.printer.print_kept(command.sequence)
        self.kept_count += outcome.is_kept
        self.run_count += 1
        if outcome.is_restored:
            self.run_count = 0
            self.last_restored_at = time.monotonic()
            self.restored_failure_count += outcome.has_failed
            # Few batches have a journal.
            from ..view.text._verdict import RestoredJobs

            self.restored = self.restored or RestoredJobs()
            ended_at = outcome.start_timestamp + outcome.runtime
            self.restored.add(ended_at, command.elapsed)
        elif outcome.has_failed and not outcome.is_kept:
            self.failed[command.sequence] = FailedCommand(
                command.sequence, command.arguments, command.label, outcome.failure_kind
            )
        must_stop = self.tally.add(outcome.exit_code)
        self._on_progress()
        return must_stop

    def take_back(self, failed: FailedCommand) -> None:
        """Count a command that has failed as not ended, because it is about to run again."""
        self.tally.failed_count -= 1
        similar = self.failures[failed.failure_kind]
        del similar.lines[failed.sequence]
        if not similar.lines:
            del self.failures[failed.failure_kind]

    async def _report_failure(self, outcome: CommandOutcome) -> None:
        """Count a failure for the summary. The first new failure of a kind has a message at once."""
        is_crash = outcome.signal > 0 and isinstance(outcome.error, CommandError)
        similar = self.failures.setdefault(
            outcome.failure_kind, CommandFailures(outcome.reason, is_crash)
        )
        similar.lines[outcome.sequence] = outcome.command
        if outcome.message and not similar.was_reported:
            similar.was_reported = True
            await self.printer.print_message(outcome.message)

    def print_unreported(self, only_ended: bool) -> None:
        """Print or save the output of commands that were not reported, for example after an interruption.

        Args:
            only_ended: whether to leave out the commands that were cancelled.

        """
        for command in list(self.unreported):
            if command.last_result is None:
                continue
            if command.is_done() or not only_ended:
                outputs = open_outputs(command.last_result)
                if self._directory is not None:
                    self._directory.save(
                        command.sequence, command.arguments, command.slot, outputs
                    )
                self._keep_output(command, outputs)
        self.printer.flush()

    def _save(self, command: BatchCommandJob, outcome: CommandOutcome) -> None:
        for record in self._records:
            record.add(outcome, command.arguments, command.slot)
        del self.unreported[command]
        self._keep_output(
            command, open_outputs(outcome.result), is_restored=outcome.is_restored
        )

    def _keep_output(
        self,
        command: BatchCommandJob,
        outputs: tuple[BinaryIO, BinaryIO],
        *,
        is_restored: bool = False,
    ) -> None:
        if not self._saves_results:
            self.printer.keep_output(
                command.sequence, outputs, command.tag, is_restored=is_restored
            )
