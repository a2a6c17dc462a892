"""Jobs that call a function, `FunctionJob` and `Job`, and the search for jobs among the arguments of a job.

The kinds differ in where they call the function: in the event loop (`Job`, `Service`), in a thread, or in another
process. They share the check of the function, the handling of jobs among its arguments, and the default label.

Jobs among the arguments are found when the job is created, and replaced by results when it starts. The search covers
the containers in `FILLED_TYPES`, down to Python's recursion limit. A container without jobs is passed on as the same
object. A container with jobs is copied at each start, with results in place of the jobs. If a container occurs twice,
it is searched and copied only once, so that the cost is linear in the number of distinct containers. A job whose place
cannot be filled, as in a set or an iterator, is an error.
"""

from __future__ import annotations

import builtins
import functools
import gc
import itertools
import os
import sys
import weakref
from collections import ChainMap, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    ValuesView,
)
from types import (
    CoroutineType,
    FunctionType,
    GeneratorType,
    MappingProxyType,
    MethodType,
)
from typing import Any, ClassVar, Final, Unpack, cast, overload

from ..base import _user_code
from ..base._text_forms import short_repr
from ._argument_types import (
    A,
    AsyncOrThreadFunction1,
    AsyncOrThreadFunction2,
    AsyncOrThreadFunction3,
    B,
    C,
    ValueOrJob,
)
from ._errors import DROPPED, is_awaitable, not_awaitable_message
from ._job import AbstractJob, AnyJob, T, is_job, overrides
from ._job_options import (
    OPTIONS_IN_FINGERPRINTS,
    JobOptions,
    check_keywords,
    unknown_job_option_error,
)
from ._labels import MAX_DEPTH, TEXTS, Ref, call_label, job_in, without_ref

ValueOf = Callable[[AnyJob], Any]
"""A function that returns the value to pass in place of an input."""

ATOMIC_TYPES: Final = frozenset({int, float, str, bytes, bool, type(None), range})
"""Types of values that contain no job. They are checked first, because most arguments have one of these types."""
CO_VARARGS, CO_VARKEYWORDS = 4, 8
"""Flags of code with `*args`, and with `**kwargs`: `inspect` has them, and takes long to import."""
PLAIN_CONTAINERS: Final = frozenset({list, tuple, dict})
LEAF_TYPES: Final = ATOMIC_TYPES | {FunctionType}
COPIED_TYPES: Final = frozenset[Any](
    {list, dict, deque, UserList, UserDict, OrderedDict, defaultdict}
)
"""Types of containers that have `copy`, and in whose copy items can be replaced."""
MAPPINGS: Final[Any] = ({}, OrderedDict[Any, Any](), UserDict[Any, Any]())
VIEWS: Final[Any] = [(each.values(), each.items()) for each in MAPPINGS]
VIEW_TYPES: Final = frozenset[Any](map(type, itertools.chain.from_iterable(VIEWS)))
# A type of Python 3.15: https://peps.python.org/pep-0814/.
FROZEN_DICT: Final[Any] = getattr(builtins, "frozendict", dict)
FILLED_TYPES: Final[frozenset[Any]] = (
    COPIED_TYPES
    | {tuple, FROZEN_DICT, functools.partial, MappingProxyType}
    | VIEW_TYPES
)
"""Types of containers that results are filled in. Objects of their subclasses could not be copied safely."""
SEARCHED_TYPES: Final[Any] = (
    *FILLED_TYPES - {functools.partial},
    set,
    frozenset,
    KeysView,
    ChainMap,
)
"""Types of containers to search. In those that are not in `FILLED_TYPES`, such as a namedtuple, a job is an error."""
PATH_LIKE: Final[Any] = os.PathLike
LAZY_ITERATORS: Final = (GeneratorType, map, itertools.starmap)
"""Types of iterators whose items do not exist before they are asked for, so that jobs among them cannot be found."""
ITERATOR_TYPES: Final = frozenset[Any](
    {
        *(*LAZY_ITERATORS, zip, filter, enumerate, type(reversed(()))),
        *map(
            type,
            map(
                reversed,
                cast(
                    "tuple[Any, ...]", ([], {}, {}.values(), {}.items(), deque[Any]())
                ),
            ),
        ),
        *map(
            type,
            map(
                iter,
                cast(
                    "tuple[Any, ...]",
                    ([], (), {}, {}.values(), {}.items(), set[Any](), deque[Any]()),
                ),
            ),
        ),
        type(iter(OrderedDict[Any, Any]())),
        *(kind for kind in vars(itertools).values() if isinstance(kind, type)),
    }
)
"""Python's own types of iterators, which refer to the objects that they iterate over."""
REFERRING_TYPES: Final = ITERATOR_TYPES | {functools.partial, CoroutineType}
EXACT_TYPES: Final[frozenset[Any]] = (
    FILLED_TYPES | ITERATOR_TYPES | {type(mapping.keys()) for mapping in MAPPINGS}
)
# See https://docs.python.org/3/c-api/typeobj.html#c.Py_TPFLAGS_SEQUENCE.
COLLECTION_FLAGS: Final = 1 << 5 | 1 << 6
"""Flags of types that are sequences or mappings, including subclasses: `Py_TPFLAGS_SEQUENCE` and `Py_TPFLAGS_MAPPING`.
To read them takes a tenth of `isinstance` with an ABC."""
# An object of Python 3.14: https://docs.python.org/3/library/functools.html#functools.Placeholder.
PLACEHOLDER: Final[object] = getattr(functools, "Placeholder", object())
JOB_CURE: Final = (
    "give the job itself, as in Job(f, job); for its name write job.label, "
    "and ref(job) to pass the job as it is"
)
SCHEDULER_CURE: Final = (
    "give the jobs in it, or ref(scheduler) to pass the scheduler as it is"
)
UNFINISHED_SEARCH: Final = object()
"""A placeholder for the template of a container while its items are searched."""


