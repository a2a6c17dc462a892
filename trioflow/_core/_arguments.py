"""Jobs inside arguments: found once, when a job is made, and filled in when it starts.

Plain lists, tuples and the values of plain dicts are searched at any depth. A container without jobs is passed on as
the same object; one with jobs is built anew at each start, with the results in the places of the jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from ._jobs import AbstractJob

ATOMS: Final = frozenset({int, float, str, bytes, bool, type(None)})
Fill = Callable[[], Any]


class Ref:
    """A job that is handed over as itself."""

    __slots__ = ("job",)

    def __init__(self, job: AbstractJob[Any]) -> None:
        """Hold `job`."""
        self.job: Final = job


def ref(job: AbstractJob[Any]) -> Any:
    """Let a job be an argument as itself: no dependency, and no result in its place.

    Args:
        job: the job that the function is to get.

    Returns:
        Something that stands for the job among the arguments of another.

    Raises:
        TypeError: not a job.

    Example:
        >>> async def label(job):
        ...     return job.label
        >>> other = Job(label, None, label="other")
        >>> asking = Job(label, ref(other))
        >>> len(asking.required)
        0

    """
    if not isinstance(job, AbstractJob):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"ref({job!r}): give a job")
    return Ref(job)


class Arguments:
    """Positional arguments with jobs among them; going through them gives the results in the jobs' places."""

    __slots__ = ("_fills", "_values")

    def __init__(self, values: tuple[Any, ...], fills: dict[int, Fill]) -> None:
        """Keep the values, and how those at some places are made."""
        self._values = values
        self._fills = tuple(fills.items())

    def __iter__(self) -> Iterator[Any]:
        """Give the arguments of a call."""
        values = list(self._values)
        for place, fill in self._fills:
            values[place] = fill()
        return iter(values)


class Call:
    """A function with keyword arguments, jobs among them; calling it fills them in."""

    __slots__ = ("_fills", "_values", "func")

    def __init__(self, function: Callable[..., Any], values: Mapping[str, Any], fills: Mapping[str, Fill]) -> None:
        """Keep the function as `func`, which is what partial calls it."""
        self.func: Final = function
        self._values = dict(values)
        self._fills = dict(fills)

    def __call__(self, *args: Any, **more: Any) -> Any:
        """Call the function."""
        return self.func(*args, **(self._values | {name: fill() for name, fill in self._fills.items()} | more))


class Search:
    """The search for jobs in the arguments of one job."""

    __slots__ = ("_fills", "_who", "inputs")

    def __init__(self, who: str) -> None:
        """Begin for the job called `who`."""
        self._who = who
        self.inputs: Final[dict[AbstractJob[Any], None]] = {}  # in argument order
        self._fills: dict[int, Fill | None] = {}  # by identity of containers: None if they hold no job

    def positional(self, values: tuple[Any, ...]) -> tuple[Any, ...] | Arguments:
        """Return the arguments, the very same if there is no job among them."""
        fills = {place: fill for place, value in enumerate(values) if (fill := self._fill(value))}
        return Arguments(values, fills) if fills else values

    def keywords(self, function: Callable[..., Any], values: Mapping[str, Any]) -> Callable[..., Any]:
        """Return the function with its keyword arguments bound."""
        return Call(function, values, {name: fill for name, value in values.items() if (fill := self._fill(value))})

    def _fill(self, value: Any) -> Fill | None:
        """Return how to make the argument that `value` stands for, or None if that is `value`."""
        kind = value.__class__
        if kind in ATOMS:
            return None
        if _is_job(value):
            if value._is_passed_as_it_is:
                return None
            self.inputs[value] = None
            return _result_of(value)
        if kind is Ref:
            return lambda: value.job
        if kind is list or kind is tuple or kind is dict:
            return self._container(value)
        self._refuse_hidden(value)
        return None

    def _container(self, value: Any) -> Fill | None:
        if id(value) in self._fills:
            fill = self._fills[id(value)]
            if fill is _unfinished:
                raise ValueError(f"an argument of {self._who} contains itself: {type(value).__name__} {value!r:.60}")
            return fill
        self._fills[id(value)] = _unfinished
        self._fills[id(value)] = fill = self._dict(value) if value.__class__ is dict else self._sequence(value)
        return fill

    def _sequence(self, values: Any) -> Fill | None:
        fills = {place: fill for place, value in enumerate(values) if (fill := self._fill(value))}
        if not fills:
            return None
        kind = values.__class__
        arguments = Arguments(tuple(values), fills)
        return lambda: kind(arguments)

    def _dict(self, values: dict[Any, Any]) -> Fill | None:
        for key in values:
            if isinstance(key, (AbstractJob, Ref)):
                raise TypeError(
                    f"{_label(key)} is a key of a dict among the arguments of {self._who}: a result can't be filled in "
                    f"there; pass it as a value"
                )
        fills = {key: fill for key, value in values.items() if (fill := self._fill(value))}
        if not fills:
            return None
        plain = dict(values)
        return lambda: plain | {key: fill() for key, fill in fills.items()}

    def _refuse_hidden(self, value: Any) -> None:
        if isinstance(value, (set, frozenset, list, tuple)):
            for one in value:  # pyright: ignore[reportUnknownVariableType]
                if isinstance(one, (AbstractJob, Ref)):
                    raise TypeError(
                        f"{_label(one)} is in a {type(value).__name__} among the arguments of {self._who}: "  # pyright: ignore[reportUnknownArgumentType]
                        f"a result can't be filled in there; pass it in a plain list, tuple or dict"
                    )


def _is_job(value: object) -> bool:
    return isinstance(value, AbstractJob)


def _unfinished() -> Any:
    """Mark a container whose search is not finished."""


def _result_of(job: AbstractJob[Any]) -> Fill:
    return lambda: job._outcome


def _label(thing: AbstractJob[Any] | Ref) -> str:
    return repr(thing.job.label if isinstance(thing, Ref) else thing.label)
