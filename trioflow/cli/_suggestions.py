"""Suggestions in errors about unknown names."""

from __future__ import annotations

from collections.abc import Sequence

import click

from .._hints import COMMAND_LINE_HINTS, nearest_name
from ..abc import printable


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


def unknown_option_text(error: click.NoSuchOption, hint: str | None = None) -> str:
    """Return the message of an error about an unknown option, with the hint, or what the subcommand has instead."""
    if hint is None:
        hint = COMMAND_LINE_HINTS.get(error.option_name, "")
        flags = {flag for parameter in (error.ctx.command.params if error.ctx else ()) for flag in parameter.opts}
        hint = hint if hint.partition(" ")[0] in flags else None
    return f"{error.message.removesuffix('.')}: {hint}" if hint else error.format_message()
