"""Runs `trioflow ssh`: takes the same steps on many nodes, and prints the outputs and a table of outcomes."""

from __future__ import annotations

import array
import contextlib
import itertools
import os
import stat
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from .. import (
    Job,
    JobTimeout,
    Pull,
    Push,
    Scheduler,
    Script,
    SshError,
    SshJob,
    SshNode,
    StopReason,
    Unreachable,
)
from .. import _posix as posix
from ..abc import duration_text
from ..jobs.command._result import CommandResult, text_with_notes
from ..jobs.posix._processes import describe_exit
from . import INTERRUPTED_CODE, SUCCESS_CODE, _outputs
from ._signals import ExitOnSecondSignal
from .batch._batch_run import exit_on_broken_output

if TYPE_CHECKING:
    from .. import LocalNode
    from ._ssh import SshOptions

    Node = SshNode | LocalNode

Step = str | Push | Pull | Script

NODE_PLACEHOLDER: Final = "{node}"
MAX_EXIT_CODE: Final = 101
"""The maximum exit code, which stands for more than 100 failed nodes."""


@dataclass(frozen=True, slots=True)
class NodeOutcome:
    """The outcome of a task on a node.

    Attributes:
        description: a short text, such as "timeout". Nodes with the same description are grouped in the table.
        elapsed: the duration of the command or the script in seconds, or None if there is none.
        is_failure: whether the task failed.

    """

    description: str
    elapsed: float | None = None
    is_failure: bool = True


def steps_on_node(options: SshOptions, node: Node) -> list[Step]:
    def fill(texts: Iterable[str]) -> list[str]:
        return [text.replace(NODE_PLACEHOLDER, node.hostname) for text in texts]

    steps = list[Step]()
    if options.push:
        steps.append(Push(*fill(options.push), to=options.to))
    if options.script is not None:
        steps.append(
            Script(
                *fill([options.script, *options.words]), includes=fill(options.include)
            )
        )
    elif options.words:
        steps.append(" ".join(options.words))
    if options.pull:
        steps.append(Pull(*fill(options.pull), to=options.into))
    return steps


class NodeRun:
    def __init__(self, options: SshOptions, nodes: Sequence[Node]) -> None:
        self._options: Final = options
        self._nodes: Final = nodes
        self._outcomes: Final[dict[Node, NodeOutcome]] = {}

    def run(self) -> int:
        with exit_on_broken_output():
            code = self._run()
            self._print_table()
            if _has_unread_input():
                _outputs.echo(
                    "standard input went to no node: give the data by --push", err=True
                )
            return code

    def _run(self) -> int:
        # The table says how each job has ended, and so does the error of a node.
        jobs = [
            Job(self._run_on_node, node, label=node.name, critical=True)
            for node in self._nodes
        ]
        scheduler = Scheduler(
            *jobs, jobs_window=self._options.jobs or None, label="ssh", log=False
        )
        on_signal = ExitOnSecondSignal()
        try:
            scheduler.run(handle_signals=on_signal)
        except KeyboardInterrupt:
            return INTERRUPTED_CODE
        if scheduler.culprit is not None:
            error = scheduler.culprit.raised_exception()
            if error is not None:
                # Raised when the output of a node could not be printed.
                raise error
        if scheduler.stop_reason is StopReason.INTERRUPTED:
            return on_signal.exit_code
        failure_count = sum(each.is_failure for each in self._outcomes.values())
        return min(MAX_EXIT_CODE, failure_count) or SUCCESS_CODE

    async def _run_on_node(self, node: Node) -> None:
        """Run the steps on a node.

        If a copy fails, it is the last step. If the command fails or takes too long, the files are still pulled.
        """
        # Replaced at the end of the task.
        self._outcomes[node] = NodeOutcome("interrupted")
        outcome = NodeOutcome("copied", is_failure=False)
        result: CommandResult | None = None
        error: Exception | None = None
        for step in steps_on_node(self._options, node):
            is_copy = isinstance(step, (Push, Pull))
            timeout = None if is_copy else self._options.timeout
            job = self._make_step_job(node, step, timeout)
            try:
                await job.co_run()
            except (SshError, JobTimeout) as failure:
                error = failure
            except (OSError, ValueError) as failure:
                if not is_copy:
                    raise
                error = failure
            if not is_copy:
                result = job.last_result
                outcome = _make_outcome(result, error)
            elif error is not None and not outcome.is_failure:
                what = "unreachable" if isinstance(error, Unreachable) else "not copied"
                outcome = NodeOutcome(what)
            if error is not None and not isinstance(error, JobTimeout):
                break
        self._outcomes[node] = outcome
        if not self._options.tag:
            _print_output(node, outcome, result)
        if error is not None and not isinstance(error, JobTimeout):
            if isinstance(error, (SshError, OSError)):
                text = text_with_notes(error)
            else:
                text = f"{node.name}: {error}"
            _outputs.echo(text, err=True)

    def _make_step_job(self, node: Node, step: Step, timeout: float | None) -> SshJob:
        tag = self._options.tag
        out = None if tag else subprocess.PIPE
        return SshJob(
            node,
            step,
            stdout=out,
            stderr=out,
            tag=tag,
            check=False,
            timeout=timeout,
            label=node.name,
        )

    def _print_table(self) -> None:
        rows: dict[tuple[bool, str], list[Node]] = {}
        for node in self._nodes:
            outcome = self._outcomes.get(node, NodeOutcome("not run"))
            rows.setdefault((outcome.is_failure, outcome.description), []).append(node)
        width = max(len(text) for _, text in rows)
        digits = len(str(max(map(len, rows.values()))))
        for (_, text), nodes in sorted(rows.items(), key=lambda row: row[0]):
            _outputs.echo(
                f"{text:{width}}  {len(nodes):{digits}}  {_format_hostlist(nodes)}",
                err=True,
            )


