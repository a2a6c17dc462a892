"""The run of `trioflow ssh`: the same steps on many nodes, their outputs in sequence, and a table of outcomes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import click

from .. import Job, JobTimeout, StopReason
from .._scheduler import Scheduler
from ..abc import duration_text
from ..jobs.command._result import CommandResult
from ..jobs.posix._processes import describe
from ..jobs.ssh._nodes import Node, SshNode
from ..jobs.ssh._ssh_errors import SshError, Unreachable
from ..jobs.ssh._ssh_job import SshJob
from ..jobs.ssh._steps import Pull, Push, Script, Step
from . import FINE, INTERRUPTED
from ._signals import SecondSignal
from .batch._batch_run import handle_broken_output

MAX_EXIT_CODE: Final = 101
"""The largest exit code, for a hundred failed nodes or more."""


@dataclass(frozen=True, slots=True)
class NodeOutcome:
    """The outcome on one node."""

    text: str
    elapsed: float | None = None
    failed: bool = True


@dataclass(frozen=True, slots=True)
class NodeTask:
    """The steps for each node; `{node}` in any of them is replaced by the name of the node."""

    words: Sequence[str]  # a command, or the arguments of the script
    script: str | None
    include: Sequence[str]
    push: Sequence[str]
    to: str
    pull: Sequence[str]
    into: str

    def files(self) -> list[str]:
        """Return the local files that all nodes get."""
        script = [] if self.script is None else [self.script]
        return [file for file in [*script, *self.include, *self.push] if NODE not in file]

    def steps(self, node: Node) -> list[str | Step]:
        """Return the steps on a node: copies to it, a command or a script, copies from it."""

        def filled(words: Sequence[str]) -> list[str]:
            return [word.replace(NODE, node.hostname) for word in words]

        result: list[str | Step] = [Push(*filled(self.push), to=self.to)] if self.push else []
        if self.script is not None:
            result.append(Script(*filled([self.script, *self.words]), includes=filled(self.include)))
        elif self.words:
            result.append(" ".join(self.words))
        return [*result, Pull(*filled(self.pull), to=self.into)] if self.pull else result


NODE: Final = "{node}"


class NodeRun:
    """One task on many nodes."""

    def __init__(self, plan: NodeTask, nodes: Sequence[Node], *, timeout: float | None, tag: bool | str) -> None:
        self._plan: Final = plan
        self._nodes: Final = nodes
        self._timeout: Final = timeout
        self._tag: Final = tag
        self._outcomes: Final[dict[Node, NodeOutcome]] = {}

    def run(self, window: int | None) -> int:
        """Run the task on all nodes, print the outcomes, and return the exit code."""
        with handle_broken_output():
            code = self._run(window)
            self._print_table()
            return code

    def _run(self, window: int | None) -> int:
        jobs = [Job(self._run_on_node, node, label=node.name, critical=True) for node in self._nodes]
        scheduler = Scheduler(*jobs, jobs_window=window, label="ssh")
        try:
            scheduler.run(handle_signals=SecondSignal())
        except KeyboardInterrupt:
            return INTERRUPTED
        if scheduler.culprit is not None and (error := scheduler.culprit.raised_exception()) is not None:
            raise error  # our own output has failed
        if scheduler.stop_reason is StopReason.INTERRUPTED:
            return INTERRUPTED
        return min(MAX_EXIT_CODE, sum(outcome.failed for outcome in self._outcomes.values())) or FINE

    async def _run_on_node(self, node: Node) -> None:
        """Run the task on one node. A failed copy ends it; after a failed command, files are still copied back."""
        self._outcomes[node] = NodeOutcome("interrupted")  # unless it reaches its end
        done = NodeOutcome("copied", failed=False)
        result: CommandResult | None = None
        error: Exception | None = None
        for step in self._plan.steps(node):
            copies = isinstance(step, (Push, Pull))
            job = self._make_step_job(node, step, None if copies else self._timeout)
            try:
                await job.co_run()
            except (SshError, JobTimeout) as failure:
                error = failure
            except (OSError, ValueError) as failure:
                if not copies:
                    raise
                error = failure
            if not copies:
                result = job.last_result
                done = _make_outcome(result, error)
            elif error is not None and not done.failed:
                done = NodeOutcome("unreachable" if isinstance(error, Unreachable) else "not copied")
            if error is not None:
                break
        self._outcomes[node] = done
        if not self._tag:
            _print(node, done, result)
        if error is not None and not isinstance(error, JobTimeout):
            click.echo(str(error) if isinstance(error, SshError) else f"{node.name}: {error}", err=True)

    def _make_step_job(self, node: Node, step: str | Step, timeout: float | None) -> SshJob:
        where = None if self._tag else subprocess.PIPE
        return SshJob(
            node, step, stdout=where, stderr=where, tag=self._tag, check=False, timeout=timeout, label=node.name
        )

    def _print_table(self) -> None:
        """Print the outcomes: nodes with the same one on one line."""
        rows: dict[tuple[bool, str], list[Node]] = {}
        for node in self._nodes:
            outcome = self._outcomes.get(node, NodeOutcome("not run"))
            rows.setdefault((outcome.failed, outcome.text), []).append(node)
        width = max(len(what) for _, what in rows)
        digits = len(str(max(map(len, rows.values()))))
        for (_, what), nodes in sorted(rows.items(), key=lambda row: row[0]):
            click.echo(f"{what:{width}}  {len(nodes):{digits}}  {_format_hostlist(nodes)}", err=True)


def _make_outcome(result: CommandResult | None, error: Exception | None) -> NodeOutcome:
    if isinstance(error, Unreachable):
        return NodeOutcome("unreachable")
    if isinstance(error, JobTimeout):
        return NodeOutcome("timeout")
    if error is not None:
        return NodeOutcome("lost" if cast(SshError, error).started else "refused")
    assert result is not None
    return NodeOutcome(describe(result.returncode), result.elapsed, bool(result.returncode))


def _print(node: Node, outcome: NodeOutcome, result: CommandResult | None) -> None:
    took = "" if outcome.elapsed is None else f", {duration_text(outcome.elapsed)}"
    click.echo(f"== {node.name}: {outcome.text}{took}")
    if result is not None:
        for name in ("stdout", "stderr"):
            sys.stdout.flush()
            with result.open(name) as source:
                last = b"\n"
                while data := source.read(1 << 16):
                    click.echo(data, nl=False, err=name == "stderr")
                    last = data
                if not last.endswith(b"\n"):
                    click.echo(err=name == "stderr")


def _format_hostlist(nodes: Sequence[Node]) -> str:
    """Return the names of nodes, those that end in numbers as ranges: node[01-03,07]."""
    stems: dict[tuple[str, int], list[int]] = {}  # the numbers of each stem, by how many digits they have
    for node in nodes:
        stem = node.name if isinstance(node, SshNode) and node.port is not None else node.name.rstrip("0123456789")
        digits = node.name[len(stem) :]
        stems.setdefault((stem, len(digits)), []).append(int(digits or 0))
    return ",".join(_format_range(stem, width, sorted(numbers)) for (stem, width), numbers in stems.items())


def _format_range(stem: str, width: int, numbers: Sequence[int]) -> str:
    spans: list[list[int]] = []
    if not width:
        return stem
    for number in numbers:
        if spans and spans[-1][1] + 1 == number:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    parts = [f"{first:0{width}}" if first == last else f"{first:0{width}}-{last:0{width}}" for first, last in spans]
    return f"{stem}{parts[0]}" if len(numbers) == 1 else f"{stem}[{','.join(parts)}]"
