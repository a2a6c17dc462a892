"""The families of jobs that do similar work, as their labels tell."""

from __future__ import annotations

import re
from typing import Final

WORD_PATTERN: Final = re.compile(r"[^\W_]+(?:[.,:][^\W_]+)*")
NUMBER_PATTERN: Final = re.compile(r"\A\d+(?:[.,:]\d+)*\Z")


def family_from_label(label: str, is_user_chosen: bool) -> str:
    """Derive the family of a job from its label, so that jobs with similar work have the same family.

    If the user chose the label, the family is the label with a star in place of each separate number. Otherwise it is
    the name of the function or the program.

    Args:
        label: the label.
        is_user_chosen: whether the user chose the label. Otherwise, it is the default label.

    Example:
        >>> family_from_label("page 7 for x86", True), family_from_label("python3.11 tests", True)
        ('page * for x86', 'python3.11 tests')
        >>> family_from_label("fetch('a')", False)
        'fetch'

    """
    if not is_user_chosen:
        return label.partition("(")[0].split(" ")[0] or label
    return WORD_PATTERN.sub(lambda word: NUMBER_PATTERN.sub("*", word[0]), label)