# ---- jobs among the arguments


def ref(value: T) -> T:
    """Pass a value as it is: it is not searched for jobs, and a job is not replaced by its result.

    Use it for a job that the function should get itself, and for values that you know nothing about, such as values
    that a library hands on for its callers. Large values cost nothing, and whatever they contain is passed on.

    Args:
        value: the argument that the function should get.

    Returns:
        A placeholder for the value, to be used among the arguments of a job. Type checkers see the value.

    Example:
        >>> async def label(job):
        ...     return job.label
        >>> other = Job(label, None, label="other")
        >>> asking = Job(label, ref(other))
        >>> len(asking.required)
        0

    """
    if type(value) is Ref:
        return value
    return cast(T, Ref(value))


def result_of(job: AnyJob) -> Any:
    outcome = job._outcome
    # `result()` raises if the result was dropped, or a ready service has failed since. Some kinds fetch the value.
    if outcome is DROPPED or job._has_own_result:
        return job.result()
    return outcome


class Template:
    """The template of a container with jobs in it, at any depth, such as the positional arguments of a job.

    `substitute_inputs` makes a copy with values in place of the jobs. Iteration yields results in their place.

    Args:
        items: a copy of the container, or a list or dict with its items.
        finish: makes the object to pass of such a copy, or None if it is the copy.
        jobs: for each item that is an input, its key or index, and the input.
        nested: for each item that is itself such a container, or a `Ref`, its key or index, and its template.

    """

    __slots__ = ("_finish", "_jobs", "_nested", "original")

    def __init__(
        self,
        items: object,
        finish: Callable[[Any], Any] | None,
        jobs: list[tuple[Any, AnyJob]],
        nested: list[tuple[Any, Template | Ref]],
    ) -> None:
        self._finish = finish
        self.original: Any = items
        self._jobs = tuple(jobs)
        self._nested = tuple(nested)

    def substitute_inputs(
        self, value_of: ValueOf, copies: dict[Template | Ref, Any] | None = None
    ) -> Any:
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
        if self._finish is None:
            return container
        return self._finish(container)

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
        positional = dict(enumerate((container.func, *container.args)))
        return {**positional, **container.keywords}, _make_partial
    if isinstance(container, ItemsView):
        return dict(cast(Any, container)), lambda items: [*items.items()]
    if isinstance(container, ValuesView):
        return [*container], None
    return dict(container), None


def _make_partial(items: dict[Any, Any]) -> functools.partial[Any]:
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for key, value in items.items():
        if isinstance(key, str):
            keywords[key] = value
        else:
            positional.append(value)
    function, *args = positional
    return functools.partial(function, *args, **keywords)


