"""Texts on the command line that mean something to read arguments by: what ends them, and what separates columns."""

from __future__ import annotations

import os
import re
from typing import Final

ESCAPES: Final = {r"\0": b"\0", r"\n": b"\n", r"\r": b"\r", r"\t": b"\t", r"\\": b"\\"}


def delimiter(text: str) -> bytes:
    r"""Return what ends an argument.

    Raises:
        ValueError: it is empty.

    Example:
        >>> delimiter(","), delimiter(r"\t")
        (b',', b'\t')

    """
    if not text:
        raise ValueError("it is empty: give a character, such as , or \\t, or several")
    return ESCAPES.get(text, os.fsencode(text))


def expression(text: str) -> re.Pattern[str]:
    """Return the regular expression of what stands between two columns.

    Raises:
        ValueError: it is not one, or it fits nothing at all.

    """
    try:
        found = re.compile(text)
    except re.error as error:
        raise ValueError(
            f"{text!r} is not a regular expression: {error}; a | or . of its own is written \\| or \\."
        ) from None
    if found.match(""):
        itself = f"; the character itself is written '\\{text}'" if text == "|" else ""
        raise ValueError(
            f"{text!r} is a regular expression that also fits where there is nothing: give what stands between two "
            f"columns, such as ,{itself}"
        )
    return found
