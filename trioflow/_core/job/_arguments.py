"""Jobs among the arguments of a job, which are found when it is created, and replaced by results when it starts.

The search covers the containers in `FILLED_TYPES`, down to Python's recursion limit. A container without jobs is
passed on as the same object. A container with jobs is copied at each start, with results in place of the jobs. If a
container occurs twice, it is searched and copied only once, so that the cost is linear in the number of distinct
containers. A job whose place cannot be filled, as in a set or an iterator, is an error.
"""

from __future__ import annotations

import builtins
import functools
import gc
import itertools
import os
import sys
import types
from collections import ChainMap, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Final, cast

from ..base._text_forms import short_repr
from ._job import AbstractJob, is_job
from ._job_options import check_keywords
from ._labels import TEXTS, job_in
from ._outcome import DROPPED

ValueOf = Callable[[AbstractJob[Any]], Any]
"""A function that returns the value to pass in place of an input."""

ATOMIC_TYPES: Final = frozenset({int, float, str, bytes, bool, type(None), range})
"""Types of values that contain no job. They are checked first, because most arguments have one of these types."""
PLAIN_CONTAINERS: Final = frozenset({list, tuple, dict})
LEAF_TYPES: Final = ATOMIC_TYPES | {types.FunctionType}
COPIED_TYPES: Final = frozenset[Any]({list, dict, deque, UserList, UserDict, OrderedDict, defaultdict})
"""Types of containers that have `copy`, and in whose copy items can be replaced."""
MAPPINGS: Final[Any] = ({}, OrderedDict[Any, Any](), UserDict[Any, Any]())
VIEW_TYPES: Final = frozenset[Any]({*map(type, (view for each in MAPPINGS for view in (each.values(), each.items())))})
FROZEN_DICT: Final[Any] = getattr(builtins, "frozendict", dict)  # since Python 3.15
FILLED_TYPES: Final[frozenset[Any]] = (
    COPIED_TYPES | {tuple, FROZEN_DICT, functools.partial, types.MappingProxyType} | VIEW_TYPES
)
"""Types of containers in which results are filled in; objects of their subclasses could not be copied safely."""
SEARCHED_TYPES: Final[Any] = (*FILLED_TYPES - {functools.partial}, set, frozenset, KeysView, ChainMap)
"""Types of containers to search. In those that are not in `FILLED_TYPES`, such as a namedtuple, a job is an error."""
PATH_LIKE: Final[Any] = os.PathLike
LAZY_ITERATORS: Final = (types.GeneratorType, map, itertools.starmap)
"""Types of iterators whose items do not exist before they are asked for, so that jobs among them cannot be found."""
ITERATOR_TYPES: Final = frozenset[Any](
    {
        *(*LAZY_ITERATORS, zip, filter, enumerate, type(reversed(()))),
        *map(type, map(reversed, cast("tuple[Any, ...]", ([], {}, {}.values(), {}.items(), deque[Any]())))),
        *map(type, map(iter, cast("tuple[Any, ...]", ([], (), {}, {}.values(), {}.items(), set[Any](), deque[Any]())))),
        type(iter(OrderedDict[Any, Any]())),
        *(kind for kind in vars(itertools).values() if isinstance(kind, type)),
    }
)
"""Python's own types of iterators, which refer to what they iterate over."""
REFERRING_TYPES: Final = ITERATOR_TYPES | {functools.partial, types.CoroutineType}
EXACT_TYPES: Final[frozenset[Any]] = FILLED_TYPES | ITERATOR_TYPES | {type(mapping.keys()) for mapping in MAPPINGS}
COLLECTION_FLAGS: Final = 1 << 5 | 1 << 6
"""Flags of types that are sequences or mappings, including subclasses: `Py_TPFLAGS_SEQUENCE` and `Py_TPFLAGS_MAPPING`.
To read them takes a tenth of `isinstance` with an ABC."""
PLACEHOLDER: Final[object] = getattr(functools, "Placeholder", object())  # since Python 3.14
JOB_CURE: Final = (
    "give the job itself, as in Job(f, job); for its name write job.label, and ref(job) to pass the job as it is"
)
SCHEDULER_CURE: Final = "give the jobs in it, or ref(scheduler) to pass the scheduler as it is"
UNFINISHED_SEARCH: Final = object()
"""A placeholder for the template of a container while its items are searched."""


class Ref:
    """A placeholder, returned by `ref`, for a job that is passed as the job itself, not as its result."""

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
    if not is_job(job):
        raise TypeError(f"ref({short_repr(job)}): give a job")
    return Ref(job)


