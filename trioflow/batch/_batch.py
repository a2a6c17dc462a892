"""A batch that runs: runners, as many as commands at once, each of which takes the next command, again and again.

```
arguments ──► next one (a lock; --delay; --resume) ──► runner 1: CommandJob, CommandJob, ... ──► printer, job log, tally
  read as they are needed                         ├──► runner 2: CommandJob, ...                                    │
                                                  └──► ...                              stop, or cancel, by --halt ◄┘
```

A runner is a job of the scheduler, and a critical one; a command is a `CommandJob` which the runner runs itself. So
what has ended leaves nothing behind, however many there are, and `{%}` is the number of the runner.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import anyio
import anyio.lowlevel

from .._core._errors import JobTimeout
from .._core._function_job import Job
from .._core._instruments import Instrument
from .._core._states import StopReason
from .._scheduler import Scheduler
from ..jobs._command import CommandJob
from ..jobs._command_result import CommandError
from . import _results
from ._halt import Halt, Tally
from ._joblog import Done, Entry, Joblog
from ._outcome import Outcome
from ._printing import Aside, Printer
from ._quoting import Shell
from ._sources import Arguments, Product
from ._template import Template

BETWEEN_PAUSES: Final = 1000
"""Commands that are passed over as done before other tasks have their turn."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a batch is run.

    Attributes:
        slots: how many commands at once.
        timeout: seconds for each attempt.
        tries: how often a command is run until it succeeds; 0 for as often as it takes.
        delay: seconds between two starts.
        halt: when to stop before all is done.
        in_order: whether outputs are printed in the order of the arguments.
        tag: whether each line is printed with the arguments before it.
        results: a directory for what the commands write, which is not printed then.

    """

    slots: int = 1
    timeout: float | None = None
    tries: int = 1
    delay: float = 0.0
    halt: Halt | None = None
    in_order: bool = False
    tag: bool = False
    results: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A command that is about to run."""

    number: int  # from 0, without gaps
    sequence: int  # of its arguments, from 1
    arguments: Arguments
    line: str


def lines(template: Template, product: Product, done: Done) -> Iterator[str]:
    """Return the command lines that would be run, waiting for their arguments if need be."""
    for sequence, arguments in enumerate(filter(None, product.items(blocking=True)), 1):
        line = template.fill(arguments, sequence, 1)
        if not done.take(line):
            yield line


class Runner(Job[None]):
    """A job of the batch's scheduler: it runs one command after another."""

    __slots__ = ()
    _limits_itself = True  # it may take longer to end than the engine is patient: what it runs has `terminate_grace`


