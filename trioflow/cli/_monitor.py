"""The subcommand `trioflow monitor`: shows a run of another program from its events, during the run or after it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import click

from .. import Monitor
from . import STOPPED_CODE, SUCCESS_CODE, _outputs
from ._run import make_instrument
from ._scenario import CliError, InputFile

if TYPE_CHECKING:
    from ..view.events._follow import Follower


@click.command(name="monitor")
@click.argument("events", type=InputFile(dir_okay=False, allow_dash=True))
def command(events: str) -> int:
    """Show a run from its events, during the run or later.

    EVENTS is the file that the run writes with `trioflow run --events EVENTS`, or with `Events(path)` in a program; -
    is standard input. The display ends with the run; Ctrl-C ends only the display.
    """
    monitor = make_instrument("Monitor", Monitor)
    try:
        from ..view.events import _follow
    except ModuleNotFoundError as error:
        raise CliError(f"trioflow monitor needs {error.name}: pip install 'trioflow[cli]'") from None
    descriptor = os.dup(0) if events == "-" else os.open(events, os.O_RDONLY)
    follower = _follow.Follower(monitor)
    try:
        _replay_until_end(follower, descriptor)
    except _follow.BadEvents as error:
        raise CliError(f"{events}: {error}") from None
    finally:
        follower.close()
        os.close(descriptor)
    if not follower.known_event_count:
        raise CliError(f"{events} contains no trioflow events; `trioflow run --events` writes them")
    if follower.missing_line_count:
        lines = "1 line is" if follower.missing_line_count == 1 else f"{follower.missing_line_count} lines are"
        _outputs.echo(f"{events}: {lines} missing: the reader was too slow, or the file was edited", err=True)
    if not follower.has_ended:
        _outputs.echo("the last events are missing: the run's process has died, or the file was truncated", err=True)
    return SUCCESS_CODE if follower.has_ended else STOPPED_CODE


def _replay_until_end(follower: Follower, descriptor: int) -> None:
    from ..view.events import _follow

    is_abandoned = False
    for line in _follow.read_lines(descriptor):
        if line is not None:
            follower.replay_line(line)
            continue
        follower.start_live_clock()
        if follower.has_ended or is_abandoned or not follower.known_event_count:
            return
        # When the process of the run is gone, read once more: it may have written its last lines just before.
        is_abandoned = follower.is_abandoned()
        time.sleep(_follow.POLL_INTERVAL)
