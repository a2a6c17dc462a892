"""The error for a word that is no subcommand says what to write."""

from __future__ import annotations

import click

from ..abc import printable


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
    import difflib  # here, because it is needed for errors alone

    near = difflib.get_close_matches(name, known, n=1)
    meant = hint or (f"do you mean {near[0]!r}?" if near else f"there are {', '.join(known)}")
    raise click.UsageError(f"there is no command {printable(name)!r}; {meant}", context)
