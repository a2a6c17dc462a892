"""`trioflow simulate`: how long a run would take with one window or policy or another."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Final

import click

from .._core.limits._order import POLICIES
from .._core.scheduler._scheduler import BaseScheduler
from ..view import _units as units
from ._completion import file
from ._scenario import refusing, takes_scenario

ENOUGH: Final = 0.03
"""A larger window is worth mentioning if it gains more than this share of the time."""


def windows(context: click.Context, option: click.Parameter, text: str | None) -> list[int | None]:
    """Parse whole numbers, separated by commas; 0 is no limit."""
    if text is None:
        return []
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise click.BadParameter(f"{text!r}: give whole numbers, separated by commas; 0 for no limit")
    return [int(part) or None for part in parts]


def policies(context: click.Context, option: click.Parameter, text: str | None) -> list[str]:
    """Parse names of policies, separated by commas."""
    names = [] if text is None else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in POLICIES:
            raise click.BadParameter(f"{name!r}: choose from {', '.join(POLICIES)}")
    return names


@click.command(name="simulate")
@takes_scenario
@click.option("--jobs-window", metavar="N,...", callback=windows, help="Windows to compare; 0 for no limit.")
@click.option("--policy", metavar="NAME,...", callback=policies, help="Policies to compare.")
@click.option(
    "--durations",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    shell_complete=file,
    help="How long the jobs take: a file that a Scheduler has kept, or ninja's .ninja_log.",
)
def command(scheduler: BaseScheduler, jobs_window: list[int | None], policy: list[str], durations: Path | None) -> None:
    """Print how long a run would take, by the expected durations of the jobs.

    Nothing is run. The lower bound is what no order can beat: the longest path, or the work shared by the slots.
    """
    from ..simulation._simulate import OWN, Simulation, simulate

    sizes: list[Any] = [*jobs_window] or [OWN]
    names: list[Any] = [*policy] or [None]
    found: dict[tuple[Any, Any], Simulation] = {}
    for name in names:
        for size in sizes:
            found[size, name] = refusing(
                functools.partial(simulate, scheduler, durations=durations, jobs_window=size, policy=name)
            )
    own = scheduler.jobs_window if scheduler.jobs_window is None or isinstance(scheduler.jobs_window, int) else "own"
    rows = [("window", "policy", "makespan", "lower bound", "used", "results")]
    for (size, name), one in found.items():
        window = own if size is OWN else size
        rows.append(
            (
                "none" if window is None else str(window),
                name or str(scheduler.policy),
                units.compact(one.makespan).strip(),
                units.compact(one.lower_bound).strip(),
                "" if one.utilisation is None else f"{100 * one.utilisation:.0f} %",
                str(one.peak_results),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        padded[1] = row[1].ljust(widths[1])
        click.echo("  ".join(padded).rstrip())
    sentence = verdict({key: one.makespan for key, one in found.items() if key[0] is not OWN})
    if sentence:
        click.echo(f"\n{sentence}")


def verdict(makespans: dict[tuple[int | None, Any], float]) -> str:
    """Say which of several windows is enough, under the policy that is fastest in all; "" if there is only one."""
    if len({size for size, _ in makespans}) < 2:
        return ""
    names = dict.fromkeys(name for _, name in makespans)
    best = min(names, key=lambda name: sum(seconds for (_, one), seconds in makespans.items() if one == name))
    under = sorted(((size or 1 << 60, seconds) for (size, name), seconds in makespans.items() if name == best))
    last, fastest = under[-1]
    for size, seconds in under[:-1]:
        gain = 1 - fastest / seconds if seconds else 0.0
        if gain <= ENOUGH:
            more = "no limit" if last == 1 << 60 else str(last)
            return f"{size} slots are enough: {more} gain{'s' if more == 'no limit' else ''} {100 * gain:.0f} %"
    size, seconds = under[-2]
    more = "no limit takes" if last == 1 << 60 else f"{last} slots take"
    return f"more slots help: {more} {100 * (1 - fastest / seconds):.0f} % less time than {size}"
