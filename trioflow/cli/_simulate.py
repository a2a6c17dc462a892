"""The subcommand `trioflow simulate`: predicts the duration of a run with different windows and policies."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args

import click

from .. import Scheduler, StopReason
from ..abc import AbstractJob, PolicyName, duration_text, is_scheduler, name_of_policy
from ..view.text._symbols import align_columns
from ._scenario import CliError, InputFile, make_window, scenario_command, translate_errors

if TYPE_CHECKING:
    from ..simulation._simulate import Simulation

    SimulationResults: TypeAlias = dict[tuple[int | None, str], Simulation]
    """The results of simulations, keyed by (window, policy). The window None means no limit."""

UNLIMITED_SLOTS: Final = 1 << 60
MIN_GAIN: Final = 0.03
"""A larger window is recommended only if it saves more than this fraction of the makespan."""


def parse_windows(context: click.Context, option: click.Parameter, text: str | None) -> list[int | None]:
    """Parse windows: whole numbers separated by commas, where 0 means no limit."""
    if text is None:
        return []
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise click.BadParameter(f"{text!r}: give whole numbers, separated by commas; 0 for no limit")
    return [int(part) or None for part in parts]


def parse_policies(context: click.Context, option: click.Parameter, text: str | None) -> list[str]:
    """Parse names of policies, which are separated by commas."""
    names = [] if text is None else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in get_args(PolicyName):
            raise click.BadParameter(f"{name!r}: choose from {', '.join(get_args(PolicyName))}")
    return names


EXAMPLES: Final = """\b
Examples:
  trioflow simulate flow.py
  trioflow simulate flow.py -j 4,8,16 --policy fifo,critical-path
  trioflow simulate flow.py --durations .ninja_log