def _has_unread_input() -> bool:
    """Return whether standard input is a file that nobody has begun to read, or a pipe with data. Nothing is read."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        descriptor = sys.stdin.fileno()
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            # A shell's `while read` has read its first line.
            return status.st_size > 0 and os.lseek(descriptor, 0, os.SEEK_CUR) == 0
        if stat.S_ISFIFO(status.st_mode):
            count = array.array("i", [0])
            posix.fcntl.ioctl(descriptor, posix.termios.FIONREAD, count)
            return count[0] > 0
    return False


def _make_outcome(result: CommandResult | None, error: Exception | None) -> NodeOutcome:
    if isinstance(error, Unreachable):
        return NodeOutcome("unreachable")
    if isinstance(error, JobTimeout):
        return NodeOutcome("timeout")
    if error is not None:
        return NodeOutcome("lost" if cast(SshError, error).started else "refused")
    assert result is not None
    return NodeOutcome(
        describe_exit(result.returncode), result.elapsed, bool(result.returncode)
    )


def _print_output(
    node: Node, outcome: NodeOutcome, result: CommandResult | None
) -> None:
    duration = ""
    if outcome.elapsed is not None:
        duration = f", {duration_text(outcome.elapsed)}"
    _outputs.echo(f"== {node.name}: {outcome.description}{duration}")
    if result is not None:
        for name in ("stdout", "stderr"):
            sys.stdout.flush()
            with result.open(name) as source:
                last_chunk = b"\n"
                while chunk := source.read(1 << 16):
                    _outputs.pass_on(chunk, err=name == "stderr")
                    last_chunk = chunk
                if not last_chunk.endswith(b"\n"):
                    _outputs.echo(err=name == "stderr")


def _format_hostlist(nodes: Sequence[Node]) -> str:
    """Return the names of nodes in a short form, with numbers as ranges: `node[01-03,07]`."""
    # The keys are a stem and a number of digits.
    numbers_by_stem: dict[tuple[str, int], list[int]] = {}
    for node in nodes:
        if isinstance(node, SshNode) and node.port is not None:
            stem = node.name
        else:
            stem = node.name.rstrip("0123456789")
        digits = node.name[len(stem) :]
        numbers_by_stem.setdefault((stem, len(digits)), []).append(int(digits or 0))
    return ",".join(
        _format_range(stem, width, sorted(numbers))
        for (stem, width), numbers in numbers_by_stem.items()
    )


def _format_range(stem: str, width: int, numbers: Sequence[int]) -> str:
    if not width:
        return stem
    parts: list[str] = []
    # Adjacent numbers have the same distance to their positions.
    for _, group in itertools.groupby(
        enumerate(numbers), lambda item: item[1] - item[0]
    ):
        texts = [f"{number:0{width}}" for _, number in group]
        parts.append("-".join(dict.fromkeys([texts[0], texts[-1]])))
    if len(numbers) == 1:
        return f"{stem}{parts[0]}"
    return f"{stem}[{','.join(parts)}]"