def result_of(job: AbstractJob[Any]) -> Any:
    outcome = job._outcome
    # `result()` raises if the result was dropped, or a ready service has failed since; some kinds fetch the value
    return job.result() if outcome is DROPPED or job._has_own_result else outcome


class Template:
    """The template of a container with jobs in it, at any depth, such as the positional arguments of a job.

    `substitute_inputs` makes a copy with values in place of the jobs; iteration yields results in their place.

    Args:
        items: a copy of the container, or a list or dict with its items.
        finish: makes the object to pass of such a copy; None if it is the copy.
        jobs: for each item that is an input, its key or index, and the input.
        nested: for each item that is itself such a container, its key or index, and its template.

    """

    __slots__ = ("_finish", "_jobs", "_nested", "original")

    def __init__(
        self,
        items: Any,
        finish: Callable[[Any], Any] | None,
        jobs: list[tuple[Any, AbstractJob[Any]]],
        nested: list[tuple[Any, Template]],
    ) -> None:
        self._finish = finish
        self.original: Any = items  # each `Ref` in it is replaced by its job
        self._jobs = tuple(jobs)
        self._nested = tuple(nested)

    def substitute_inputs(self, value_of: ValueOf, copies: dict[Template, Any] | None = None) -> Any:
        """Return a copy of the container with `value_of(job)` in place of each input.

        Args:
            value_of: returns the value for an input.
            copies: the copies of nested containers made so far, by template, so that each container is copied once.

        """
        container = self.original.copy()
        for key, job in self._jobs:
            container[key] = value_of(job)
        if self._nested:
            copies = {} if copies is None else copies
            for key, template in self._nested:
                if template not in copies:
                    copies[template] = template.substitute_inputs(value_of, copies)
                container[key] = copies[template]
        return container if self._finish is None else self._finish(container)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.substitute_inputs(result_of))


def _unpack(container: Any) -> tuple[Any, Callable[[Any], Any] | None]:
    """Return the items of a container in a new list or mapping, and the function that `Template` calls `finish`."""
    kind: Any = cast(Any, type(container))
    if kind in COPIED_TYPES:
        return container.copy(), None
    if kind is tuple:
        return [*container], tuple
    if kind is FROZEN_DICT:
        return dict(container), FROZEN_DICT
    if kind is functools.partial:
        return {**dict(enumerate((container.func, *container.args))), **container.keywords}, _make_partial
    if isinstance(container, ItemsView):
        return dict(cast(Any, container)), lambda items: [*items.items()]
    return ([*container] if isinstance(container, ValuesView) else dict(container)), None


def _make_partial(items: dict[Any, Any]) -> functools.partial[Any]:
    function, *args = [value for key, value in items.items() if not isinstance(key, str)]
    return functools.partial(function, *args, **{key: value for key, value in items.items() if isinstance(key, str)})


class DirectArguments:
    """A faster form of `Template` for the usual arguments, in which no container has to be searched.

    It is used only if no input is a service, has `keep_result=False`, or is of a kind that defines its own `result()`.
    """

    __slots__ = ("_indices", "original")

    def __init__(self, values: tuple[Any, ...], indices: tuple[int, ...]) -> None:
        self.original = values
        self._indices = indices

    def __iter__(self) -> Iterator[Any]:
        values = [*self.original]
        for index in self._indices:
            values[index] = values[index]._outcome
        return iter(values)

    def substitute_inputs(self, value_of: ValueOf) -> tuple[Any, ...]:
        values = [*self.original]
        for index in self._indices:
            values[index] = value_of(values[index])
        return tuple(values)

    def inputs(self) -> tuple[AbstractJob[Any], ...]:
        jobs = tuple([self.original[index] for index in self._indices])
        return jobs if len(jobs) == 1 else tuple(dict.fromkeys(jobs))


def direct_input_indices(values: tuple[Any, ...]) -> tuple[int, ...] | None:
    """Return the indices of the inputs among `values`; None if `DirectArguments` cannot represent these arguments."""
    indices: list[int] = []
    for index, value in enumerate(values):
        kind = cast(Any, type(value))
        if kind in ATOMIC_TYPES:
            continue
        if is_job(value):
            if value._has_own_result or not (value._options.keep_result and value._can_be_input):
                return None
            indices.append(index)
        elif kind is Ref or may_hold_jobs(kind):
            return None
    return tuple(indices)


def may_hold_jobs(kind: type) -> object:
    """Return a true value if objects of a type are searched for jobs."""
    return kind in EXACT_TYPES or kind.__flags__ & COLLECTION_FLAGS or issubclass(kind, (set, frozenset))


