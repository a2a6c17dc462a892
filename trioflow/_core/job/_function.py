"""Jobs that call a function: their base class `FunctionJob`, and `Job`, which calls async functions.

The kinds differ in where they call the function: in the event loop (`Job`, `Service`), in a thread, or in another
process. They share the check of the function, the handling of jobs among its arguments, and the default label.
"""

from __future__ import annotations

import functools
import sys
import types
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, ClassVar, Final, Unpack, cast, overload

from ..base import _user_code
from ..base._text_forms import short_repr
from . import _job_options, _labels
from ._argument_types import A, AsyncOrThreadFunction1, AsyncOrThreadFunction2, AsyncOrThreadFunction3, B, C, ValueOrJob
from ._arguments import (
    ATOMIC_TYPES,
    ArgumentSearch,
    Call,
    DirectArguments,
    ValueOf,
    direct_input_indices,
    original_arguments,
    reject_text,
    result_of,
    unpack_partial,
)
from ._job import AbstractJob, T
from ._job_options import JobOptions
from ._labels import TEXTS
from ._outcome import is_awaitable, not_awaitable_message

FUNCTION_TYPE: Final = types.FunctionType
"""A global name for the type, because looking up an attribute of a module takes longer."""
ASYNC_CODE_FLAGS: Final = _user_code.IS_COROUTINE | _user_code.IS_ITERABLE_COROUTINE
"""The flags of the code of functions whose calls return awaitables."""