class DirectArguments:
    """A faster form of `Template` for the usual arguments, without containers that have to be searched.

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

    def inputs(self) -> tuple[AnyJob, ...]:
        jobs = tuple([self.original[index] for index in self._indices])
        if len(jobs) == 1:
            return jobs
        return tuple(dict.fromkeys(jobs))


def direct_input_indices(values: tuple[Any, ...]) -> tuple[int, ...] | None:
    """Return the indices of the inputs among `values`, or None if `DirectArguments` cannot represent these."""
    indices: list[int] = []
    for index, value in enumerate(values):
        kind = cast(Any, type(value))
        if kind in ATOMIC_TYPES:
            continue
        if is_job(value):
            if value._has_own_result or not (
                value._options.keep_result and value._can_be_input
            ):
                return None
            indices.append(index)
        elif kind is Ref or kind is MethodType or may_hold_jobs(kind):
            return None
    return tuple(indices)


def may_hold_jobs(kind: type) -> object:
    """Return a true value if objects of a type are searched for jobs."""
    return (
        kind in EXACT_TYPES
        or kind.__flags__ & COLLECTION_FLAGS
        or issubclass(kind, (set, frozenset))
    )


def unpack_partial(
    function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None
) -> tuple[Any, tuple[Any, ...], Mapping[str, Any] | None]:
    """Return the function in a partial, and all arguments of the call, if jobs are among those that the partial has.

    Otherwise, return the partial and the arguments as they are.
    """
    search = ArgumentSearch(lambda: repr(name_of(function)))
    if search.search_positional((function,)) == (function,) and not search.inputs:
        return function, args, kwargs
    filled = list(function.args)
    rest = iter(args)
    for index, value in enumerate(filled):
        if value is PLACEHOLDER:
            filled[index] = next(rest, value)
    return function.func, (*filled, *rest), {**function.keywords, **(kwargs or {})}


def original_arguments(arguments: Iterable[Any]) -> Iterable[Any]:
    """Return positional arguments as they were given, with the inputs among them.

    Args:
        arguments: the tuple or the object that `ArgumentSearch.search_positional` or `DirectArguments` made of them.

    """
    if isinstance(arguments, tuple):
        return arguments
    return cast("Template | DirectArguments", arguments).original


class Call:
    """A function with bound keyword arguments. At a call, the inputs among these are replaced by their results."""

    __slots__ = ("_template", "func", "original")

    def __init__(
        self,
        function: Callable[..., Any],
        values: dict[str, Any],
        template: Template | None,
    ) -> None:
        # Called `func` as in `functools.partial`.
        self.func: Final = function
        self.original = values
        self._template = template

    def substitute_inputs(self, value_of: ValueOf) -> dict[str, Any]:
        if self._template is None:
            return self.original
        substituted: dict[str, Any] = self._template.substitute_inputs(value_of)
        return substituted

    def __call__(self, /, *args: object, **kwargs: object) -> Any:
        return self.func(*args, **self.substitute_inputs(result_of), **kwargs)


class ArgumentSearch:
    """A search for inputs among the arguments of a job, which visits each container once.

    Args:
        subject: returns the name of the job for errors.

    Attributes:
        inputs: the inputs found so far, in argument order.

    """

    def __init__(self, subject: Callable[[], str]) -> None:
        self._subject = subject
        self.inputs: Final[dict[AnyJob, None]] = {}

    def checked_inputs(self) -> tuple[AnyJob, ...]:
        """Return the inputs.

        Raises:
            TypeError: a scheduler is among them.

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

    def search_keywords(
        self, function: Callable[..., Any], values: Mapping[str, Any]
    ) -> Call:
        """Search keyword arguments, and return `function` with these bound to it.

        Raises:
            TypeError: `values` is not a dict with text as keys.

        """
        plain = check_keywords(values, "kwargs", self._subject)
        return Call(function, plain, self._root_template(plain))

    def _root_template(self, container: object) -> Template | None:
        try:
            return self._template(container, {})
        except RecursionError:
            raise ValueError(
                f"an argument of {self._subject()} is nested deeper than Python's recursion limit, "
                f"{sys.getrecursionlimit()}; wrap it in an object"
            ) from None

    def _template(self, container: Any, known: dict[int, Any]) -> Template | None:
        """Return the template of a container, or None if it contains no job.

        Args:
            container: the container to search.
            known: the results of earlier searches by `id` of the container, or UNFINISHED_SEARCH during a search.

        """
        known[id(container)] = UNFINISHED_SEARCH
        kind: Any = cast(Any, type(container))
        if kind in PLAIN_CONTAINERS:
            contents = container
            finish = None
        else:
            contents, finish = _unpack(container)
        jobs: list[tuple[Any, AnyJob]] = []
        nested: list[tuple[Any, Template | Ref]] = []
        items: Any
        if isinstance(contents, (dict, UserDict)):
            if not ATOMIC_TYPES.issuperset(map(type, cast(Any, contents))):
                self._reject_jobs_inside([*contents], "a key of a dict")
            items = cast(Any, contents).items()
        else:
            items = enumerate(contents)
        for key, value in items:
            kind = type(value)  # pyright: ignore[reportUnknownVariableType]  # a cast takes a third of the loop
            if kind in ATOMIC_TYPES:
                continue
            if kind in FILLED_TYPES:
                if value:
                    template = self._inner_template(value, known)
                    if template is not None:
                        nested.append((key, template))
            elif is_job(value):
                self.inputs[value] = None
                jobs.append((key, cast(Any, value)))
            elif kind is Ref:
                nested.append((key, value))
            elif kind is MethodType:
                self._reject_result_method(value)
            elif may_hold_jobs(kind):
                self._reject_jobs_inside(value, f"in a {kind.__name__}")
        found: Template | None = None
        if jobs or nested:
            if contents is container:
                contents, finish = _unpack(container)
            found = Template(cast(Any, contents), finish, jobs, nested)
        known[id(container)] = found
        return found

    def _inner_template(self, container: Any, known: dict[int, Any]) -> Template | None:
        """Return the template of a nested container, or None if it contains no job.

        This additional frame makes the search recurse deeper than `substitute_inputs`, so that only the search can
        reach the recursion limit.
        """
        if id(container) not in known:
            is_plain = cast(Any, type(container)) in PLAIN_CONTAINERS
            if is_plain and _has_only_atoms(container):
                return None
            return self._template(container, known)
        template: Template | None = known[id(container)]
        if template is UNFINISHED_SEARCH:
            raise ValueError(
                f"an argument of {self._subject()} contains itself, so the search for jobs in it would never end: "
                f"a {type(container).__name__} with {len(container)} items; wrap it in an object"
            )
        return template

    def _reject_result_method(self, method: Any) -> None:
        """Reject the method `result` of a job, which was meant as the job."""
        if is_job(method.__self__) and method.__name__ == "result":
            raise TypeError(
                f"{method.__self__.label}.result is an argument of {self._subject()}: give the job itself, which "
                f"stands for its result"
            )

    def _reject_jobs_inside(self, value: Any, where: str) -> None:
        """Reject a value that is or contains a job, at any depth, because no result can be filled in there."""
        for item in _contents(value):
            passed = without_ref(item)
            if passed is not item or is_job(passed):
                name = repr(passed.label if is_job(passed) else item)
                raise TypeError(
                    f"{name} is {where} in the arguments of {self._subject()}, where nothing can be filled in; "
                    f"pass it in a plain list or tuple, or as a value of a plain dict"
                )
            if issubclass(type(item), LAZY_ITERATORS):
                raise TypeError(
                    f"an argument of {self._subject()} is a {type(item).__name__}, in which no job would be "
                    f"found; write list(...) around it, or make it in the function"
                )


