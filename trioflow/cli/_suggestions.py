"""Suggestions in errors about unknown names."""

from __future__ import annotations

from collections.abc import Iterable

import click

from ..abc import printable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the most similar known name; None if none is similar."""
    import difflib  # here, because it is needed for errors alone

    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def check_command(group: click.Group, context: click.Context, name: str, hint: str | None) -> None:
    """Reject a word that is not a subcommand of a group.

    Args:
        group: the command with subcommands.
        context: the context of the group.
        name: the word.
        hint: the suggestion; None to search it among the names.

    Raises:
        UsageError: there is no subcommand of this name.

    """
    known = group.list_commands(context)
    if name in known or name.startswith("-") or context.resilient_parsing:
        return
    near = nearest(name, known)
    meant = hint or (f"do you mean {near!r}?" if near else f"there are {', '.join(known)}")
    raise click.UsageError(f"there is no command {printable(name)!r}; {meant}", context)