def unpack_partial(
    function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None, name: str
) -> tuple[Any, tuple[Any, ...], Mapping[str, Any] | None]:
    """Return the function in a partial, and all arguments of the call, if jobs are among those that the partial has.

    Otherwise, return the partial and the arguments as they are.
    """
    search = ArgumentSearch(lambda: repr(name))
    if search.search_positional((function,)) == (function,) and not search.inputs:
        return function, args, kwargs
    filled, rest = list(function.args), iter(args)
    for index, value in enumerate(filled):
        if value is PLACEHOLDER:
            filled[index] = next(rest, value)
    return function.func, (*filled, *rest), {**function.keywords, **(kwargs or {})}


def original_arguments(arguments: Iterable[Any]) -> Iterable[Any]:
    """Return positional arguments as they were given, with the inputs among them.

    Args:
        arguments: the tuple or the object that `ArgumentSearch.search_positional` or `DirectArguments` made of them.

    """
    return arguments if isinstance(arguments, tuple) else cast("Template | DirectArguments", arguments).original


class Call:
    """A function with bound keyword arguments. At a call, the inputs among these are replaced by their results."""

    __slots__ = ("_template", "func", "original")

    def __init__(self, function: Callable[..., Any], values: dict[str, Any], template: Template | None) -> None:
        self.func: Final = function  # called `func` as in `functools.partial`
        self.original = values
        self._template = template

    def substitute_inputs(self, value_of: ValueOf) -> dict[str, Any]:
        return self.original if self._template is None else self._template.substitute_inputs(value_of)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.func(*args, **self.substitute_inputs(result_of), **kwargs)


class ArgumentSearch:
    """A search for inputs among the arguments of one job, which visits each container once.

    Args:
        subject: returns the name of the job for errors.

    Attributes:
        inputs: the inputs found so far, in argument order.

    """

    __slots__ = ("_subject", "inputs")

    def __init__(self, subject: Callable[[], str]) -> None:
        self._subject = subject
        self.inputs: Final[dict[AbstractJob[Any], None]] = {}

    def checked_inputs(self) -> tuple[AbstractJob[Any], ...]:
        """Return the inputs.

        Raises:
            TypeError: one of them is a scheduler.

        """
        for job in self.inputs:
            if not job._can_be_input:
                raise TypeError(
                    f"the scheduler {job.label!r} is an argument of {self._subject()}, but has no result to pass: "
                    f"{SCHEDULER_CURE}; required= only waits for it"
                )
        return tuple(self.inputs)

    def search_positional(self, values: tuple[Any, ...]) -> tuple[Any, ...] | Template:
        """Search positional arguments, and return an iterable that fills in results, or `values` if it has no job."""
        return self._root_template(values) or values

    def search_keywords(self, function: Callable[..., Any], values: Mapping[str, Any]) -> Call:
        """Search keyword arguments, and return `function` with these bound to it.

        Raises:
            TypeError: `values` is not a dict with text as keys.

        """
        plain = check_keywords(values, "kwargs", self._subject)
        return Call(function, plain, self._root_template(plain))

    def _root_template(self, container: Any) -> Template | None:
        try:
            return self._template(container, {})
        except RecursionError:
            raise ValueError(
                f"an argument of {self._subject()} is nested deeper than Python's recursion limit, "
                f"{sys.getrecursionlimit()}; wrap it in an object"
            ) from None

    def _template(self, container: Any, known: dict[int, Any]) -> Template | None:
        """Return the template of one container; None if it contains no job.

        Args:
            container: the container to search.
            known: the results of earlier searches by `id` of the container; UNFINISHED_SEARCH during a search.

        """
        known[id(container)] = UNFINISHED_SEARCH
        kind: Any = cast(Any, type(container))
        contents, finish = (container, None) if kind in PLAIN_CONTAINERS else _unpack(container)
        jobs: list[tuple[Any, AbstractJob[Any]]] = []
        refs: list[tuple[Any, AbstractJob[Any]]] = []
        nested: list[tuple[Any, Template]] = []
        is_mapping = isinstance(contents, (dict, UserDict))
        if is_mapping and not ATOMIC_TYPES.issuperset(map(type, cast(Any, contents))):
            self._reject_jobs_inside([*contents], "a key of a dict")
        items = cast("Iterable[tuple[Any, Any]]", contents.items() if is_mapping else enumerate(contents))
        for key, value in items:
            kind = type(value)  # pyright: ignore[reportUnknownVariableType]  # a cast takes a third of the loop
            if kind in ATOMIC_TYPES:
                continue
            if kind in FILLED_TYPES:
                template = self._inner_template(value, known) if value else None
                if template is not None:
                    nested.append((key, template))
            elif is_job(value):
                self.inputs[value] = None
                jobs.append((key, cast(Any, value)))
            elif kind is Ref:
                refs.append((key, value.job))
            elif may_hold_jobs(kind):
                self._reject_jobs_inside(value, f"in a {kind.__name__}")
        found: Template | None = None
        if jobs or refs or nested:
            contents, finish = _unpack(container) if contents is container else (contents, finish)
            found = Template(contents, finish, jobs, nested)
            for key, job in refs:
                contents[key] = job
        known[id(container)] = found
        return found

    def _inner_template(self, container: Any, known: dict[int, Any]) -> Template | None:
        """Return the template of a nested container; None if it contains no job.

        This additional frame makes the search recurse deeper than `substitute_inputs`, so that only the search can
        reach the recursion limit.
        """
        if id(container) not in known:
            is_plain = cast(Any, type(container)) in PLAIN_CONTAINERS
            return None if is_plain and _has_only_atoms(container) else self._template(container, known)
        template: Template | None = known[id(container)]
        if template is UNFINISHED_SEARCH:
            raise ValueError(
                f"an argument of {self._subject()} contains itself, so the search for jobs in it would never end: "
                f"a {type(container).__name__} with {len(container)} items; wrap it in an object"
            )
        return template

    def _reject_jobs_inside(self, value: Any, where: str) -> None:
        """Reject a value that is or contains a job, at any depth, because no result can be filled in there."""
        for item in _contents(value):
            if type(item) is Ref or is_job(item):
                label = item.job.label if isinstance(item, Ref) else item.label  # pyright: ignore[reportUnknownMemberType]
                raise TypeError(
                    f"{label!r} is {where} in the arguments of {self._subject()}, where its result cannot replace it; "
                    f"pass it in a plain list or tuple, or as a value of a plain dict"
                )
            if issubclass(type(item), LAZY_ITERATORS):
                raise TypeError(
                    f"an argument of {self._subject()} is a {type(item).__name__}, in which no job would be "
                    f"found; write list(...) around it, or make it in the function"
                )


