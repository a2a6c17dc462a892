"""Command lines for a shell, and t-strings (Python 3.14), of whose values the shell gets each as one word.

A line is a sequence of parts: texts at the even places, and at the odd ones the values of a t-string between them.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any, Final, cast

from ...abc import AbstractJob, shown_value
from ._granted import granted
from ._shell_places import QuotingState

if sys.version_info >= (3, 14):
    from string.templatelib import Template as Template
else:

    class Template:
        """The type of t-strings, which this version of Python does not have."""


CONVERSIONS: Final = {"r": repr, "s": str, "a": ascii}


def line_parts(line: Any, subject: str) -> tuple[Any, ...]:
    """Return the parts of a line, which is a t-string, or anything else as the only part.

    Raises:
        TypeError: a value with a format or a conversion is a job or a placeholder, which has no text yet.
        ValueError: the t-string is empty, or a value is at a place where quoting does not protect it, as inside quotes.

    """
    if not isinstance(line, Template):
        return (line,)
    template = cast(Any, line)
    text, *texts = template.strings
    if not texts and not text.strip():
        raise ValueError(f"{subject}: the command is empty: give a command line")
    parts, state = [text], QuotingState()
    state.read(text)
    for interpolation, text in zip(template.interpolations, texts, strict=True):
        value, name = interpolation.value, shown_value(f"{{{interpolation.expression}}}", subject)
        if (place := state.unsafe_place) is not None or state.is_comment:
            where = "in a comment" if place is None else place.name
            raise ValueError(
                f"{subject}: {name} is {where}, where the quotes around each value do not protect it: "
                f"put it where a word of its own may be"
            )
        if interpolation.conversion or interpolation.format_spec:
            if isinstance(value, (AbstractJob, granted)):
                raise TypeError(f"{subject}: {name} has no value yet: remove its conversion and format")
            conversion: Any = CONVERSIONS.get(interpolation.conversion)
            value = format(value if conversion is None else conversion(value), interpolation.format_spec)
        parts += value, text
        state.read_argument()
        state.read(text)
    return tuple(parts)


def join_line(parts: Sequence[str | bytes]) -> str | bytes:
    """Join the parts of a line, with each value quoted."""
    if len(parts) == 1:
        return parts[0]
    return "".join(shlex.quote(text) if number % 2 else text for number, text in enumerate(map(os.fsdecode, parts)))
