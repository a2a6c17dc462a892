"""Short one-line forms of users' values, and of durations, sizes, counts and lists.

Logs, errors, listings, pictures and reports all have these forms. No function here raises, even if a value's own
`__repr__` or `__eq__` does. The cost does not grow with the size of the value.
"""

from __future__ import annotations

import bisect
import itertools
import re
import reprlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, cast

if TYPE_CHECKING:
    from ._amounts import Amount

MAX_LENGTH: Final = 100
"""The maximum number of characters in a short form: a line of a wide terminal has room for these and a prefix."""
LARGE_INT: Final = 10**40
"""Integers of at least this magnitude are summarized: printing thousands of digits is slow, and Python may refuse."""


def short_repr(value: Any) -> str:
    """Return the repr of `value`, shortened, even if it is huge, contains itself, or raises.

    Example:
        >>> short_repr("a"), short_repr(10**400), len(short_repr("a" * 1000))
        ("'a'", '<a whole number of about 401 digits>', 100)

    """
    kind = cast(Any, type(value))
    is_short = (kind is int and -LARGE_INT < value < LARGE_INT) or (
        kind is str and len(value) < MAX_LENGTH // 2
    )
    if is_short or kind is float:
        # A shortcut at a tenth of the cost.
        return repr(value)
    try:
        return truncate(_SHORT_REPR.repr(value))
    except Exception:
        # reprlib dispatches on the name of the type, so a user's class called "list" misleads it.
        return truncate(_SHORT_REPR.repr_instance(value, 0))


class RedactedName(str):
    """The name, in errors, of a job with `redact=True`, and of objects that may become a part of such a job."""

    __slots__ = ()


def name_in_errors(name: str, redact: bool) -> str:
    """Return the name of a job for errors. `shown_value` recognizes the name of a job whose values are secret."""
    if redact:
        return RedactedName(name)
    return name


def shown_value(value: object, subject: str) -> str:
    """Return the user's value for an error about `subject`: its short repr, or only its type if the job is redacted.

    Example:
        >>> shown_value("hunter2", name_in_errors("'log in'", redact=True))
        '<str>'

    """
    if isinstance(subject, RedactedName):
        return f"<{type(value).__name__}>"
    return short_repr(value)


def fit(
    text: str,
    width: float,
    keep: Literal["start", "end", "ends"] = "start",
    measure: Callable[[str], float] = len,
    ellipsis: str = "…",
) -> str:
    """Shorten a text to a width. An ellipsis replaces the rest. All texts that are too long are cut here.

    Args:
        text: the text.
        width: the maximum width.
        keep: the part to keep. "ends" leaves out the middle.
        measure: returns the width of a text. By default, this is its number of characters.
        ellipsis: the replacement. If even this is too wide, the result is empty.

    Example:
        >>> [fit("a long text", 6, keep) for keep in ("start", "end", "ends")]
        ['a lon…', '… text', 'a l…xt']

    """
    if measure(text) <= width:
        return text

    def cut(length: int) -> str:
        end = {"start": 0, "end": length, "ends": length // 2}[keep]
        return f"{text[: length - end]}{ellipsis}{text[len(text) - end :]}"

    lengths = range(len(text))
    fitting = bisect.bisect_right(
        lengths, width, key=lambda length: measure(cut(length))
    )
    if not fitting:
        return ""
    return cut(fitting - 1)


def truncate(text: str, longest: int = MAX_LENGTH) -> str:
    return fit(text, longest, ellipsis="...")


def headline(text: str) -> str:
    r"""Return the first line of a text, without a last sentence that only announces the next lines.

    Example:
        >>> headline("exit code 1: make. Its standard error ended with:\nno rule")
        'exit code 1: make'

    """
    first, _, more = text.partition("\n")
    if more:
        return re.sub(r"\. [^.]*:$", "", first)
    return first


def is_among(value: Any, choices: tuple[object, ...]) -> bool:
    """Return whether a value equals one of `choices`, or False if the comparison raises.

    Example:
        >>> is_among("slot", (None, "slot")), is_among(1, ("wait", "end"))
        (True, False)

    """
    try:
        return value in choices
    except Exception:
        return False


class _ShortRepr(reprlib.Repr):
    """A `reprlib.Repr` that reads only the first items of a collection, which may have millions of them."""

    def __init__(self) -> None:
        super().__init__()
        # With ten items a level, a repr has at most a thousand items.
        self.maxlevel = 3
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = (
            self.maxdeque
        ) = self.maxarray = 10
        self.maxdict = 10
        self.maxstring = self.maxlong = MAX_LENGTH

    def repr_instance(self, x: object, level: int) -> str:
        try:
            return repr(x)
        except Exception as error:
            return f"<{type(x).__name__}: its repr() raised {type(error).__name__}>"

    def repr_int(self, x: int, level: int) -> str:
        if -LARGE_INT < x < LARGE_INT:
            return repr(x)
        return f"<a whole number of about {int(x.bit_length() * 0.30103) + 1} digits>"

    def repr_type(self, x: Any, level: int) -> str:
        """Return the name of a class or a function, as code has it."""
        return str(x.__qualname__)

    repr_ABCMeta = repr_function = repr_type

    def repr_bytes(self, x: bytes, level: int) -> str:
        """Return the repr of the first bytes only: the value may be the whole output of a command."""
        return repr(x[: self.maxstring])

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        """Return the first items, in the dict's order. reprlib would sort all keys first."""
        if level <= 0:
            return "{...}"
        items = itertools.islice(x.items(), self.maxdict)
        pairs = [
            f"{self.repr1(key, level - 1)}: {self.repr1(value, level - 1)}"
            for key, value in items
        ]
        if len(x) > self.maxdict:
            pairs.append("...")
        return f"{{{', '.join(pairs)}}}"

    def repr_set(self, x: set[Any], level: int) -> str:
        """Return a few items, sorted; reprlib would sort all items first."""
        few = set(itertools.islice(x, self.maxset + 1))
        return super().repr_set(few, level)

    def repr_frozenset(self, x: frozenset[Any], level: int) -> str:
        """Return a few items, sorted; reprlib would sort all items first."""
        few = frozenset(itertools.islice(x, self.maxfrozenset + 1))
        return super().repr_frozenset(few, level)


_SHORT_REPR: Final = _ShortRepr()


# How many names a list has before it counts the others, and how many jobs a sentence about them.
MAX_LISTED_NAMES: Final = 10
MAX_NAMED_JOBS: Final = 5


def plural(number: int, noun: str) -> str:
    """Return a number with its noun.

    Example:
        >>> plural(1, "job"), plural(3, "job")
        ('1 job', '3 jobs')

    """
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}s"