def _contents(value: Any) -> Iterator[Any]:
    """Yield a value and all that it contains, at any depth. An iterator is not consumed: it refers to its items."""
    todo = [value]
    visited = dict[int, Any]()
    while todo:
        value = todo.pop()
        kind = cast(Any, type(value))
        if kind not in LEAF_TYPES and id(value) in visited:
            continue
        # Kept alive, because another object could get the `id` of a temporary value.
        visited[id(value)] = value
        yield value
        if kind in REFERRING_TYPES:
            todo += gc.get_referents(value)
        elif kind is tuple or (
            kind not in LEAF_TYPES and issubclass(kind, SEARCHED_TYPES)
        ):
            # A mapping takes longer.
            if kind is not tuple and isinstance(value, Mapping):
                todo += [*value, *value.values()]
            else:
                todo += value


def reject_text(values: object, subject: str) -> None:
    """Reject values that have the text of a job that has not settled, at any depth.

    Args:
        values: the values.
        subject: the owner of the values, such as the name of a job, for the error.

    Raises:
        TypeError: a value has such a text.

    """
    if not TEXTS:
        return
    for value in _contents(values):
        job = None
        if issubclass(type(value), (str, bytes, PATH_LIKE)):
            job = job_in(os.fsdecode(value))
        if isinstance(job, str):
            raise TypeError(
                f"{subject} is given the text {job}, and nothing has that job to run it: {JOB_CURE}"
            )
        if job is not None:
            cure = JOB_CURE if job._can_be_input else SCHEDULER_CURE
            raise TypeError(
                f"{subject} is given the text of {job.label!r}, which is not its result: {cure}"
            )


def _has_only_atoms(container: Any) -> bool:
    """Return whether a plain container has no job, because all its items are atoms. Several jobs may share it."""
    has_atoms = ATOMIC_TYPES.issuperset(map(type, container))
    if has_atoms and cast(Any, type(container)) is dict:
        return ATOMIC_TYPES.issuperset(map(type, container.values()))
    return has_atoms


def substitute_inputs(values: Iterable[Any], value_of: ValueOf) -> tuple[Any, ...]:
    """Return values, such as the arguments of a `Work`, with `value_of(job)` in place of each job, at any depth.

    Raises:
        TypeError: a job is in a container that cannot have a value in its place, such as a set.
        ValueError: a container contains itself, or is nested too deep.

    """
    arguments = ArgumentSearch(lambda: "for_journal()").search_positional(tuple(values))
    if isinstance(arguments, Template):
        arguments = arguments.substitute_inputs(value_of)
    return cast("tuple[Any, ...]", arguments)


