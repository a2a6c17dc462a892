"""Prints the tables of options, made from their declarations: `python docs/_site/option_table.py`."""

import inspect

import trioflow

KINDS = (
    trioflow.Job,
    trioflow.Service,
    trioflow.ThreadJob,
    trioflow.ProcessJob,
    trioflow.CommandJob,
    trioflow.SshJob,
)
"""The kinds of jobs that may have options of their own."""


HEAD = ["| of | options, with their defaults |", "| --- | --- |"]


def table(found: dict[str, list[str]]) -> list[str]:
    """Return a table with a line for those that have options."""
    return [*HEAD, *(f"| {owners} | {', '.join(options)} |" for owners, options in found.items())]


def declared() -> list[str]:
    """Return the lines of the table of all options that are declared: those of every job, and of schedulers."""
    of_jobs = trioflow.AbstractJob._declared_options.keys()
    found: dict[str, list[str]] = {}
    for row in trioflow.Scheduler._declared_options.values():
        found.setdefault("every job" if row.name in of_jobs else "`Scheduler`", []).append(
            f"`{row.name}={row.default!r}`"
        )
    return table(found)


def of_kinds() -> list[str]:
    """Return the lines of the table of the options that only some kinds have."""
    known = trioflow.AbstractJob._declared_options.keys()
    kinds: dict[str, list[str]] = {}
    for kind in KINDS:
        for one in inspect.signature(kind).parameters.values():
            if one.kind is one.KEYWORD_ONLY and one.name not in known:
                kinds.setdefault(f"`{one.name}={one.default!r}`", []).append(f"`{kind.__name__}`")
    found: dict[str, list[str]] = {}
    for option, owners in kinds.items():
        found.setdefault(", ".join(owners), []).append(option)
    return table(found)


if __name__ == "__main__":
    print(*declared(), "", *of_kinds(), sep="\n")
