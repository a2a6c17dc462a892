"""`trioflow simulate`: the duration of a run with different windows and policies."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args

import click

from .. import Scheduler, StopReason
from ..abc import AbstractJob, PolicyName, duration_text, is_scheduler, name_of_policy
from ..view.text._symbols import align_columns
from ._scenario import Refusal, takes_scenario, translate_errors, window_of_run

if TYPE_CHECKING:
    from ..simulation._simulate import Simulation

    Outcomes: TypeAlias = dict[tuple[int | None, str], Simulation]
    """Simulations by window (None: no limit) and policy."""

NO_LIMIT: Final = 1 << 60
MIN_GAIN: Final = 0.03
"""The share of the time that a larger window must gain to be worth it."""


def parse_windows(context: click.Context, option: click.Parameter, text: str | None) -> list[int | None]:
    """Parse whole numbers, separated by commas; 0 means no limit."""
    if text is None:
        return []
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise click.BadParameter(f"{text!r}: give whole numbers, separated by commas; 0 for no limit")
    return [int(part) or None for part in parts]


def parse_policies(context: click.Context, option: click.Parameter, text: str | None) -> list[str]:
    """Parse names of policies, separated by commas."""
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
@takes_scenario
@click.option(
    "-j",
    "--jobs",
    "jobs_window",
    metavar="N,...",
    callback=parse_windows,
    help="Windows to compare, as `run -j` has them; 0 for no limit.",
)
@click.option("--policy", metavar="NAME,...", callback=parse_policies, help="Policies to compare.")
@click.option(
    "--durations",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="How long the jobs take: a file that a Scheduler has kept, or ninja's .ninja_log.",
)
def command(scheduler: Scheduler, jobs_window: list[int | None], policy: list[str], durations: Path | None) -> None:
    """Print how long a run would take, by the expected durations of the jobs.

    Nothing is run. The lower bound is what no order can beat: the longest path, or the work shared by the slots. Slots
    used is the share of their time in which jobs run. Results kept is the most results that are kept at once.
    """
    from ..simulation._simulate import OWN, simulate

    known = None if durations is None else read_durations(durations)
    sizes: list[Any] = [*jobs_window] or [OWN]
    names: list[Any] = [*policy] or [None]
    outcomes: Outcomes = {}
    for name in names:
        for size in sizes:
            window = OWN if size is OWN else window_of_run(scheduler, size)
            one = translate_errors(
                scheduler, functools.partial(simulate, scheduler, durations=known, jobs_window=window, policy=name)
            )
            outcomes[scheduler.window_size if size is OWN else size, name or name_of_policy(scheduler.policy)] = one
    guessed = next(iter(outcomes.values())).guessed
    guesses = guesses_note(scheduler, guessed)
    if is_unknown := bool(guessed) and len(guessed) == number_of_jobs(scheduler):
        click.echo(f"{guesses}\n")
    for line in table(outcomes):
        click.echo(line)
    for sentence in () if is_unknown else filter(None, (verdict(outcomes), guesses)):
        click.echo(f"\n{sentence}")


def read_durations(durations: Path) -> dict[str, float]:
    """Read durations from a file.

    Raises:
        Refusal: the file is of another kind or version.

    """
    from ..simulation import _durations

    try:
        return _durations.check_durations(durations, "--durations")
    except ValueError as error:
        raise Refusal(str(error)) from None


def table(outcomes: Outcomes) -> Iterator[str]:
    """Yield a line of titles, and one for each simulation."""
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


def verdict(outcomes: Outcomes) -> str:
    """Return which window is enough, or which policy is faster; "" without a choice.

    Of several policies, only the fastest one counts. Runs that stop early do not count.
    """
    seconds = {
        key: outcome.makespan for key, outcome in outcomes.items() if outcome.stop_reason is StopReason.COMPLETED
    }
    sums: dict[str, float] = {}
    for (_, policy), makespan in seconds.items():
        sums[policy] = sums.get(policy, 0.0) + makespan
    if not any(sums.values()):
        return ""
    best, worst = min(sums, key=sums.__getitem__), max(sums, key=sums.__getitem__)
    differ = sums[best] < sums[worst]
    under = sorted((size or NO_LIMIT, makespan) for (size, policy), makespan in seconds.items() if policy == best)
    if len(under) == 1:
        return f"{best} takes {100 * (1 - sums[best] / sums[worst]):.0f} % less time than {worst}" if differ else ""
    return f"with {best}, {smallest_sufficient_window(under)}" if differ else smallest_sufficient_window(under)


def smallest_sufficient_window(under: list[tuple[int, float]]) -> str:
    """Return which of several windows, each with its makespan, is enough."""
    last, fastest = under[-1]
    for size, seconds in under[:-1]:
        gain = 1 - fastest / seconds
        if gain <= MIN_GAIN:
            enough = "1 slot is enough" if size == 1 else f"{size} slots are enough"
            return f"{enough}: {'no limit gains' if last == NO_LIMIT else f'{last} gain'} {100 * gain:.0f} %"
    size, seconds = under[-2]
    more = "no limit takes" if last == NO_LIMIT else f"{last} slots take"
    return f"more slots help: {more} {100 * (1 - fastest / seconds):.0f} % less time than {size}"


def number_of_jobs(scheduler: Scheduler) -> int:
    """Return the number of jobs that take time: neither forever jobs nor schedulers."""
    return sum(not job.forever and not is_scheduler(job) for job in scheduler.iterate_jobs())


def guesses_note(scheduler: Scheduler, guessed: Mapping[AbstractJob[Any], float]) -> str:
    """Return the number of unknown durations, and their substitute; "" if all are known."""
    if not guessed:
        return ""
    seconds = duration_text(next(iter(guessed.values())))
    every = number_of_jobs(scheduler)
    if len(guessed) == every:
        return f"no duration is known, so each job counts as {seconds}: give expected_duration=, or --durations"
    has, counts = ("has", "counts") if len(guessed) == 1 else ("have", "count")
    return (
        f"{len(guessed)} of {every} jobs {has} no known duration, and {counts} as the median of the others, {seconds}"
    )
