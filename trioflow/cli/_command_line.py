"""`CommandLine`: what the user typed, and where, for the end of a run to refer to."""

from __future__ import annotations

import os
from typing import NamedTuple

import click


class CommandLine(NamedTuple):
    """The words behind `trioflow`, and the directory in which they were given; "" if that was removed."""

    words: tuple[str, ...]
    directory: str

    @classmethod
    def of(cls, words: list[str]) -> CommandLine:
        """Return that of these words in the working directory, which the user's file may change."""
        try:
            return cls(tuple(words), os.getcwd())
        except OSError:  # it was removed
            return cls(tuple(words), "")

    @classmethod
    def current(cls) -> CommandLine:
        """Return that of the command that runs."""
        found: CommandLine = click.get_current_context().find_root().obj
        return found
