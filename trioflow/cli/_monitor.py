"""`trioflow monitor`: show a run of another program from its events, while it goes on or afterwards."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import click

from .. import Monitor
from . import FINE, STOPPED
from ._run import make_instrument
from ._scenario import Refusal

if TYPE_CHECKING:
    from ..view.events._follow import Follower


@click.command(name="monitor")
@click.argument("events", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
def command(events: str) -> int:
    """Show a run from its events: from the file EVENTS that it writes, or has written; - is the standard input.

    The run writes it by `trioflow run --events EVENTS`, or by `Events(path)` in a program. What is shown ends with the
    run; Ctrl-C ends only what is shown.
    """
    monitor = make_instrument("Monitor", Monitor)
    try:
        from ..view.events import _follow
    except ModuleNotFoundError as error:
        raise Refusal(f"trioflow monitor needs {error.name}: pip install 'trioflow[cli]'") from None
    descriptor = os.dup(0) if events == "-" else os.open(events, os.O_RDONLY)
    follower = _follow.Follower(monitor)
    try:
        _follow_to_the_end(follower, descriptor)
    except _follow.BadEvents as error:
        raise Refusal(f"{events}: {error}") from None
    finally:
        follower.close()
        os.close(descriptor)
    if not follower.known_events:
        raise Refusal(f"{events}: no events of trioflow are in it; a run writes them with --events")
    if follower.missing_lines:
        lines = "1 line is" if follower.missing_lines == 1 else f"{follower.missing_lines} lines are"
        click.echo(f"{events}: {lines} missing: the reader was too slow, or something has cut them out", err=True)
    if not follower.ended:
        click.echo("the run has not told its end: its process is gone, or its lines were cut off", err=True)
    return FINE if follower.ended else STOPPED


def _follow_to_the_end(follower: Follower, descriptor: int) -> None:
    from ..view.events import _follow

    is_abandoned = False
    for line in _follow.read_lines(descriptor):
        if line is not None:
            follower.feed(line)
            continue
        follower.catch_up()
        if follower.ended or is_abandoned or not follower.known_events:
            return
        is_abandoned = follower.is_abandoned()  # its last lines are read before this counts
        time.sleep(_follow.POLL_INTERVAL)