# ---- jobs that call a function


ASYNC_CODE_FLAGS: Final = _user_code.IS_COROUTINE | _user_code.IS_ITERABLE_COROUTINE
"""The flags of the code of functions whose calls return awaitables."""


class FunctionJob(AbstractJob[T]):
    """A job that calls a function: the base class of kinds that call it in a thread, another process, and so on.

    A subclass says where it makes the calls in its class argument `calls_in`, such as "a thread". Its jobs then accept
    only plain functions. It defines `co_run`, which gets the call from `trioflow.abc.call_of`.

    Args:
        function: the function to call.
        args: positional arguments of the call. Jobs among them are inputs.
        kwargs: keyword arguments of the call, or None. Jobs among them are inputs, too.
        options: the options of every job. See `AbstractJob`.

    Raises:
        TypeError: the function or an option has the wrong type.
        ValueError: an option is out of its range.

    Example:
        >>> class LaterJob(FunctionJob, calls_in="a later step"):
        ...     def __init__(self, function, /, *args, kwargs=None, **options):
        ...         super().__init__(function, args, kwargs, options)
        ...     async def co_run(self):
        ...         await anyio.sleep(0)
        ...         return call_of(self)()
        >>> job = LaterJob(pow, 2, 5)
        >>> Scheduler(job).run(), job.result()
        (True, 32)

    """

    __slots__ = ("_args", "_function")

    # The place where the kind calls plain functions, such as "a thread", or None for kinds that call async functions.
    _calls_in: ClassVar[str | None] = None

    # The function, or a `Call` if there are keyword arguments.
    _function: Any
    # The positional arguments. Iteration yields results in place of the inputs.
    _args: Iterable[Any]

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        # Not JobOptions: a user-defined kind may take `**options` without types.
        options: Mapping[str, Any],
    ) -> None:
        if self._calls_in is not None:
            check_function(function, type(self).__name__, place=self._calls_in)
            check_call(function, args, kwargs, type(self).__name__)
        if type(function) is functools.partial:
            function, args, kwargs = unpack_partial(function, args, kwargs)
        _reject_text(function, args, kwargs, options)
        self._function = function
        super().__init__(
            **options, _inputs=self._bind_arguments(args, kwargs, options.get("label"))
        )

    def __init_subclass__(cls, *, calls_in: str | None = None, **kwargs: Any) -> None:
        """Record the place where jobs of the class call plain functions. Without `calls_in`, it is inherited."""
        super().__init_subclass__(**kwargs)
        if calls_in is not None:
            cls._calls_in = calls_in

    @property
    def function(self) -> Any:
        """The function, or the coroutine object. None if it was dropped as the job settled for the last time."""
        return self._function.func if type(self._function) is Call else self._function

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments, with the jobs among them."""
        return tuple(map(without_ref, original_arguments(self._args)))

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments, with the jobs among them."""
        values = self._function.original if type(self._function) is Call else {}
        return {name: without_ref(value) for name, value in values.items()}

    def _bind_arguments(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None, label: str | None
    ) -> tuple[AnyJob, ...]:
        """Store the arguments for the call, and return the inputs among them, each once."""
        search = ArgumentSearch(lambda: repr(label or self._function_name()))
        self._args = search.search_positional(args)
        if kwargs:
            self._function = search.search_keywords(self._function, kwargs)
        return search.checked_inputs()

    def _release_call(self) -> None:
        if self._function is not None and not isinstance(self._function, Coroutine):
            self._label = sys.intern(self.label)
            self._function = None
            self._args = ()
            # Before a run, plain jobs are not checked for whether they can run again.
            self._is_plain = False

    def _is_spent(self) -> bool:
        return self._function is None

    def _failure_kind(self) -> object:
        function: Any = unwrap_partial(self._function or type(self))
        if isinstance(function, (FunctionType, MethodType)):
            return id(function.__code__)
        return id(function)

    def _default_label(self, depth: int = MAX_DEPTH) -> str:
        """Return the call as text, such as `fetch(3)`."""
        function = self._function
        name = self._function_name()
        if self._options.redact:
            return f"{name}(…)"
        keywords = function.original if type(function) is Call else {}
        return call_label(name, original_arguments(self._args), keywords, depth=depth)

    def _function_name(self) -> str:
        function = unwrap_partial(self._function)
        return getattr(function, "__name__", None) or type(function).__name__

    def _unknown_option(self, name: str) -> TypeError:
        subject = repr(self._function_name())
        return unknown_job_option_error(name, subject, type(self), is_call=True)


