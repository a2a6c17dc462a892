"""`Reporter`: prints or saves the output of commands that have ended, logs them, and counts them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

import anyio

from .. import CommandError
from ._halt_rule import CommandTally
from ._options import Options
from ._outcome import CommandOutcome, open_outputs
from ._output import Printer, PrintGuard

if TYPE_CHECKING:
    from .. import CommandResult
    from ._record import OutputDirectory, Record
    from ._sources import Arguments

MAX_NAMED_COMMANDS: Final = 3


@dataclass(slots=True)
class CommandFailures:
    """The failures of one kind.

    Attributes:
        reason: the reason of the first one.
        is_crash: whether a signal ended the commands that trioflow did not send.
        count: the number of all.
        lines: the lines of the first few commands.
        was_reported: whether a message has reported one of them.

    """

    reason: str
    is_crash: bool
    count: int = 0
    lines: list[str] = field(default_factory=list[str])
    was_reported: bool = False


class EndedCommand(Protocol):
    """The attributes of a command of a batch that its report needs."""

    @property
    def sequence(self) -> int: ...
    @property
    def slot(self) -> int: ...
    @property
    def arguments(self) -> Arguments: ...
    @property
    def line(self) -> str: ...
    @property
    def tag(self) -> bytes | None: ...
    @property
    def last_result(self) -> CommandResult | None: ...
    def is_done(self) -> bool: ...
    def outcome(self) -> CommandOutcome: ...


class Reporter:
    """The reports on the commands of a batch.

    Args:
        options: the options of the command line.
        total: the number of all commands, if a percentage in `--halt` needs it; None if it is unknown.
        print_guard: called for each print; returns the context manager around it.
        records: the records of the batch.
        directory: the one of them that is a directory of outputs, if there is one.
        on_progress: called after the end of each command.

    Attributes:
        printer: the printer of all output of the batch.
        tally: the numbers of commands that succeeded and failed.
        kept_count: the number of commands whose outcome a journal keeps, with `--keep all`.
        restored_count: the number of commands that were restored from the journal.
        restored_failure_count: the number of these that had failed.
        last_restored_at: the time, on the monotonic clock, of the report on the last of these; 0 if there was none.
        run_count: the number of commands that were reported since then, all of which have run.
        restored_times: the times, in seconds since 1970, when the first and the last of these ended; empty if none.
        failures: the failures by their kind.

    """

    def __init__(
        self,
        options: Options,
        total: int | None,
        *,
        print_guard: PrintGuard,
        records: Sequence[Record],
        directory: OutputDirectory | None,
        on_progress: Callable[[], object],
    ) -> None:
        self.printer: Final = Printer(in_order=options.keep_order, print_guard=print_guard)
        self.tally: Final = CommandTally(options.halt, total)
        self.kept_count = 0
        self.restored_count = 0
        self.restored_failure_count = 0
        self.last_restored_at = 0.0
        self.run_count = 0
        self.restored_times: tuple[float, ...] = ()
        self.failures: Final[dict[tuple[object, ...], CommandFailures]] = {}
        self._saves_results: Final = options.results is not None
        self._records: Final = records
        self._directory: Final = directory
        self._on_progress: Final = on_progress
        self._unreported: Final[dict[EndedCommand, None]] = {}

    def add(self, command: EndedCommand) -> None:
        """Expect the end of a command, which is about to start."""
        self._unreported[command] = None

    @property
    def running_count(self) -> int:
        return len(self._unreported)

    async def report(self, command: EndedCommand) -> bool:
        """Print or save the output of a command, log its outcome, and count it. Return whether `--halt` is met.

        Raises:
            BaseException: the command failed with an error that ends the batch.

        """
        outcome = command.outcome()
        if outcome.has_failed:
            await self._report_failure(outcome)
        if outcome.has_large_output:  # timeouts fire, and commands end and write, meanwhile
            await anyio.to_thread.run_sync(self._save, command, outcome)
        else:
            self._save(command, outcome)
        if not self._saves_results:  # otherwise an interruption here would leave a row whose command is not counted
            await self.printer.print_kept(command.sequence)
        self.kept_count += outcome.is_kept
        self.run_count += 1
        if outcome.is_restored:
            self.run_count, self.last_restored_at = 0, time.monotonic()
            self.restored_failure_count += outcome.has_failed
            ended_at = outcome.start_timestamp + outcome.runtime
            self.restored_count += 1
            times = (ended_at, *self.restored_times)
            self.restored_times = (min(times), max(times))
        must_stop = self.tally.add(outcome.exit_code)
        self._on_progress()
        return must_stop

    async def _report_failure(self, outcome: CommandOutcome) -> None:
        """Count a failure for the summary. The first new one of a kind has a message at once."""
        is_crash = outcome.signal > 0 and isinstance(outcome.error, CommandError)
        similar = self.failures.setdefault(outcome.failure_kind, CommandFailures(outcome.reason, is_crash))
        similar.count += 1
        if len(similar.lines) < MAX_NAMED_COMMANDS:
            similar.lines.append(outcome.command)
        if outcome.message and not similar.was_reported:
            similar.was_reported = True
            await self.printer.print_message(outcome.message)

    def print_unreported(self, only_ended: bool) -> None:
        """Print or save the output of commands that were not reported, for example after an interruption.

        Args:
            only_ended: whether to leave out the commands that were cancelled.

        """
        for command in list(self._unreported):
            if command.last_result is not None and (command.is_done() or not only_ended):
                outputs = open_outputs(command.last_result)
                if self._directory is not None:
                    self._directory.save(command.sequence, command.arguments, command.slot, outputs)
                self._keep_output(command, outputs)
        self.printer.flush()

    def _save(self, command: EndedCommand, outcome: CommandOutcome) -> None:
        for record in self._records:
            record.add(outcome, command.arguments, command.slot)
        self._keep_output(command, open_outputs(outcome.result), is_restored=outcome.is_restored)

    def _keep_output(
        self, command: EndedCommand, outputs: tuple[BinaryIO, BinaryIO], *, is_restored: bool = False
    ) -> None:
        del self._unreported[command]
        if not self._saves_results:
            self.printer.keep_output(command.sequence, outputs, command.tag, is_restored=is_restored)
