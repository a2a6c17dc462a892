"""`Watch`: a stopwatch that prints."""

from __future__ import annotations

import datetime


class Watch:
    """A stopwatch that runs from its creation, or from the last `reset()`.

    Args:
        message: printed at creation, after the time.
        show_elapsed: prints the time since the start.
        show_wall_clock: prints the time of the day.

    Example:
        >>> from trioflow.compat.asynciojobs import Watch
        >>> watch = Watch("ready")
        000.000  ready
        >>> watch.seconds() < 60
        True

    """

    start: datetime.datetime
    """The time of its start."""

    def __init__(self, message: str | None = None, *, show_elapsed: bool = True, show_wall_clock: bool = False) -> None:
        self.reset()
        text = message or ""
        if show_elapsed:
            self.print_elapsed()
            print(text)
        if show_wall_clock:
            self.print_wall_clock()
            print(text)

    def reset(self) -> None:
        """Start again."""
        self.start = datetime.datetime.now()

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return (datetime.datetime.now() - self.start).total_seconds()

    def elapsed(self) -> str:
        """Return the seconds since the start with three decimals, zeros in front."""
        return f"{self.seconds():07.3f}"

    def print_elapsed(self, suffix: str = " ") -> None:
        """Print the time since the start, a space and `suffix`, and no newline."""
        print(self.elapsed(), suffix, end="")

    @staticmethod
    def print_wall_clock(suffix: str = " ") -> None:
        """Print the time of the day and `suffix`, and no newline."""
        print(wall_clock(), end=suffix)


def wall_clock() -> str:
    """Return the time of the day, to the millisecond."""
    return datetime.datetime.now().isoformat(timespec="milliseconds").partition("T")[2]