def call_of(
    job: FunctionJob[T], value_of: ValueOf | None = None
) -> functools.partial[T]:
    """Return the call of a job's function, with results in place of inputs. Use this once, in the job's `co_run`.

    This also drops the results of inputs with `keep_result=False` that no other job needs any more.

    Args:
        job: the job.
        value_of: a function that returns the value for an input, or None for the input's result.

    """
    call = call_parts(job, value_of or result_of)
    # None only for a `Job` made from a coroutine object, which does not use `call_of`.
    assert call is not None
    function, args, keywords = call
    job._release_inputs()
    return functools.partial(function, *args, **keywords)


def call_parts(
    job: FunctionJob[Any], value_of: ValueOf
) -> tuple[Any, tuple[Any, ...], dict[str, Any]] | None:
    """Return the function of a job, its positional arguments and its keyword arguments.

    Args:
        job: the job.
        value_of: called with each input. Its return value replaces the input, at any depth of lists, tuples and dicts.
            Jobs that are passed as themselves, by `ref`, are not replaced.

    Returns:
        None if the job was made from a coroutine object, whose arguments are not accessible, or has dropped its
        function and arguments because its scheduler will be closed.

    """
    if job._is_one_shot():
        return None
    args: Any = job._args
    if type(args) is not tuple:
        args = args.substitute_inputs(value_of)
    function: Any = job._function
    if type(function) is Call:
        call: Any = function
        return call.func, cast(Any, args), call.substitute_inputs(value_of)
    return function, cast(Any, args), {}


def input_at(job: AnyJob, position: int) -> AnyJob | None:
    """Return the input at a position among the function's positional arguments, counted from 1.

    Return None if the argument is no input, or if the job has no `DirectArguments`.
    """
    args: Any = getattr(job, "_args", ())
    if not isinstance(args, DirectArguments) or position - 1 not in args._indices:
        return None
    return cast("AnyJob", args.original[position - 1])


def _reject_text(
    function: Any, args: object, kwargs: object, options: Mapping[str, Any]
) -> None:
    values = function, args, kwargs, *map(options.get, OPTIONS_IN_FINGERPRINTS)
    reject_text(values, repr(options.get("label") or name_of(function)))


def unwrap_partial(function: object) -> Any:
    while isinstance(function, (functools.partial, Call)):
        function = function.func
    return function


def is_found_by_name(value: object) -> bool:
    """Return whether looking up the name of a function or class gives this very object, as pickle demands.

    Otherwise, others may have the same name: closures, lambdas, functions of a decorator that was called elsewhere.
    """
    module = getattr(value, "__module__", None)
    found: Any = _user_code.find_by_name(module, getattr(value, "__qualname__", ""))
    if isinstance(found, (staticmethod, classmethod)):
        found = cast(Any, found).__func__
    if hasattr(cast(Any, type(found)), "_builds_jobs"):
        found = found.function
    return found is value


def name_of(function: object) -> str:
    """Return the name of a function for an error message, without calling a user-defined `__repr__`."""
    called = unwrap_partial(function)
    return (
        getattr(called, "__qualname__", None) or f"{type(called).__qualname__} object"
    )


def check_function(
    function: Any,
    kind: str,
    wanted: str = "a plain function and its arguments",
    *,
    place: str | None = None,
) -> None:
    """Reject a function that a kind of job cannot call.

    Args:
        function: the user's function. If it is a partial, the function inside it is checked.
        kind: the name of the kind, for errors.
        wanted: the arguments that the kind accepts, for errors.
        place: the place where the kind calls plain functions, such as "a thread", or None if it calls async functions.

    Raises:
        TypeError: the kind cannot call the function. The message has the remedy.

    """
    called = unwrap_partial(function)
    name = name_of(function)
    if isinstance(called, Coroutine):
        if place is not None:
            raise TypeError(
                f"{kind}({short_repr(called)}): a coroutine object cannot run in {place}; use Job instead"
            )
        raise TypeError(
            f"{kind}({short_repr(called)}): a coroutine object can run only once; give {wanted}"
        )
    if hasattr(cast(Any, type(called)), "_builds_jobs"):
        raise TypeError(
            f"{kind}({name}): it is already decorated with @job: call it, {name}(...), to build the job"
        )
    if not callable(called):
        raise TypeError(f"{kind}({short_repr(called)}): give {wanted}")
    for candidate in (called, cast(Any, type(called)).__call__):
        if _user_code.is_async_generator(candidate):
            instead = wanted
            if place is None:
                instead = "an async function without yield"
            raise TypeError(
                f"{kind}({name}): this is an async generator function; give {instead}"
            )
        if place is not None and _user_code.is_async(candidate):
            short = getattr(called, "__name__", "function")
            raise TypeError(
                f"{kind}({name}): an async function cannot run in {place}; write Job({short}, ...)"
            )
    # The return value of a partial is not known.
    if place is not None or called is not function:
        return
    if isinstance(function, type) or _user_code.is_surely_sync(function):
        advice = ""
        if kind == "Job":
            called_name = getattr(function, "__name__", name)
            advice = f", or run it in a thread: ThreadJob({called_name}, ...)"
        raise TypeError(
            f"{kind}({name}): this is not an async function; define it with async def{advice}"
        )


