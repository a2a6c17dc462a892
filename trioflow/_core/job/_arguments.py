"""Jobs among arguments: found once, when a job is created, and replaced by their results when it starts.

Plain lists, tuples and the values of plain dicts are searched. A container without jobs is passed on as the same
object. A container with jobs is copied at each start, with results in place of jobs. A container that occurs twice is
searched and copied only once, and the copy then occurs twice. So all of this costs one walk through the containers,
however often they are shared, down to Python's recursion limit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, cast

from ..base._reprs import short_repr
from ._job import AbstractJob
from ._outcome import DROPPED

ValueOf = Callable[[AbstractJob[Any]], Any]

ATOMIC_TYPES: Final = frozenset({int, float, str, bytes, bool, type(None)})
PLAIN_CONTAINERS: Final = frozenset({list, tuple, dict})
SEARCHED_TYPES: Final[Any] = (list, tuple, dict, set, frozenset)
"""Containers of these types are searched. In those that are not plain no result can be filled in: a job is rejected."""
UNFINISHED: Final = object()
"""A placeholder for the template of a container whose search has not ended."""


class Ref:
    """A job that is passed as itself."""

    __slots__ = ("job",)

    def __init__(self, job: AbstractJob[Any]) -> None:
        self.job: Final = job


def ref(job: AbstractJob[Any]) -> Any:
    """Pass the job itself as an argument: it does not become an input, and is not replaced by its result.

    Args:
        job: the job that the function should get.

    Returns:
        A placeholder for the job, to be used among the arguments of another job.

    Raises:
        TypeError: `job` is not a job.

    Example:
        >>> async def label(job):
        ...     return job.label
        >>> other = Job(label, None, label="other")
        >>> asking = Job(label, ref(other))
        >>> len(asking.required)
        0

    """
    if not isinstance(job, AbstractJob):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"ref({short_repr(job)}): give a job")
    return Ref(job)


def result_of(job: AbstractJob[Any]) -> Any:
    """Return the result of an input, for a call."""
    outcome = job._outcome
    # `result()` raises for a dropped result or a service that has failed since it was ready; some kinds fetch the value
    return job.result() if outcome is DROPPED or job._has_own_result else outcome


class Template:
    """The template of one container with jobs in it, at any depth, from which each call gets a copy.

    Args:
        container: the user's container.
        results: the keys or indices of jobs in it, and these jobs.
        inner: the keys or indices of other such containers in it, and their templates.

    """

    __slots__ = ("_inner", "_makes_tuple", "_results", "original")

    def __init__(
        self, container: Any, results: list[tuple[Any, AbstractJob[Any]]], inner: list[tuple[Any, Template]]
    ) -> None:
        kind = cast(Any, type(container))
        self._makes_tuple = kind is tuple
        # The copy with the jobs in it, and with each reference replaced by its job.
        self.original: Any = (dict if kind is dict else list)(container)
        self._results = tuple(results)
        self._inner = tuple(inner)

    def build(self, value_of: ValueOf, made: dict[Template, Any] | None = None) -> Any:
        """Return the container with `value_of(job)` in place of each job; `made` has the inner ones built so far."""
        container = self.original.copy()
        for key, job in self._results:
            container[key] = value_of(job)
        if self._inner:
            made = {} if made is None else made
            for key, inner in self._inner:
                if inner not in made:
                    made[inner] = inner.build(value_of, made)
                container[key] = made[inner]
        return tuple(container) if self._makes_tuple else container


class Arguments:
    """Positional arguments with jobs among them; iteration yields results in place of the jobs."""

    __slots__ = ("_template",)

    def __init__(self, template: Template) -> None:
        self._template = template

    def original(self) -> Iterable[Any]:
        """Return the arguments with the jobs among them."""
        return cast("list[Any]", self._template.original)

    def __iter__(self) -> Iterator[Any]:
        """Yield the arguments of a call."""
        return iter(self._template.build(result_of))

    def substitute_inputs(self, value_of: ValueOf) -> tuple[Any, ...]:
        """Return the arguments with `value_of(job)` in place of the result of each job."""
        whole: tuple[Any, ...] = self._template.build(value_of)
        return whole


class DirectArguments:
    """A faster form of `Arguments` for the usual case: jobs are arguments themselves, not in containers.

    None of the jobs is a service, has a `result()` of its own kind, or has `keep_result=False`: for such jobs
    `Arguments` is used.
    """

    __slots__ = ("_places", "_values")

    def __init__(self, values: tuple[Any, ...], places: tuple[int, ...]) -> None:
        self._values = values
        self._places = places

    def original(self) -> Iterable[Any]:
        """Return the arguments with the jobs among them."""
        return self._values

    def __iter__(self) -> Iterator[Any]:
        """Yield the arguments of a call."""
        values = [*self._values]
        for place in self._places:
            values[place] = values[place]._outcome
        return iter(values)

    def substitute_inputs(self, value_of: ValueOf) -> tuple[Any, ...]:
        """Return the arguments with `value_of(job)` in place of the result of each job."""
        values = [*self._values]
        for place in self._places:
            values[place] = value_of(values[place])
        return tuple(values)

    def inputs(self) -> tuple[AbstractJob[Any], ...]:
        """Return the jobs, each once, in argument order."""
        jobs = tuple([self._values[place] for place in self._places])
        return jobs if len(jobs) == 1 else tuple(dict.fromkeys(jobs))


def find_direct_inputs(values: tuple[Any, ...]) -> tuple[int, ...] | None:
    """Return the indices of the jobs among `values`; None if the arguments have to be searched."""
    places: list[int] = []
    for place, value in enumerate(values):
        kind = cast(Any, type(value))
        if kind in ATOMIC_TYPES:
            continue
        if isinstance(value, AbstractJob):
            if value._has_own_result or (value._rule is not None and not value._rule.keep_result):
                return None
            if not value._is_passed_as_itself:
                places.append(place)
        elif kind is Ref or isinstance(value, SEARCHED_TYPES):
            return None
    return tuple(places)


def original_arguments(arguments: Iterable[Any]) -> Iterable[Any]:
    """Return the arguments of a search with the jobs among them, if it found any."""
    return arguments if isinstance(arguments, tuple) else cast("Arguments | DirectArguments", arguments).original()


class Call:
    """A function with keyword arguments; a call replaces the jobs among them by their results."""

    __slots__ = ("_template", "_values", "func")

    def __init__(self, function: Callable[..., Any], values: dict[str, Any], template: Template | None) -> None:
        self.func: Final = function  # the name that `functools.partial` uses
        self._values = values
        self._template = template

    def original(self) -> dict[str, Any]:
        """Return the keyword arguments with the jobs among them."""
        return self._values

    def substitute_inputs(self, value_of: ValueOf) -> dict[str, Any]:
        """Return the keyword arguments with `value_of(job)` in place of the result of each job."""
        return self._values if self._template is None else self._template.build(value_of)

    def __call__(self, /, *args: Any, **more: Any) -> Any:
        """Call the function with these arguments and the bound ones."""
        return self.func(*args, **self.substitute_inputs(result_of), **more)


class ArgumentSearch:
    """The search for jobs among the arguments of one job; it visits each container once."""

    __slots__ = ("_subject", "inputs")

    def __init__(self, subject: Callable[[], str]) -> None:
        self._subject = subject  # returns the label of the job
        self.inputs: Final[dict[AbstractJob[Any], None]] = {}  # in argument order

    def positional(self, values: tuple[Any, ...]) -> tuple[Any, ...] | Arguments:
        """Return the arguments; the same object if it contains no job."""
        template = self._root_template(values)
        return values if template is None else Arguments(template)

    def keywords(self, function: Callable[..., Any], values: Mapping[str, Any]) -> Call:
        """Return the function with its keyword arguments bound.

        Raises:
            TypeError: `values` is not a dict of names and values; the error shows none, because it may be secret.

        """
        if not isinstance(values, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            kind = type(values).__name__
            raise TypeError(f"kwargs of {self._subject()}: found {kind}; give a dict of names and values")
        for name in values:
            if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"kwargs of {self._subject()}: the name {name!r} is not a string")
        plain = dict(values)
        return Call(function, plain, self._root_template(plain))

    def _root_template(self, container: Any) -> Template | None:
        """Return the template of the arguments; None if they contain no job."""
        try:
            return self._template(container, {})
        except RecursionError:
            raise ValueError(
                f"an argument of {self._subject()} is nested deeper than Python's recursion limit, "
                f"{sys.getrecursionlimit()}; pass it inside an object of your own"
            ) from None

    def _template(self, container: Any, known: dict[int, Any]) -> Template | None:
        """Return the template of one container; `known` has others by id, None for one without a job."""
        known[id(container)] = UNFINISHED
        results: list[tuple[Any, AbstractJob[Any]]] = []
        refs: list[tuple[Any, AbstractJob[Any]]] = []
        inner: list[tuple[Any, Template]] = []
        of_container = cast(Any, type(container))
        is_dict = of_container is dict
        items = cast("Iterable[tuple[Any, Any]]", container.items() if is_dict else enumerate(container))
        for key, value in items:
            kind = cast(Any, type(value))
            if is_dict and type(key) not in ATOMIC_TYPES:
                self._reject_jobs_inside(key, "a key of a dict")
            if kind in ATOMIC_TYPES:
                continue
            if kind in PLAIN_CONTAINERS:
                template = self._inner_template(value, known)
                if template is not None:
                    inner.append((key, template))
            elif isinstance(value, AbstractJob):
                if not value._is_passed_as_itself:
                    self.inputs[value] = None
                    results.append((key, cast(Any, value)))
            elif kind is Ref:
                refs.append((key, value.job))
            elif isinstance(value, SEARCHED_TYPES):
                self._reject_jobs_inside(value, f"in a {kind.__name__}")
        result = Template(container, results, inner) if results or refs or inner else None
        for key, job in refs:
            cast(Template, result).original[key] = job
        known[id(container)] = result
        return result

    def _inner_template(self, container: Any, known: dict[int, Any]) -> Template | None:
        """Return the template of a container in another one. This frame reserves stack for `build`."""
        if id(container) not in known:
            return self._template(container, known)
        template: Template | None = known[id(container)]
        if template is UNFINISHED:
            self._reject_self_reference(container)
        return template

    def _reject_self_reference(self, container: Any) -> None:
        raise ValueError(
            f"an argument of {self._subject()} contains itself, so the search for jobs in it would never end: "
            f"a {type(container).__name__} with {len(container)} items; pass it inside an object of your own"
        )

    def _reject_jobs_inside(self, value: Any, where: str) -> None:
        """Reject a job, at any depth, in an object in which no result can replace it."""
        todo: list[Any] = [value]
        met: set[int] = set()
        while todo:
            value = todo.pop()
            if isinstance(value, (AbstractJob, Ref)):
                label = value.job.label if isinstance(value, Ref) else value.label  # pyright: ignore[reportUnknownMemberType]
                raise TypeError(
                    f"{label!r} is {where} among the arguments of {self._subject()}: "
                    f"a result cannot be filled in there; "
                    f"pass it in a plain list or tuple, or as a value of a plain dict"
                )
            if isinstance(value, SEARCHED_TYPES) and id(value) not in met:
                met.add(id(value))
                todo += [*value, *value.values()] if isinstance(value, dict) else value


def substitute_inputs(values: Iterable[Any], value_of: ValueOf) -> tuple[Any, ...]:
    """Return values, such as the arguments of a `Work`, with `value_of(job)` in place of each job, at any depth.

    Raises:
        TypeError, ValueError: a job is where nothing can replace it.

    """
    arguments = ArgumentSearch(lambda: "for_journal()").positional(tuple(values))
    return arguments.substitute_inputs(value_of) if isinstance(arguments, Arguments) else arguments
