"""Command lines for a shell, and t-strings (Python 3.14), of whose values the shell gets each as one word.

A line is a sequence of parts: texts at the even places, and at the odd ones the values of a t-string between them.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from typing import Any, Final, cast

from ...abc import AbstractJob, shown_value
from ._granted import granted

if sys.version_info >= (3, 14):
    from string.templatelib import Template as Template
else:

    class Template:
        """The type of t-strings, which this version of Python does not have."""


HARMLESS: Final = re.compile(
    r"""\\. | '[^']*' | "(?:[^"\\]|\\.)*" | `[^`]*` | (?<![^\s;|&()])\#[^\n]*\n""", re.DOTALL | re.VERBOSE
)
"""What may precede a value: escaped characters, complete quotations and command substitutions, and whole comments."""
HARMFUL: Final = re.compile(r"""['"`\\] | << | \$\Z | (?<![^\s;|&()])\#""", re.VERBOSE)
"""What must not precede a value, apart from `HARMLESS` texts: there, quotes around the value would not protect it."""
CONVERSIONS: Final = {"r": repr, "s": str, "a": ascii}


def line_parts(line: Any, subject: str) -> tuple[Any, ...]:
    """Return the parts of a line, which is a t-string, or anything else as the only part.

    Raises:
        TypeError: a value with a format or a conversion is a job or a placeholder, which has no text yet.
        ValueError: the t-string is empty, or a value is inside quotes, a comment or a here-document.

    """
    if not isinstance(line, Template):
        return (line,)
    template = cast(Any, line)
    text, *texts = template.strings
    if not texts and not text.strip():
        raise ValueError(f"{subject}: the command is empty: give a command line")
    parts, before = [text], text
    for interpolation, text in zip(template.interpolations, texts, strict=True):
        value, name = interpolation.value, shown_value(f"{{{interpolation.expression}}}", subject)
        if HARMFUL.search(HARMLESS.sub("", before)):
            raise ValueError(
                f"{subject}: {name} follows an open quote, comment or here-document, or a backslash or $: "
                f"each value is quoted for the shell, so put it where a word of its own may be"
            )
        if interpolation.conversion or interpolation.format_spec:
            if isinstance(value, (AbstractJob, granted)):
                raise TypeError(f"{subject}: {name} has no value yet: remove its conversion and format")
            conversion: Any = CONVERSIONS.get(interpolation.conversion)
            value = format(value if conversion is None else conversion(value), interpolation.format_spec)
        parts += value, text
        before += text
    return tuple(parts)


def join_line(parts: Sequence[str | bytes]) -> str | bytes:
    """Join the parts of a line, with each value quoted."""
    if len(parts) == 1:
        return parts[0]
    return "".join(shlex.quote(text) if number % 2 else text for number, text in enumerate(map(os.fsdecode, parts)))
