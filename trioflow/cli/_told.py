"""What `trioflow run` tells other programs: events while it runs."""

from __future__ import annotations

import os
import sys
from typing import IO, Any

import click

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
    return click.option(
        "--events",
        callback=_events,
        metavar="FILE",
        shell_complete=file,
        help="Write what happens as lines of JSON; for -, to the standard output, and all else to the standard error.",
    )(command)