def check_call(
    function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None, kind: str
) -> None:
    """Reject arguments that the parameters of a Python function or method cannot take.

    Raises:
        TypeError: an argument is missing, or there is no parameter for it.

    """
    plain: Any = function
    if type(function) is MethodType:
        plain = function.__func__
        args = (function.__self__, *args)
    if type(plain) is not FunctionType or (kwargs and not _are_keywords(kwargs)):
        return
    code = plain.__code__
    has_all = (
        len(args) >= code.co_argcount - len(plain.__defaults__ or ())
        and not code.co_kwonlyargcount
    )
    has_room = len(args) <= code.co_argcount or code.co_flags & CO_VARARGS
    if has_all and has_room:
        if not kwargs or code.co_flags & CO_VARKEYWORDS:
            return
    # That of the code that is called, and not of a function that a decorator names as the one it wraps.
    name = plain.__name__
    called = FunctionType(code, {}, name, plain.__defaults__, plain.__closure__)
    called.__kwdefaults__ = plain.__kwdefaults__
    signature = _user_code.signature_of(called)
    try:
        signature.bind(*args, **(kwargs or {}))
    except TypeError as error:
        names = ", ".join(signature.parameters)
        raise TypeError(
            f"{kind}({name_of(function)}, ...): {error}: it is {name}({names})"
        ) from None


def _are_keywords(kwargs: Any) -> bool:
    return isinstance(kwargs, Mapping) and set(map(type, cast(Any, kwargs))) <= {str}


def trial_arguments(function: object) -> tuple[tuple[None, ...], dict[str, None]]:
    """Return arguments that fit a Python function or method: None for each parameter without a default."""
    plain: Any = function
    bound_count = 0
    if type(function) is MethodType:
        plain = function.__func__
        bound_count = 1
    if type(plain) is not FunctionType:
        return (), {}
    code = plain.__code__
    defaults = plain.__kwdefaults__ or {}
    count = code.co_argcount
    by_name = code.co_varnames[count : count + code.co_kwonlyargcount]
    positional_count = count - len(plain.__defaults__ or ()) - bound_count
    keywords = {name: None for name in by_name if name not in defaults}
    return (None,) * positional_count, keywords


def check_kind(kind: object, subject: str) -> None:
    """Reject a value of `kind=` that cannot build jobs that call a function.

    Raises:
        TypeError: `kind` is neither a subclass of `FunctionJob` nor another callable.

    """
    if not callable(kind) or (
        isinstance(kind, type) and not issubclass(kind, FunctionJob)
    ):
        raise TypeError(
            f"kind={short_repr(kind)} of {subject}: give a kind of job that calls a function, such as ThreadJob"
        )


ACCEPTED_ARGUMENTS: Final = "an async function and its arguments, or a coroutine object"