class FunctionJob(AbstractJob[T]):
    """A job that calls a function: the base class of kinds that call it in a thread, another process, and so on.

    A subclass says where it makes the calls in its class argument `calls_in`, such as "a thread". Its jobs then accept
    only plain functions. It defines `co_run`, which gets the call from `trioflow.abc.call_of`.

    Args:
        function: the function to call.
        args: positional arguments of the call; jobs among them are inputs.
        kwargs: keyword arguments of the call, or None; jobs among them are inputs too.
        options: the options of every job; see `AbstractJob`.

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

    # The place in which the kind calls plain functions, such as "a thread"; None for kinds that call async functions.
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
        options: Mapping[str, Any],  # not JobOptions: a kind of one's own may take `**options` without types
    ) -> None:
        if self._calls_in is not None:
            check_function(function, type(self).__name__, place=self._calls_in)
        if type(function) is functools.partial:
            function, args, kwargs = unpack_partial(function, args, kwargs, name_of(function))
        _reject_text(function, args, kwargs, options)
        self._function = function
        inputs = self._bind_arguments(args, kwargs, options.get("label"))
        super().__init__(**options, _inputs=inputs)

    def __init_subclass__(cls, *, calls_in: str | None = None, **kwargs: Any) -> None:
        """Record the place in which jobs of the class call plain functions. Without `calls_in`, it is inherited."""
        super().__init_subclass__(**kwargs)
        if calls_in is not None:
            cls._calls_in = calls_in

    def _bind_arguments(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None, label: str | None
    ) -> tuple[AbstractJob[Any], ...]:
        """Store the arguments for the call, and return the inputs among them, each once."""
        search = ArgumentSearch(lambda: repr(label or self._function_name()))
        self._args = search.search_positional(args)
        if kwargs:
            self._function = search.search_keywords(self._function, kwargs)
        return search.checked_inputs()

    def _release_call(self) -> None:
        if self._function is not None and not isinstance(self._function, Coroutine):
            self._label = sys.intern(self.label)
            self._function, self._args = None, ()
            self._is_plain = False  # before a run, plain jobs are not checked for whether they can run again

    def _is_spent(self) -> bool:
        return self._function is None

    def _failure_kind(self) -> object:
        function: Any = unwrap_partial(self._function or type(self))
        return id(function.__code__ if isinstance(function, (types.FunctionType, types.MethodType)) else function)

    def _default_label(self, depth: int = _labels.MAX_DEPTH) -> str:
        """Return the call as text, such as `fetch(3)`."""
        function, name = self._function, self._function_name()
        if self._options.redact:
            return f"{name}(…)"
        keywords = function.original if type(function) is Call else {}
        return _labels.call_label(name, original_arguments(self._args), keywords, depth=depth)

    def _function_name(self) -> str:
        function = unwrap_partial(self._function.func if isinstance(self._function, Call) else self._function)
        return getattr(function, "__name__", None) or type(function).__name__

    def _unknown_option(self, name: str) -> TypeError:
        return _job_options.unknown_job_option_error(name, repr(self._function_name()), type(self), is_call=True)


def call_of(job: FunctionJob[T], value_of: ValueOf | None = None) -> functools.partial[T]:
    """Return the call of a job's function, with results in place of inputs. Use this once, in the job's `co_run`.

    This also drops the results of inputs with `keep_result=False` that no other job needs any more.

    Args:
        job: the job.
        value_of: a function that returns the value for an input; None for the input's result.

    """
    call = call_parts(job, value_of or result_of)
    assert call is not None  # None only for a `Job` made from a coroutine object, which does not use `call_of`
    function, args, keywords = call
    job._release_inputs()
    return functools.partial(function, *args, **keywords)


def call_parts(job: FunctionJob[Any], value_of: ValueOf) -> tuple[Any, tuple[Any, ...], dict[str, Any]] | None:
    """Return the function of a job, its positional arguments and its keyword arguments.

    Args:
        job: the job.
        value_of: called with each input; its return value replaces the input, at any depth of lists, tuples and dicts.
            Jobs that are passed as themselves, by `ref`, are not replaced.

    Returns:
        None if the job was made from a coroutine object, whose arguments are not accessible, or has dropped its
        function and arguments because its scheduler will be closed.

    """
    if job._is_one_shot():
        return None
    arguments: Any = job._args
    args = cast("tuple[Any, ...]", arguments if type(arguments) is tuple else arguments.substitute_inputs(value_of))
    function: Any = job._function
    if type(function) is Call:
        return cast(Any, function.func), args, function.substitute_inputs(value_of)
    return function, args, {}


def input_at(job: AbstractJob[Any], position: int) -> AbstractJob[Any] | None:
    """Return the input at a position among the function's positional arguments, counted from 1.

    Return None if the argument is no input, or if the job has no `DirectArguments`.
    """
    args: Any = job._args if isinstance(job, FunctionJob) else ()
    is_input = isinstance(args, DirectArguments) and position - 1 in args._indices
    return args.original[position - 1] if is_input else None


def _reject_text(function: Any, args: Any, kwargs: Any, options: Mapping[str, Any]) -> None:
    values = function, args, kwargs, options.get("key"), options.get("version")
    reject_text(values, repr(options.get("label") or name_of(function)))


def unwrap_partial(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def is_found_by_name(value: Any) -> bool:
    """Return whether looking up the name of a function or class gives this very object, as pickle demands.

    Otherwise, others may have the same name: closures, lambdas, functions of a decorator that was called elsewhere.
    """
    found: Any = _user_code.find_by_name(getattr(value, "__module__", None), getattr(value, "__qualname__", ""))
    if isinstance(found, (staticmethod, classmethod)):
        found = cast(Any, found).__func__
    return (found.function if hasattr(cast(Any, type(found)), "_builds_jobs") else found) is value


def name_of(function: Any) -> str:
    """Return the name of a function for an error message, without calling a user-defined `__repr__`."""
    called = unwrap_partial(function)
    return getattr(called, "__qualname__", None) or f"{type(called).__qualname__} object"


def check_function(
    function: Any, kind: str, wanted: str = "a plain function and its arguments", *, place: str | None = None
) -> None:
    """Reject a function that a kind of job cannot call.

    Args:
        function: the user's function; if it is a partial, the function inside it is checked.
        kind: the name of the kind, for errors.
        wanted: the arguments that the kind accepts, for errors.
        place: the place in which the kind calls plain functions, such as "a thread"; None if it calls async functions.

    Raises:
        TypeError: the kind cannot call the function; the message has the remedy.

    """
    called, name = unwrap_partial(function), name_of(function)
    if isinstance(called, Coroutine):
        if place is not None:
            raise TypeError(f"{kind}({short_repr(called)}): a coroutine object cannot run in {place}; use Job instead")
        raise TypeError(f"{kind}({short_repr(called)}): a coroutine object can run only once; give {wanted}")
    if hasattr(cast(Any, type(called)), "_builds_jobs"):
        raise TypeError(f"{kind}({name}): it is already decorated with @job: call it, {name}(...), to build the job")
    if not callable(called):
        raise TypeError(f"{kind}({short_repr(called)}): give {wanted}")
    for candidate in (called, cast(Any, type(called)).__call__):
        if _user_code.is_async_generator(candidate):
            instead = "an async function without yield" if place is None else wanted
            raise TypeError(f"{kind}({name}): this is an async generator function; give {instead}")
        if place is not None and _user_code.is_async(candidate):
            short = getattr(called, "__name__", "function")
            raise TypeError(f"{kind}({name}): an async function cannot run in {place}; write Job({short}, ...)")
    is_checked = place is None and called is function  # the return value of a partial is not known
    if is_checked and (isinstance(function, type) or _user_code.is_surely_sync(function)):
        advice = f", or run it in a thread: ThreadJob({getattr(function, '__name__', name)}, ...)"
        raise TypeError(
            f"{kind}({name}): this is not an async function; define it with async def{advice if kind == 'Job' else ''}"
        )


def check_kind(kind: Any, subject: str) -> None:
    """Reject a value of `kind=` that cannot build jobs that call a function.

    Raises:
        TypeError: `kind` is neither a subclass of `FunctionJob` nor another callable.

    """
    if not callable(kind) or (isinstance(kind, type) and not issubclass(kind, FunctionJob)):
        raise TypeError(
            f"kind={short_repr(kind)} of {subject}: give a kind of job that calls a function, such as ThreadJob"
        )


ACCEPTED_ARGUMENTS: Final = "an async function and its arguments, or a coroutine object"


class Job(FunctionJob[T]):
    """A job that calls an async function with arguments, or that awaits a coroutine object.

    The function is called at each start of the job, so the job can run again. A coroutine object can run only once. If
    it never runs, it is closed by `close()` of the job or its scheduler, or when the job is garbage-collected. If an
    argument of the coroutine refers to its own job or scheduler, only `close()` closes it.

    Args:
        function: an async function; a lambda, partial or callable object that returns an awaitable; or a coroutine
            object, which takes no further arguments.
        args: positional arguments of the call. A job among them, or at any depth in lists, tuples, deques and values
            of dicts, is an input: the new job requires it, and gets its result in its place. `ref(job)` passes the job
            itself. The same holds for the arguments of a `functools.partial`.
        kwargs: keyword arguments of the call; jobs among them are inputs too.
        options: the options of every job; see `AbstractJob`.

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

    # Type checkers compare up to three arguments with the function's parameters; a job may stand in place of a value.
    @overload
    def __init__(self, function: Coroutine[Any, Any, T], /, **options: Unpack[JobOptions]) -> None: ...
    @overload
    def __init__(self, function: Callable[[], Awaitable[T]], /, **options: Unpack[JobOptions]) -> None: ...
    @overload
    def __init__(
        self, function: AsyncOrThreadFunction1[A, T], a: ValueOrJob[A], /, **options: Unpack[JobOptions]
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
        *args: Any,
        kwargs: Mapping[str, Any],
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: Callable[..., Awaitable[T]],
        a: Any,
        b: Any,
        c: Any,
        d: Any,
        /,
        *args: Any,
        **options: Unpack[JobOptions],
    ) -> None: ...
    def __init__(
        self,
        function: Callable[..., Awaitable[T]] | Coroutine[Any, Any, T],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        is_async_function = type(function) is FUNCTION_TYPE and function.__code__.co_flags & ASYNC_CODE_FLAGS
        if not is_async_function:
            if not isinstance(function, Coroutine):
                check_function(function, "Job", ACCEPTED_ARGUMENTS)
                if type(function) is functools.partial:
                    function, args, kwargs = unpack_partial(function, args, kwargs, name_of(function))
            elif args or kwargs:
                raise TypeError(f"Job({short_repr(function)}, ...): a coroutine object takes no further arguments")
        if TEXTS:
            _reject_text(function, args, kwargs, options)
        self._function = function
        self._args = args
        if args or kwargs:
            is_simple = not kwargs and ATOMIC_TYPES.issuperset(map(type, args))
            indices = () if is_simple else None if kwargs else direct_input_indices(args)
            if indices is None:
                options["_inputs"] = self._bind_arguments(args, kwargs, options.get("label"))  # type: ignore[typeddict-unknown-key]
            elif indices:
                self._args = direct = DirectArguments(args, indices)
                options["_inputs"] = direct.inputs()  # type: ignore[typeddict-unknown-key]
        # This skips `FunctionJob.__init__`: the code above is a faster form of it.
        AbstractJob.__init__(self, **options)  # pyright: ignore[reportUnknownMemberType]
        if not is_async_function and isinstance(function, Coroutine):
            if self._label is None:  # set now, because `_function` becomes None when the job starts
                self._label = f"{self._function_name()}(…)"
            self._is_plain = False
            # A finalizer instead of `__del__`, which is called too late in a reference cycle; see docs/design.md.
            self._args = (weakref.finalize(self, function.close),)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Record whether workers may call the function directly, as they may if the class defines no `co_run`."""
        super().__init_subclass__(**kwargs)
        is_usual = cls._takes_slot and not cls._has_own_check
        cls._is_called_directly = is_usual and cast(Any, cls).co_run is cast(Any, Job).co_run
        if not cls._is_called_directly:
            cast(Any, cls)._call_once = AbstractJob._call_once

    async def co_run(self) -> T:
        """Call the function and await its return value, or await the coroutine object."""
        return await Job._call_once(self)

    def _call_once(self) -> Awaitable[T]:
        """Return the awaitable of a call of the function, or the coroutine object, with no coroutine around it."""
        function: Any = self._function
        if type(function) is not FUNCTION_TYPE and isinstance(function, Coroutine):  # `isinstance` with an ABC is slow
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
        """Close the coroutine object, if the job has one that has not started."""
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
