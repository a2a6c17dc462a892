"""What `trioflow batch` says at its end, if commands have failed or a signal has ended it; otherwise it is silent."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from typing import Final

import click

from ... import StopReason
from ...abc import printable, without_middle
from ...batch._batch import Batch
from ...view.monitor._monitor import has_colours
from ...view.text._symbols import Symbols
from ...view.text._verdict import verdict
from .. import _outputs
from ._given import Given

IN_A_FILE: Final = 120
"""Columns of a line that does not go to a terminal."""
SHORTEST: Final = 20
"""Characters that a command has at least."""


def closing(batch: Batch, given: Given, seconds: float) -> Iterator[str]:
    """Yield the lines: how many have failed, the first of these, and how to go on after an interruption."""
    tally = batch.tally
    if not (tally.failed or batch.was_interrupted):
        return
    symbols = Symbols.of(sys.stderr)
    said = verdict(
        StopReason.INTERRUPTED if batch.was_interrupted else StopReason.COMPLETED,
        jobs=max(batch.expected or 0, tally.failed + tally.succeeded),
        failed=tally.failed,
        succeeded=tally.succeeded,
        seconds=seconds,
        what="command",
    ).line("batch", symbols)
    yield click.style(said, fg="red", bold=True) if has_colours(sys.stderr) else said
    columns = shutil.get_terminal_size().columns if sys.stderr.isatty() else IN_A_FILE
    for line, reason in batch.failures:
        why = reason.removeprefix(f"{line}: ")
        yield symbols.line(f"  {without_middle(printable(line), max(SHORTEST, columns - len(why) - 5))}: {why}")
    if tally.failed > len(batch.failures):
        yield f"  and {tally.failed - len(batch.failures)} more"
    if batch.was_interrupted:
        yield f"  {how_to_go_on(given)}"


def how_to_go_on(given: Given) -> str:
    """Return in words how a later batch does only what is left."""
    if given.journal is not None or (given.joblog is not None and (given.resume or given.resume_failed)):
        return "to go on later: the same command again"
    if given.joblog is not None:
        return "to go on later: the same command with --resume"
    return "to be able to go on: --journal FILE, or --joblog FILE and later --resume"


def say(lines: Iterator[str]) -> None:
    """Print lines on the standard error, if there is one."""
    for line in lines if sys.stderr is not None else ():  # pyright: ignore[reportUnnecessaryComparison] - closed
        _outputs.said(line, err=True)