class Job(FunctionJob[T]):
    """A job that calls an async function with arguments, or that awaits a coroutine object.

    Use it for all work that awaits. A plain function is a `ThreadJob` or a `ProcessJob`.

    The function is called at each start of the job, so the job can run again. A coroutine object can run only once. If
    it never runs, it is closed by `close()` of the job or its scheduler, or when the job is garbage-collected. If an
    argument of the coroutine refers to its own job or scheduler, only `close()` closes it.

    Args:
        function: an async function, or a lambda, partial or callable object that returns an awaitable. A coroutine
            object, which takes no further arguments, works, too.
        args: positional arguments of the call. A job among them, or at any depth in lists, tuples, deques and values
            of dicts, is an input: the new job requires it, and gets its result in its place. `ref(value)` passes a job
            itself, or any value unsearched. The same holds for the arguments of a `functools.partial`.
        kwargs: keyword arguments of the call. Jobs among them are inputs too.
        options: the options of every job. See `AbstractJob`.

    Raises:
        TypeError: `function` is a plain function (use `ThreadJob`) or cannot be called, or a coroutine object came with
            arguments.
        ValueError: an option is out of its range.

    Example:
        >>> async def double(number):
        ...     return 2 * number
        >>> job = Job(double, 21, label="twice")
        >>> Scheduler(job).run()
        True
        >>> job.result()
        42

    """

    # If the job was made from a coroutine object, `_function` is that object until the job starts, and then None, and
    # `_args` contains the finalizer that closes the object.
    __slots__ = ()
    _is_called_directly = True

    # Type checkers compare up to three arguments with the function's parameters. A job may take the place of a value.
    @overload
    def __init__(
        self, function: Coroutine[Any, Any, T], /, **options: Unpack[JobOptions]
    ) -> None: ...
    @overload
    def __init__(
        self, function: Callable[[], Awaitable[T]], /, **options: Unpack[JobOptions]
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: AsyncOrThreadFunction1[A, T],
        a: ValueOrJob[A],
        /,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: AsyncOrThreadFunction2[A, B, T],
        a: ValueOrJob[A],
        b: ValueOrJob[B],
        /,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: AsyncOrThreadFunction3[A, B, C, T],
        a: ValueOrJob[A],
        b: ValueOrJob[B],
        c: ValueOrJob[C],
        /,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: Callable[..., Awaitable[T]],
        /,
        *args: object,
        kwargs: Mapping[str, Any],
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: Callable[..., Awaitable[T]],
        a: object,
        b: object,
        c: object,
        d: object,
        /,
        *args: object,
        **options: Unpack[JobOptions],
    ) -> None: ...
    def __init__(
        self,
        function: Callable[..., Awaitable[T]] | Coroutine[Any, Any, T],
        /,
        *args: object,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        code = function.__code__ if type(function) is FunctionType else None
        is_async_function = code is not None and code.co_flags & ASYNC_CODE_FLAGS
        if not is_async_function:
            if not isinstance(function, Coroutine):
                check_function(function, "Job", ACCEPTED_ARGUMENTS)
                if type(function) is functools.partial:
                    function, args, kwargs = unpack_partial(function, args, kwargs)
            elif args or kwargs:
                raise TypeError(
                    f"Job({short_repr(function)}, ...): a coroutine object takes no further arguments"
                )
        # Most calls give each parameter once, in order: to see that here takes a fifth of another call.
        is_plain_call = (
            code is not None
            and len(args) == code.co_argcount
            and not (kwargs or code.co_kwonlyargcount)
        )
        if not is_plain_call and self._is_called_directly:
            check_call(function, args, kwargs, "Job")
        if TEXTS:
            _reject_text(function, args, kwargs, options)
        self._function = function
        self._args = args
        inputs: tuple[AnyJob, ...] = ()
        if kwargs or (args and not ATOMIC_TYPES.issuperset(map(type, args))):
            indices = None
            if not kwargs:
                indices = direct_input_indices(args)
            if indices is None:
                inputs = self._bind_arguments(args, kwargs, options.get("label"))
            elif indices:
                self._args = direct = DirectArguments(args, indices)
                inputs = direct.inputs()
        # This skips `FunctionJob.__init__`: the code above is a faster form of it.
        self._initialize(inputs, options)
        if not is_async_function and isinstance(function, Coroutine):
            if self._label is None:
                # Set now, because `_function` becomes None when the job starts.
                self._label = f"{self._function_name()}(…)"
            self._is_plain = False
            # A finalizer instead of `__del__`, which is called too late in a reference cycle: see docs/design.md.
            self._args = (weakref.finalize(self, function.close),)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Record whether workers may call the function directly, as they may if the class defines no `co_run`."""
        super().__init_subclass__(**kwargs)
        is_usual = cls._takes_slot and not cls._has_own_check
        cls._is_called_directly = is_usual and not overrides(cls, Job, "co_run")
        if not cls._is_called_directly:
            cast(Any, cls)._call_once = AbstractJob._call_once

    async def co_run(self) -> T:
        """Call the function and await its return value, or await the coroutine object."""
        return await Job._call_once(self)

    def _call_once(self) -> Awaitable[T]:
        """Return the awaitable of a call of the function, or the coroutine object, with no coroutine around it."""
        function: Any = self._function
        if type(function) is not FunctionType and isinstance(function, Coroutine):
            # `isinstance` with an ABC is slow.
            coroutine = cast("Coroutine[Any, Any, T]", function)
            self._release_coroutine()
            return coroutine
        awaitable: Awaitable[T] = function(*self._args)
        if self._inputs:
            self._release_inputs()
        if not is_awaitable(awaitable):
            raise TypeError(not_awaitable_message(self, awaitable))
        return awaitable

    def close(self) -> None:
        """Close the coroutine object of the job, if it has not started."""
        if self._is_one_shot() and not self._is_spent() and not self.is_running():
            self._function.close()
            self._release_coroutine()

    def _release_coroutine(self) -> None:
        """Drop the reference to the coroutine, which has started or is closed, and detach its finalizer.

        On Python 3.12 even a closed coroutine still refers to its arguments.
        """
        (finalizer,) = cast("tuple[Any, ...]", self._args)
        finalizer.detach()
        self._function = None
        self._args = ()

    def _is_one_shot(self) -> bool:
        return self._function is None or isinstance(self._function, Coroutine)
