"""Prints the tables of `options.md`, made from the declarations: `python docs/_site/option_table.py`."""

import inspect
from typing import Any

import trioflow
from trioflow._core.job._option_descriptors import Option

KINDS = (
    trioflow.Job,
    trioflow.Service,
    trioflow.ThreadJob,
    trioflow.ProcessJob,
    trioflow.ExecutorJob,
    trioflow.DaskJob,
    trioflow.CommandJob,
    trioflow.SshJob,
)
"""The kinds of jobs that may have options of their own."""


def declared() -> list[str]:
    """Return the lines of the table of all options that are declared: those of every job, and of schedulers."""
    of_jobs = trioflow.AbstractJob._declared_options.keys()

    def line(row: Option[Any, Any]) -> str:
        kinds = "every job" if row.name in of_jobs else "`Scheduler`"
        return f"| `{row.name}` | {kinds} | `{row.default!r}` |"

    head = ["| option | of | default |", "| --- | --- | --- |"]
    return [*head, *map(line, trioflow.Scheduler._declared_options.values())]


def of_kinds() -> list[str]:
    """Return the lines of the table of the options that only some kinds have."""
    known = trioflow.AbstractJob._declared_options.keys()
    found: dict[tuple[str, str], list[str]] = {}
    for kind in KINDS:
        for one in inspect.signature(kind).parameters.values():
            if one.kind is one.KEYWORD_ONLY and one.name not in known:
                found.setdefault((one.name, repr(one.default)), []).append(f"`{kind.__name__}`")
    lines = [f"| `{name}` | {', '.join(kinds)} | `{default}` |" for (name, default), kinds in found.items()]
    return ["| option | of | default |", "| --- | --- | --- |", *lines]


if __name__ == "__main__":
    print(*declared(), "", *of_kinds(), sep="\n")
