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


def option_error_text(error: click.NoSuchOption | click.BadParameter, hint: str | None = None) -> str:
    """Return the message of an error about an option, with the one that was meant, as by `-timeout`, or a hint.

    Without a hint about an unknown option, it is what the subcommand has instead.
    """
    context = error.ctx
    flags = {flag for one in (context.command.get_params(context) if context else ()) for flag in one.opts}
    words = {word.partition("=")[0] for word in getattr(context and context.find_root().obj, "arguments", ())}
    wrong = [error.option_name] if isinstance(error, click.NoSuchOption) else error.param.opts if error.param else []
    for flag in sorted(flags):  # with one dash, the letters of its name were taken for options
        if flag.startswith("--") and flag[1:] in words and any(name[1:] in flag[2:] for name in wrong):
            hint = f"do you mean {flag}?"
    if isinstance(error, click.BadParameter):
        return "; ".join(filter(None, (error.format_message(), hint)))
    if hint is None:
        hint = COMMAND_LINE_HINTS.get(error.option_name, "")
        hint = hint if hint.partition(" ")[0] in flags else None
    return f"{error.message.removesuffix('.')}: {hint}" if hint else error.format_message()
