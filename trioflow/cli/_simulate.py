"""The subcommand `trioflow simulate`: predicts the duration of a run."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import click

from .. import Scheduler, StopReason
from ..abc import AbstractJob, PolicyName, duration_text, is_scheduler, name_of_policy
from ..view.text._symbols import align_columns
from . import _outputs
from ._declared_options import option_type
from ._scenario import CliError, InputFile, make_window, parse_jobs_window, scenario_command, translate_errors

if TYPE_CHECKING:
    from ..simulation._simulate import Simulation

EXAMPLES: Final = """\b
Examples:
  trioflow simulate flow.py
  trioflow simulate flow.py -j 8 --policy critical-path
  trioflow simulate flow.py --durations .ninja_log
"""


@click.command(name="simulate", epilog=EXAMPLES)
@scenario_command
@click.option(
    "-j",
    "--jobs",
    "jobs_window",
    type=option_type(parse_jobs_window),
    metavar="N",
    help="The window, as for `run -j`; 0 for no limit.  [default: the scheduler's own]",
)
@click.option("--policy", type=click.Choice(get_args(PolicyName)), help="The policy.  [default: the scheduler's own]")
@click.option(
    "--durations",
    type=InputFile(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Durations of the jobs: a file kept by a Scheduler, or ninja's .ninja_log.",
)
def command(scheduler: Scheduler, jobs_window: int | None, policy: PolicyName | None, durations: Path | None) -> None:
    """Print how long a run would take, given the expected durations of the jobs.

    Nothing is run. No order can beat the lower bound, for example the longest path, or the work divided by the slots.
    "Slots used" is the share of the slots' time in which jobs run. "Results kept" is the maximum number of results kept
    at once.
    """
    from ..simulation._simulate import KEEP_WINDOW, simulate

    durations_by_job = None if durations is None else read_durations(durations)
    window: Any = KEEP_WINDOW if jobs_window is None else make_window(scheduler, jobs_window)
    run_simulation = functools.partial(
        simulate, scheduler, durations=durations_by_job, jobs_window=window, policy=policy
    )
    outcome: Simulation = translate_errors(scheduler, run_simulation)
    rows = [
        ("window", scheduler.window_size if jobs_window is None else jobs_window or None),
        ("policy", policy or name_of_policy(scheduler.policy)),
        *result_rows(outcome),
    ]
    for line in align_columns([(title, "none" if value is None else str(value)) for title, value in rows], (0, 1)):
        _outputs.echo(line)
    if note := guessed_durations_note(scheduler, outcome.guessed):
        _outputs.echo(f"\n{note}")


def result_rows(outcome: Simulation) -> Iterator[tuple[str, str]]:
    yield "makespan", duration_text(outcome.makespan)
    yield "lower bound", duration_text(outcome.lower_bound)
    if outcome.utilisation is not None:
        yield "slots used", f"{100 * outcome.utilisation:.0f} %"
    yield "results kept", str(outcome.peak_results)
    if outcome.stop_reason is not StopReason.COMPLETED:
        yield "stops early", outcome.stop_reason.name


def read_durations(durations: Path) -> dict[str, float]:
    from ..simulation import _duration_sources

    try:
        return _duration_sources.read_durations(durations, "--durations")
    except ValueError as error:
        raise CliError(str(error)) from None


def guessed_durations_note(scheduler: Scheduler, guessed: Mapping[AbstractJob[Any], float]) -> str:
    """Return a sentence with the number of unknown durations and their substitute; "" if all durations are known."""
    if not guessed:
        return ""
    seconds = duration_text(next(iter(guessed.values())))
    job_count = sum(not job.forever and not is_scheduler(job) for job in scheduler.iterate_jobs())
    if len(guessed) == job_count:
        return f"no duration is known, so each job counts as {seconds}: give expected_duration=, or --durations"
    has, counts = ("has", "counts") if len(guessed) == 1 else ("have", "count")
    return (
        f"{len(guessed)} of {job_count} jobs {has} no known duration, "
        f"and {counts} as the median of the others, {seconds}"
    )
