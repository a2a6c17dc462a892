"""Prints the tables of options, made from their declarations: `python docs/_site/option_table.py`."""

import inspect
import re

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


USUAL = re.compile(r"^ *(?:\*\*(\w+)\.\*\* )?Usually you set (.+)\.$", re.MULTILINE)
"""What a docstring says of options: of a group of those of every job, below its name, and of a scheduler's."""


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def table(*rows: tuple[str, ...]) -> list[str]:
    """Return a table whose first row is its head."""
    head, *others = rows
    return [row(*head), row(*("---" for _ in head)), *(row(*cells) for cells in others)]


def docstring(kind: type) -> str:
    return inspect.getdoc(kind) or ""


def declared() -> list[str]:
    """Return the lines of the table of all options that are declared: of every job by groups, then of schedulers."""
    of_jobs = trioflow.AbstractJob._declared_options
    of_schedulers = [
        option
        for name, option in trioflow.Scheduler._declared_options.items()
        if name not in of_jobs
    ]
    listed = ", ".join(
        f"`{option.name}={option.default!r}`" for option in of_schedulers
    )
    usual = USUAL.search(docstring(trioflow.Scheduler))
    assert usual is not None
    groups = USUAL.split(
        docstring(trioflow.AbstractJob).partition("Args:")[2].partition("Raises:")[0]
    )[1:]
    return table(
        ("about", "options of every job, with their defaults", "usually you set"),
        *(
            (name.lower(), options_in(text), usual)
            for name, usual, text in zip(
                groups[::3], groups[1::3], groups[2::3], strict=True
            )
        ),
        ("`Scheduler`", listed, usual[2]),
    )


def options_in(text: str) -> str:
    """Return the options that a part of the docstring of `AbstractJob` describes, with their defaults."""
    options = trioflow.AbstractJob._declared_options
    names = re.findall(r"^ {4}(\w+): ", text, re.MULTILINE)
    return ", ".join(f"`{name}={options[name].default!r}`" for name in names)


def of_kinds() -> list[str]:
    """Return the lines of the table of the options that only some kinds have."""
    known = trioflow.AbstractJob._declared_options.keys()
    kinds: dict[str, list[str]] = {}
    for kind in KINDS:
        for one in inspect.signature(kind).parameters.values():
            if one.kind is one.KEYWORD_ONLY and one.name not in known:
                kinds.setdefault(f"`{one.name}={one.default!r}`", []).append(
                    f"`{kind.__name__}`"
                )
    found: dict[str, list[str]] = {}
    for option, owners in kinds.items():
        found.setdefault(", ".join(owners), []).append(option)
    return table(
        ("kind", "options, with their defaults"),
        *((owners, ", ".join(some)) for owners, some in found.items()),
    )


if __name__ == "__main__":
    print(*declared(), "", *of_kinds(), sep="\n")
