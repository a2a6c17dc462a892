"""The error for an unknown name says what may be meant."""

from __future__ import annotations

from collections.abc import Iterable

import click

from ..abc import printable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was probably meant; None if none is like it."""
    import difflib  # here, because it is needed for errors alone

    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def check_command(group: click.Group, context: click.Context, name: str, hint: str | None) -> None:
    """Refuse a word that is no subcommand of a group.

    Args:
        group: the command with subcommands.
        context: that of the group.
        name: the word.
        hint: what may be meant; None if that is to be found among the names.

    Raises:
        UsageError: there is none of this name.

    """
    known = group.list_commands(context)
    if name in known or name.startswith("-") or context.resilient_parsing:
        return
    near = nearest(name, known)
    meant = hint or (f"do you mean {near!r}?" if near else f"there are {', '.join(known)}")
    raise click.UsageError(f"there is no command {printable(name)!r}; {meant}", context)
