"""`Watch`: a stopwatch that can print the time."""

from __future__ import annotations

import datetime


class Watch:
    """A stopwatch that measures the time since its creation, or since the last `reset()`.

    Args:
        message: the text that the constructor prints after the time.
        show_elapsed: whether the constructor prints the elapsed time.
        show_wall_clock: whether the constructor prints the time of day.

    Example:
        >>> from trioflow.compat.asynciojobs import Watch
        >>> watch = Watch("ready")  # doctest: +ELLIPSIS
        00...  ready
        >>> watch.seconds() < 60
        True

    """

    start: datetime.datetime
    """The time when the watch was started."""

    def __init__(
        self,
        message: str | None = None,
        *,
        show_elapsed: bool = True,
        show_wall_clock: bool = False,
    ) -> None:
        self.reset()
        text = message or ""
        if show_elapsed:
            self.print_elapsed()
            print(text)
        if show_wall_clock:
            self.print_wall_clock()
            print(text)

    def reset(self) -> None:
        """Restart the watch."""
        self.start = datetime.datetime.now()

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return (datetime.datetime.now() - self.start).total_seconds()

    def elapsed(self) -> str:
        """Return the seconds since the start as text with three decimals and leading zeros."""
        return f"{self.seconds():07.3f}"

    def print_elapsed(self, suffix: str = " ") -> None:
        """Print the elapsed time, a space and `suffix`, without a newline."""
        print(self.elapsed(), suffix, end="")

    @staticmethod
    def print_wall_clock(suffix: str = " ") -> None:
        """Print the time of day and `suffix`, without a newline."""
        print(wall_clock(), end=suffix)


def wall_clock() -> str:
    """Return the time of day as text with milliseconds."""
    return datetime.datetime.now().isoformat(timespec="milliseconds").partition("T")[2]
