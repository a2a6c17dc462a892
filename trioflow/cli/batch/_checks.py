"""What makes no sense together on a command line of `trioflow batch`."""

from __future__ import annotations

import click

from ...abc import printable
from ._given import Given


def check(given: Given) -> None:
    """Refuse what makes no sense together.

    Raises:
        click.UsageError: it does not.

    """
    if (given.resume or given.resume_failed) and not given.joblog:
        raise click.UsageError("--resume needs --joblog, which records what has run")
    if given.joblog_usage and not given.joblog:
        raise click.UsageError("--joblog-usage needs --joblog, to which it adds columns")
    if given.retry_failed and not given.joblog:
        raise click.UsageError("--retry-failed needs --joblog, which says what has failed")
    check_output(given)
    check_files(given.joblog, given.results)
    check_journal(given)
    check_resources(given)


def check_output(given: Given) -> None:
    """Refuse what makes no sense where output is printed as it comes."""
    passed_on = [name for name, is_given in (("-u", given.ungroup), ("--line-buffer", given.line_buffer)) if is_given]
    if len(passed_on) == 2:
        raise click.UsageError("-u and --line-buffer: give one of them; --line-buffer never mixes two lines")
    kept = (("--results", given.results), ("--journal", given.journal))
    for name in [name for name, value in kept if passed_on and value is not None]:
        raise click.UsageError(f"{name} keeps outputs, and {passed_on[0]} only passes them on: leave one of them out")
    if given.ungroup and given.bar:
        raise click.UsageError("--bar is drawn below the output, and -u is not seen by it: give --line-buffer instead")
    if given.header not in (None, ":"):
        raise click.UsageError(
            "--header: write --header :, for names of columns in the first line; the rest is for --pipe"
        )


def check_files(joblog: str | None, results: str | None) -> None:
    """Refuse what GNU parallel takes for something other than the name of a file or directory."""
    if joblog in ("-", "+-"):
        raise click.UsageError("--joblog - is not supported: name a file, such as /dev/stderr, or ./- for one called -")
    if results is None:
        return
    if results.endswith((".csv", ".tsv", ".json")):
        raise click.UsageError(
            f"--results {printable(results)}: tables are not supported; name a file FILE.jsonl, which gets a line of "
            f"JSON for each command, or a directory, which gets a file for each output"
        )


def check_journal(given: Given) -> None:
    """Refuse what makes no sense with a journal, or without one."""
    names_files = given.reads or given.writes
    if names_files and given.journal is None:
        raise click.UsageError("--reads and --writes need --journal, which keeps how the files were")
    if names_files and given.nodes:
        raise click.UsageError("--reads and --writes name files of this machine, and the commands run on nodes")
    if given.journal is not None and given.dry_run:
        raise click.UsageError(
            f"--dry-run does not look into a journal: for what it has, call trioflow journal {printable(given.journal)}"
        )


def check_resources(given: Given) -> None:
    """Refuse what makes no sense on nodes, or alone."""
    if given.pool and not given.needs:
        raise click.UsageError("--pool needs --needs, which says what each command takes of it")
    about_here = (("--memfree", given.memfree), ("--load", given.load), ("--needs", given.needs))
    here = [name for name, value in about_here if value]
    if given.nodes and here:
        verb = "is" if len(here) == 1 else "are"
        raise click.UsageError(f"{' and '.join(here)} {verb} about this machine, and the commands run on nodes")