class Batch:
    """Runs all commands.

    Args:
        template: the command line.
        product: its arguments.
        options: how.
        shell: what runs the lines.
        done: what need not be run again.
        aside: what is done around each print.
        joblog: where each command that has ended is written down.
        progress: called when a command has ended, with the counts, and how many there will be, if that is known.

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
        progress: Callable[[Tally, int | None], object] | None = None,
    ) -> None:
        self._template: Final = template
        self._product: Final = product
        self._options: Final = options
        self._shell: Final = shell
        self._done: Final = done
        self._joblog: Final = joblog
        self._progress: Final = progress
        total = product.count() if options.halt is not None and options.halt.percent else product.total
        self.tally: Final = Tally(options.halt, total)
        self._arguments: Final = product.items(blocking=False)
        self._sequence = 0
        self._printer = Printer(in_order=options.in_order, aside=aside)
        self._environment: Final = {**os.environb, b"PARALLEL_PID": str(os.getpid()).encode()}
        self._number = 0  # of the next command
        self._expected = product.total
        self._turn: Final = anyio.Lock()
        self._waiting: anyio.CancelScope | None = None
        self._next_start = 0.0
        self._stopped = False  # no further command starts

    def run(self, instruments: Iterable[Instrument] = (), **options: Any) -> int:
        """Run all, and return the exit code.

        Raises:
            BaseException: what has ended the batch: KeyboardInterrupt, BatchError, or an OSError of an output.

        """
        slots = range(1, self._runners + 1)
        runners = [Runner(self._runner, slot, label=f"slot {slot}", critical=True) for slot in slots]
        self._scheduler = Scheduler(*runners, label="batch")
        try:
            self._scheduler.run(instruments=instruments, handle_signals=True, **options)
        except BaseException:
            with contextlib.suppress(OSError):
                self._printer.flush()
            raise
        culprit = self._scheduler.culprit
        if culprit is not None and (error := culprit.raised_exception()) is not None:
            raise error
        self._printer.flush()
        return self.tally.exit_code

    @property
    def was_interrupted(self) -> bool:
        """Whether a signal has ended it."""
        return self._scheduler.stop_reason is StopReason.INTERRUPTED

    @property
    def _runners(self) -> int:
        return self._options.slots if self.tally.total is None else min(self._options.slots, self.tally.total)

    # ---- one runner

    async def _runner(self, slot: int) -> None:
        while (task := await self._next_task(slot)) is not None:
            outcome = await self._run_until_good(task, slot)
            await self._tell(task, outcome)
            met = self.tally.add(outcome.code)
            if self._progress is not None:
                self._progress(self.tally, self._expected)
            if met and not self._stopped:
                await self._stop(task)

    async def _next_task(self, slot: int) -> Task | None:
        """Return the next command that is not done yet; None when there is none."""
        async with self._turn:
            while not self._stopped:
                arguments = next(self._arguments, ())
                if arguments == ():
                    self._expected = self._number
                    return None
                if arguments is None:
                    await self._until_readable()
                    continue
                self._sequence += 1
                line = self._template.fill(arguments, self._sequence, slot)
                if not self._done.take(line):
                    self._number += 1
                    return await self._when_due(Task(self._number - 1, self._sequence, arguments, line))
                if self._expected is not None:
                    self._expected -= 1
                if self._sequence % BETWEEN_PAUSES == 0:
                    await anyio.lowlevel.checkpoint()
            return None

    async def _until_readable(self) -> None:
        with anyio.CancelScope() as self._waiting:
            await anyio.wait_readable(self._product.descriptor)

    async def _when_due(self, task: Task) -> Task | None:
        """Wait until a command may start again; return this one, if there is still one to be started then."""
        if self._options.delay:
            with anyio.CancelScope() as self._waiting:
                await anyio.sleep(max(0, self._next_start - time.monotonic()))
            self._next_start = time.monotonic() + self._options.delay
        return None if self._stopped else task

    # ---- one command

    async def _run_until_good(self, task: Task, slot: int) -> Outcome:
        outcome = await self._run(task, slot)
        tries = 1
        while outcome.failed and tries != self._options.tries and not self._stopped:
            await anyio.lowlevel.checkpoint()
            outcome = await self._run(task, slot)
            tries += 1
        return outcome

    async def _run(self, task: Task, slot: int) -> Outcome:
        job: CommandJob | None = None
        error: Exception | None = None
        started, began = time.time(), time.monotonic()
        try:
            job = self._job(task, slot)
            await job.co_run()
        except (CommandError, JobTimeout, OSError, ValueError) as failure:
            error = failure  # OSError: no space for its output; ValueError: a NUL in an argument
        result = None if job is None else job.last_result
        return Outcome(result, error, started, result.elapsed if result else time.monotonic() - began)

    def _job(self, task: Task, slot: int) -> CommandJob:
        numbers = {b"PARALLEL_SEQ": b"%d" % task.sequence, b"PARALLEL_JOBSLOT": b"%d" % slot}
        return CommandJob(
            self._shell.command(task.line),
            env={**self._environment, **numbers},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=self._options.timeout,
            label=task.line,
        )

    async def _tell(self, task: Task, outcome: Outcome) -> None:
        """Print, save and log what has become of a command."""
        if remark := outcome.remark(task.line):
            await self._printer.say(remark)
        if self._options.results is None:
            tag = os.fsencode(" ".join(task.arguments) + "\t") if self._options.tag else None
            await self._printer.print(task.number, outcome.outputs, tag)
        else:
            _results.save(_results.place(self._options.results, task.arguments), task.sequence, outcome.outputs)
        if self._joblog is not None:
            entry = Entry(
                task.sequence, outcome.started, outcome.runtime, outcome.received, outcome.exit_value, outcome.signal,
                task.line,
            )  # fmt: skip
            self._joblog.add(entry)

    async def _stop(self, task: Task) -> None:
        """Do what the rule for stopping says; this command has met it."""
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()
        assert self._options.halt is not None
        what = "running commands are ended" if self._options.halt.at_once else "no further command is started"
        await self._printer.say(f"--halt: {what}, after: {task.line}")
        if self._options.halt.at_once:
            self._scheduler.cancel()
