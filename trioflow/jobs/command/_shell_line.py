"""Command lines for a shell, and t-strings (Python 3.14), of whose values the shell gets each as one word.

A line is a sequence of parts: texts at the even places, and at the odd ones the values of a t-string between them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, Final, cast

from ..._core.job._job import is_job
from ...abc import shown_value
from ._granted import granted
from ._shell_places import COMMENT, VALUE, UnsafePlaceError, check_places, mark_of, quote

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
    parts = [text]
    names = [shown_value(f"{{{each.expression}}}", subject) for each in template.interpolations]
    for interpolation, name, text in zip(template.interpolations, names, texts, strict=True):
        value = interpolation.value
        if interpolation.conversion or interpolation.format_spec:
            if is_job(value) or isinstance(value, granted):
                raise TypeError(f"{subject}: {name} has no value yet: remove its conversion and format")
            conversion: Any = CONVERSIONS.get(interpolation.conversion)
            value = format(value if conversion is None else conversion(value), interpolation.format_spec)
        parts += value, text
    check_line(parts, names, subject)
    return tuple(parts)


def check_line(parts: Sequence[Any], names: Sequence[str], subject: str) -> None:
    """Check that the values of a line are where quoting protects them.

    Args:
        parts: the parts of the line, with jobs and placeholders for values that are not known yet.
        names: what errors call the values.
        subject: the name of the job, for errors.

    Raises:
        ValueError: a value is somewhere else.

    """
    marks = [mark_of(_known_text(value)) for value in parts[1::2]]
    try:
        places = [*zip(marks, check_places([*map(os.fsdecode, parts[::2])], marks), strict=True)]
        if (VALUE, COMMENT) in places:
            number = places.index((VALUE, COMMENT))
            raise UnsafePlaceError(number, "in a comment", "put it where a word of its own may be")
    except UnsafePlaceError as place:
        raise ValueError(
            f"{subject}: {names[place.number]} is {place.name}, where the quotes around each value do not protect it: "
            f"{place.remedy}"
        ) from None


def _known_text(value: Any) -> str:
    """Return the text of a value that is known, and otherwise the empty text, which needs quotes."""
    if isinstance(value, (int, float)):
        return str(value)
    return os.fsdecode(cast(Any, value)) if isinstance(value, (str, bytes, os.PathLike)) else ""


def join_line(parts: Sequence[str | bytes]) -> str | bytes:
    """Join the parts of a line, with each value quoted."""
    if len(parts) == 1:
        return parts[0]
    text, *others = map(os.fsdecode, parts)
    values, texts = others[::2], others[1::2]
    places = check_places([text, *texts], [*map(mark_of, values)])
    return text + "".join(quote(*each) + text for *each, text in zip(values, places, texts, strict=True))