"""


@click.command(name="simulate", epilog=EXAMPLES)
@scenario_command
@click.option(
    "-j",
    "--jobs",
    "jobs_window",
    metavar="N,...",
    callback=parse_windows,
    help="Windows to compare, as for `run -j`; 0 for no limit.",
)
@click.option("--policy", metavar="NAME,...", callback=parse_policies, help="Policies to compare.")
@click.option(
    "--durations",
    type=InputFile(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Durations of the jobs: a file kept by a Scheduler, or ninja's .ninja_log.",
)
def command(scheduler: Scheduler, jobs_window: list[int | None], policy: list[str], durations: Path | None) -> None:
    """Print how long a run would take, given the expected durations of the jobs.

    Nothing is run. No order can beat the lower bound, for example the longest path, or the work divided by the slots.
    "Slots used" is the share of the slots' time in which jobs run. "Results kept" is the maximum number of results kept
    at once.
    """
    from ..simulation._simulate import KEEP_WINDOW, simulate

    durations_by_job = None if durations is None else read_durations(durations)
    sizes: list[Any] = [*jobs_window] or [KEEP_WINDOW]
    names: list[Any] = [*policy] or [None]
    outcomes: SimulationResults = {}
    for name in names:
        for size in sizes:
            window = KEEP_WINDOW if size is KEEP_WINDOW else make_window(scheduler, size)
            run_simulation = functools.partial(
                simulate, scheduler, durations=durations_by_job, jobs_window=window, policy=name
            )
            key = (scheduler.window_size if size is KEEP_WINDOW else size, name or name_of_policy(scheduler.policy))
            outcomes[key] = translate_errors(scheduler, run_simulation)
    guessed = next(iter(outcomes.values())).guessed
    guesses_note = guessed_durations_note(scheduler, guessed)
    if all_are_guessed := bool(guessed) and len(guessed) == count_timed_jobs(scheduler):
        click.echo(f"{guesses_note}\n")
    for line in table_lines(outcomes):
        click.echo(line)
    for sentence in () if all_are_guessed else filter(None, (comparison_text(outcomes), guesses_note)):
        click.echo(f"\n{sentence}")


def read_durations(durations: Path) -> dict[str, float]:
    """Read the durations of jobs from a file.

    Raises:
        CliError: the file has an unknown format or version.

    """
    from ..simulation import _duration_sources

    try:
        return _duration_sources.read_durations(durations, "--durations")
    except ValueError as error:
        raise CliError(str(error)) from None


def table_lines(outcomes: SimulationResults) -> Iterator[str]:
    """Yield the lines of the table: the titles, and a line for each simulation."""
    rows = [("window", "policy", "makespan", "lower bound", "slots used", "results kept", "")]
    for (size, policy), outcome in outcomes.items():
        rows.append(
            (
                "none" if size is None else str(size),
                policy,
                duration_text(outcome.makespan),
                duration_text(outcome.lower_bound),
                "" if outcome.utilisation is None else f"{100 * outcome.utilisation:.0f} %",
                str(outcome.peak_results),
                "" if outcome.stop_reason is StopReason.COMPLETED else f"stops early: {outcome.stop_reason.name}",
            )
        )
    return align_columns(rows, (1, len(rows[0]) - 1))


def comparison_text(outcomes: SimulationResults) -> str:
    """Return a sentence on the best policy and the smallest sufficient window; "" if there is nothing to compare.

    The windows are compared with the best policy alone. Runs that stop early are left out.
    """
    makespans = {
        key: outcome.makespan for key, outcome in outcomes.items() if outcome.stop_reason is StopReason.COMPLETED
    }
    total_makespans: dict[str, float] = {}
    for (_, policy), makespan in makespans.items():
        total_makespans[policy] = total_makespans.get(policy, 0.0) + makespan
    if not any(total_makespans.values()):
        return ""
    best = min(total_makespans, key=total_makespans.__getitem__)
    worst = max(total_makespans, key=total_makespans.__getitem__)
    policies_differ = total_makespans[best] < total_makespans[worst]
    windows = sorted(
        (size or UNLIMITED_SLOTS, makespan) for (size, policy), makespan in makespans.items() if policy == best
    )
    if len(windows) == 1:
        saving = 100 * (1 - total_makespans[best] / total_makespans[worst])
        return f"{best} takes {saving:.0f} % less time than {worst}" if policies_differ else ""
    text = sufficient_window_text(windows)
    return f"with {best}, {text}" if policies_differ else text


def sufficient_window_text(windows: list[tuple[int, float]]) -> str:
    """Return a sentence on the smallest window that is enough, or on how much the largest one gains.

    Args:
        windows: pairs of a size and a makespan, in ascending order of the sizes.

    """
    largest, fastest = windows[-1]
    for size, seconds in windows[:-1]:
        gain = 1 - fastest / seconds
        if gain <= MIN_GAIN:
            enough = "1 slot is enough" if size == 1 else f"{size} slots are enough"
            gains = "no limit gains" if largest == UNLIMITED_SLOTS else f"{largest} gain"
            return f"{enough}: {gains} {100 * gain:.0f} %"
    size, seconds = windows[-2]
    takes = "no limit takes" if largest == UNLIMITED_SLOTS else f"{largest} slots take"
    return f"more slots help: {takes} {100 * (1 - fastest / seconds):.0f} % less time than {size}"


def count_timed_jobs(scheduler: Scheduler) -> int:
    """Return the number of jobs that have a duration: all except forever jobs and schedulers."""
    return sum(not job.forever and not is_scheduler(job) for job in scheduler.iterate_jobs())


def guessed_durations_note(scheduler: Scheduler, guessed: Mapping[AbstractJob[Any], float]) -> str:
    """Return a sentence with the number of unknown durations and their substitute; "" if all durations are known."""
    if not guessed:
        return ""
    seconds = duration_text(next(iter(guessed.values())))
    job_count = count_timed_jobs(scheduler)
    if len(guessed) == job_count:
        return f"no duration is known, so each job counts as {seconds}: give expected_duration=, or --durations"
    has, counts = ("has", "counts") if len(guessed) == 1 else ("have", "count")
    return (
        f"{len(guessed)} of {job_count} jobs {has} no known duration, "
        f"and {counts} as the median of the others, {seconds}"
    )