def clause(form: str, value: object) -> str:
    """Return a part of a sentence with its value, or "" if there is no value: None, "", 0 or an empty collection.

    The form is trioflow's own: a user's text could have braces.

    Example:
        >>> clause(" by {}", "ann"), clause(" by {}", None)
        (' by ann', '')

    """
    if not value:
        return ""
    return form.format(value)


def join_names(
    names: Sequence[str], max_names: int = MAX_LISTED_NAMES, total: int | None = None
) -> str:
    """Return the first `max_names` names, separated by commas, and the number of the others.

    Args:
        names: the names.
        max_names: the maximum number of names to show.
        total: the number of all names, if `names` has only the first of them.

    Example:
        >>> join_names(["a", "b", "c"], 2), join_names(["a"], 2)
        ('a, b and 1 more', 'a')

    """
    rest = max(0, (total or len(names)) - max_names)
    return ", ".join(names[:max_names]) + clause(" and {} more", rest)


MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
UNITS: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def age(since: float | None, clock: Callable[[], float]) -> float | None:
    """Return how many seconds ago a time was. Return None for None, and for a time that lies ahead, as a deadline does.

    The clock is read last: while a thread of a view asks, the time may become a later one.
    """
    if since is None:
        return None
    seconds = clock() - since
    if seconds < 0:
        return None
    return seconds


def duration_text(seconds: float | None, *, in_column: bool = False) -> str:
    """Return a duration as text: "318 ms", "1.25 s", "12 min 30 s", "3 h 05 min", "2 d 04 h"; "" for None.

    Args:
        seconds: the duration.
        in_column: whether the text is for a column. If so, the number in a duration below a minute has one decimal,
            even if that is 0, but none from 100 on: "1.3 s", "9.0 s", "318 ms". If not, it has up to three significant
            digits, without trailing zeros.

    """
    if seconds is None:
        return ""
    if seconds < 0:
        return "-" + duration_text(-seconds, in_column=in_column)
    if seconds < 59.95:
        # From here on rounding gives 60 s, which is a minute.
        for unit, name in UNITS:
            if seconds >= unit * 0.9995:
                return f"{_number_text(seconds / unit, in_column=in_column)} {name}"
        return "0 s"
    if round(seconds) < HOUR:
        return _two_unit_text(seconds, MINUTE, "min", 1.0, "s")
    whole_minutes = round(seconds / MINUTE) * MINUTE
    if whole_minutes < DAY:
        return _two_unit_text(whole_minutes, HOUR, "h", MINUTE, "min")
    return _two_unit_text(round(seconds / HOUR) * HOUR, DAY, "d", HOUR, "h")


def _number_text(number: float, *, in_column: bool) -> str:
    """Return a number from 1 to 1000 with one decimal below 100, or with three digits and no trailing zeros."""
    if not in_column:
        return f"{number:.3g}"
    return f"{number:.1f}" if number < 99.95 else f"{number:.0f}"


def _two_unit_text(
    seconds: float, unit: float, name: str, smaller_unit: float, smaller_name: str
) -> str:
    """Return a duration in two units, such as "3 h 05 min", or in the larger unit if the rest is 0."""
    whole, rest = divmod(round(seconds), unit)
    first = f"{int(whole)} {name}"
    if rest:
        return f"{first} {int(rest // smaller_unit):02d} {smaller_name}"
    return first


def size_text(number: Amount) -> str:
    """Return a number of bytes as text with a binary unit.

    Example:
        >>> size_text(1536), size_text(4 << 30)
        ('1.5 KiB', '4 GiB')

    """
    power = max(0, min(5, (int(number).bit_length() - 1) // 10))
    return f"{float(number) / 1024**power:.4g} {('B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB')[power]}"


def percent_text(fraction: float) -> str:
    """Return a fraction as text in percent. Only a fraction of 1 is "100%"."""
    if fraction >= 1:
        return "100%"
    return f"{min(99, round(100 * fraction))}%"
