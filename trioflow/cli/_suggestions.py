"""Suggestions in errors about unknown names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from ..abc import printable


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    import difflib  # imported here, because only errors need it

    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def join_choices(choices: Sequence[str]) -> str:
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last


def reject_unknown_command(group: click.Group, context: click.Context, name: str, hint: str | None) -> None:
    known = group.list_commands(context)
    if name in known or name.startswith("-") or context.resilient_parsing:
        return
    near = nearest_name(name, known)
    meant = hint or (f"do you mean {near!r}?" if near else f"the commands are {', '.join(known)}")
    raise click.UsageError(f"unknown command {printable(name)!r}; {meant}", context)