def _contents(value: Any) -> Iterator[Any]:
    """Yield a value and all that it contains, at any depth. An iterator is not consumed: it refers to its items."""
    todo, visited = [value], dict[int, Any]()
    while todo:
        value = todo.pop()
        kind = cast(Any, type(value))
        if kind not in LEAF_TYPES and id(value) in visited:
            continue
        visited[id(value)] = value  # kept alive, because another object could get the `id` of a temporary one
        yield value
        if kind in REFERRING_TYPES:
            todo += gc.get_referents(value)
        elif kind is tuple or (kind not in LEAF_TYPES and issubclass(kind, SEARCHED_TYPES)):  # which takes longer
            todo += [*value, *value.values()] if kind is not tuple and isinstance(value, Mapping) else value


def reject_text(values: Any, subject: str) -> None:
    """Reject values that have the text of a job that has not settled, at any depth.

    Args:
        values: the values.
        subject: what the values are for, such as the name of a job, for the error.

    Raises:
        TypeError: a value has such a text.

    """
    for value in _contents(values) if TEXTS else ():
        is_text = type(value) is str or (value is not None and issubclass(type(value), (str, bytes, PATH_LIKE)))
        job = job_in(os.fsdecode(cast(Any, value))) if is_text else None
        if job is not None:
            cure = JOB_CURE if job._can_be_input else SCHEDULER_CURE
            raise TypeError(f"{subject} is given the text of {job.label!r}, which is not its result: {cure}")


def _has_only_atoms(container: Any) -> bool:
    """Return whether a plain container has no job, because all its items are atoms. Several jobs may share it."""
    if cast(Any, type(container)) is dict and not ATOMIC_TYPES.issuperset(map(type, container.values())):
        return False
    return ATOMIC_TYPES.issuperset(map(type, container))


def substitute_inputs(values: Iterable[Any], value_of: ValueOf) -> tuple[Any, ...]:
    """Return values, such as the arguments of a `Work`, with `value_of(job)` in place of each job, at any depth.

    Raises:
        TypeError: a job is in a container in which no value can replace it, such as a set.
        ValueError: a container contains itself, or is nested too deep.

    """
    arguments = ArgumentSearch(lambda: "for_journal()").search_positional(tuple(values))
    return arguments.substitute_inputs(value_of) if isinstance(arguments, Template) else arguments
