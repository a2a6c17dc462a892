"""What `trioflow run` tells other programs: events while it runs, and how it went to a CI system."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO, Any

import click

from .. import JUnit, Summary
from . import _outputs
from ._completion import file


def _events(ctx: click.Context, param: click.Parameter, given: str | None) -> str | IO[bytes] | None:
    """Return where events go. With `-`, they have the standard output for themselves."""
    if given is None or ctx.resilient_parsing:
        return None
    if given != "-":
        return str(_outputs.output_file()(given))
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)  # what jobs, their commands and this program print is no event
    events = os.fdopen(os.dup(kept), "wb", buffering=0)

    def give_back() -> None:
        events.close()
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)

    ctx.call_on_close(give_back)
    return events


def options(command: Any) -> Any:
    """Add the options to `trioflow run`."""
    for option in (
        click.option(
            "--summary",
            type=_outputs.output_file(),
            metavar="FILE",
            shell_complete=file,
            help="Write the verdict, the failures and the slowest jobs as Markdown.  [default in GitHub's actions: the "
            "summary of the step]",
        ),
        click.option(
            "--junit",
            type=_outputs.output_file(),
            metavar="FILE",
            shell_complete=file,
            help="Write a test case for each job, as JUnit XML for CI systems.",
        ),
        click.option(
            "--events",
            callback=_events,
            metavar="FILE",
            shell_complete=file,
            help="Write what happens as lines of JSON; for -, to the standard output, all else to the standard error.",
        ),
    ):
        command = option(command)
    return command


def reports(junit: Path | None, summary: Path | None) -> list[JUnit | Summary]:
    """Return what writes the reports that were asked for; in one of GitHub's actions, its summary unasked."""
    found: list[JUnit | Summary] = []
    if junit:
        found.append(JUnit(junit))
    if summary or (os.environ.get("GITHUB_ACTIONS") and os.environ.get("GITHUB_STEP_SUMMARY")):
        found.append(Summary(summary))
    return found
