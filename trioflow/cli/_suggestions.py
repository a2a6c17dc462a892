"""Suggestions in errors about unknown names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from .._hints import COMMAND_LINE_HINTS
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


def unknown_option_text(error: click.NoSuchOption) -> str:
    """Return the message of an error about an unknown option, with what was meant if the subcommand has it."""
    hint = COMMAND_LINE_HINTS.get(error.option_name, "")
    flags = {flag for parameter in (error.ctx.command.params if error.ctx else ()) for flag in parameter.opts}
    return f"{error.message} {hint}" if hint.partition(" ")[0] in flags else error.format_message()
