"""Amounts of a limited resource: numbers, and sizes such as "24 GiB"."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ._reprs import short_repr

if TYPE_CHECKING:
    from fractions import Fraction
    from typing import TypeAlias

    Amount = int | Fraction
    OneNeed: TypeAlias = float | str | Fraction
    Need: TypeAlias = OneNeed | Mapping[str, OneNeed]
    """An amount as users write it, or amounts by key."""
else:  # few programs need fractions, and their import takes longer than all others here
    Amount = int
Parts = tuple[tuple[str, Amount], ...]
"""Amounts by key, of a `Rate`."""
AmountSpec = Amount | Parts
"""The amount that a job needs of one resource."""

UNITS: Final = {
    "": 1,
    **{prefix + "B": 1000**power for power, prefix in enumerate(["", "k", "M", "G", "T", "P"])},
    **{prefix + "iB": 1024**power for power, prefix in enumerate(["K", "M", "G", "T", "P"], start=1)},
    **{
        prefix: 1024**power for power, prefix in enumerate(["K", "M", "G", "T", "P"], start=1)
    },  # as in ulimit and Slurm
}
SIZE: Final = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Z]*)\s*")


def amount_of(value: Any, what: str) -> Amount:
    """Check and return an amount, 0 or more; `what` begins the error.

    A float becomes the decimal fraction that it is written as: ten times 0.1 is 1.

    Raises:
        TypeError: it is neither a number nor text.
        ValueError: it is negative, not finite, or no size.

    """
    if isinstance(value, str):
        return _size(value, what)
    if not is_number(value):
        raise TypeError(f"{what}: give a number, 0 or more, or a size such as '24 GiB'")
    if not is_finite(value) or value < 0:
        raise ValueError(f"{what}: give a finite number, 0 or more, or a size such as '24 GiB'")
    return _int_if_whole(_fraction(str(value)) if isinstance(value, float) else value)


def is_number(value: Any) -> bool:
    """Return whether the type of `value` is one that an amount may have."""
    if isinstance(value, (int, float)):
        return not isinstance(value, bool)
    from fractions import Fraction

    return isinstance(value, Fraction)


def is_finite(value: float | Fraction) -> bool:
    """Return whether `value` fits into a float; an `int` of 400 digits does not."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _fraction(text: str) -> Fraction:
    from fractions import Fraction

    return Fraction(text)


def amount_or_parts(value: Any, what: str) -> AmountSpec:
    """Check and return an amount, or amounts by key if a dict is given; `what` begins the error.

    Raises:
        TypeError, ValueError: as in `amount_of`; or a key is not text.

    """
    parts = value
    if not isinstance(value, Mapping):
        return amount_of(value, what)
    for key in parts:
        if not isinstance(key, str):
            raise TypeError(f"{what}: {short_repr(key)} is not a key; keys are text")
    return tuple((key, amount_of(parts[key], what)) for key in sorted(parts))


def shown_amount(number: Amount) -> str:
    """Return an amount in decimals."""
    return str(number) if isinstance(number, int) else f"{float(number):g}"


def is_size(value: Any) -> bool:
    """Return whether an amount has a unit, and so counts bytes."""
    return isinstance(value, str) and any(character.isalpha() for character in value)


def shown_parts(value: AmountSpec) -> str:
    """Return an amount, or amounts by key, in decimals."""
    if not isinstance(value, tuple):
        return shown_amount(value)
    return "{" + ", ".join(f"{short_repr(key)}: {shown_amount(number)}" for key, number in value) + "}"


def as_given_by_user(value: AmountSpec) -> Any:
    """Return an amount as a number, and amounts by key as a dict of numbers."""
    return {key: as_number(number) for key, number in value} if isinstance(value, tuple) else as_number(value)


def as_number(number: Amount) -> float:
    """Return an amount as an `int` or a `float`."""
    return number if isinstance(number, int) else float(number)


def _size(text: str, what: str) -> Amount:
    match = SIZE.fullmatch(text)
    if match is None or match[2] not in UNITS:
        raise ValueError(f"{what}: write a number and a unit: B, kB, MB, GB, TB, PB, KiB, MiB, GiB, TiB or PiB")
    number = _fraction(match[1]) * UNITS[match[2]]
    if not is_finite(number):
        raise ValueError(f"{what}: that is more than can be counted; give a smaller size")
    return _int_if_whole(number)


def _int_if_whole(number: Amount) -> Amount:
    """Return a whole number as `int`, which is faster."""
    return number.numerator if number.denominator == 1 else number
