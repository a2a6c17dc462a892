"""`Job`: an async function with its arguments, or a coroutine object, as a job."""

from __future__ import annotations

import inspect
import re
import types
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, Unpack, cast

from . import _labels
from ._arguments import Arguments, DirectArguments, Search, direct_places
from ._checks import repeats
from ._jobs import AbstractJob, T
from ._options import NO_LIMITS, JobOptions
from ._outcomes import not_awaitable
from ._rules import release_inputs

FUNCTION: Final = types.FunctionType
ASYNC: Final = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE


class Job(AbstractJob[T]):
    """An async callable with its arguments, or a coroutine object, as a job.

    A callable is called at each start, so such a job can run again. A coroutine object runs once; if it never runs,
    it is closed with its scheduler, by `close()`, or together with the job.
    One that refers to its own job or scheduler, by an argument, is not closed before `close()` if it never runs.

    Args:
        function: an async function; a lambda, partial or callable object that returns an awaitable; or a coroutine
            object, for which there are no further arguments.
        args: positional arguments of the call. A job among them, or at any depth in plain lists, tuples and values of
            dicts, is a dependency: its result is filled in at the start. `ref(job)` hands over the job itself.
        kwargs: keyword arguments of the call, jobs among them as well.
        options: those of every job; see `AbstractJob`.

    Raises:
        TypeError: a plain function (`ThreadJob` runs those), something not callable, or arguments for a coroutine.
        ValueError: an option out of its range.

    Example:
        >>> async def double(number):
        ...     return 2 * number
        >>> job = Job(double, 21, label="twice")
        >>> Scheduler(job).run()
        True
        >>> job.result()
        42

    """

    __slots__ = ("_args", "_function")
    _called_in_frame = True

    # Called at each start; or the coroutine object, and None once that has been started.
    _function: Any
    _args: tuple[Any, ...] | Arguments  # of the call; of a coroutine object, its finalizer alone

    def __init__(
        self,
        function: Callable[..., Awaitable[T]] | Coroutine[Any, Any, T],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        plain = type(function) is FUNCTION and function.__code__.co_flags & ASYNC
        if not plain:
            check_function(function, has_arguments=bool(args or kwargs))
        self._function = function
        self._args = args
        if args or kwargs:
            places = None if kwargs else direct_places(args)
            if places is None:
                search = Search(repr(options.get("label") or self._default_label()))
                self._args = search.positional(args)
                if kwargs:
                    self._function = search.keywords(cast(Any, function), kwargs)
                options["_inputs"] = tuple(search.inputs)  # type: ignore[typeddict-unknown-key]
            elif places:
                self._args = direct = DirectArguments(args, places)
                options["_inputs"] = direct.inputs()  # type: ignore[typeddict-unknown-key]
        try:
            # As super() would, in less time.
            AbstractJob.__init__(self, **options)  # pyright: ignore[reportUnknownMemberType]
        except TypeError as error:
            raise _with_advice(error, self._default_label()) from None
        if self._rule is not None and self._rule.frees:
            self._limits = self._limits or NO_LIMITS  # `co_run` gives results up as soon as the call has them
        if not plain and isinstance(function, Coroutine):
            self._label = self.label  # made while the function's name is still known
            self._limits = self._limits or NO_LIMITS
            # Not by __del__, which comes too late in a reference cycle: see the traps in docs/design.md.
            self._args = (weakref.finalize(self, function.close),)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Have a subclass's own `co_run` called."""
        super().__init_subclass__(**kwargs)
        cls._called_in_frame = cast(Any, cls).co_run is cast(Any, Job).co_run

    async def co_run(self) -> T:
        """Call the function, or take up the coroutine, and await it."""
        function: object = self._function
        if isinstance(function, Coroutine):
            coroutine = cast("Coroutine[Any, Any, T]", function)
            self._let_go()
            return await coroutine
        awaitable = self._function(*self._args)
        if self._rule is not None and self._rule.frees and not repeats(self):
            release_inputs(self, self._rule)
        if not inspect.isawaitable(awaitable):
            raise TypeError(not_awaitable(self.label, awaitable))
        return cast(T, await awaitable)

    def close(self) -> None:
        """Close the coroutine object, if the job has one that never ran."""
        if self._is_one_shot() and not self._is_spent() and not self.is_running():
            self._function.close()
            self._let_go()

    def _let_go(self) -> None:
        """Forget the coroutine, which is run or closed now; one that is closed may hold its arguments still (3.12)."""
        (finalizer,) = cast("tuple[Any, ...]", self._args)
        finalizer.detach()
        self._function = None
        self._args = ()

    def _is_one_shot(self) -> bool:
        return self._function is None or isinstance(self._function, Coroutine)

    def _is_spent(self) -> bool:
        return self._function is None

    def _default_label(self) -> str:
        return _labels.of_function(type(self).__name__, self._function)


def _with_advice(error: TypeError, label: str) -> TypeError:
    """Return the error that tells of an unknown option, in the words of somebody who meant it for the function."""
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if unknown is None:
        return error
    name = unknown[1]
    return TypeError(
        f"{label!r}: a job has no option {name!r}; if the function is to get it, write kwargs={{{name!r}: ...}}; "
        f"the options are {', '.join(JobOptions.__annotations__)}"
    )


def check_function(function: Any, has_arguments: bool = True) -> None:
    """Refuse what no `Job` can be made of.

    Raises:
        TypeError: it is neither an async callable nor, without arguments, a coroutine object.

    """
    if isinstance(function, Coroutine):
        if has_arguments:
            raise TypeError(f"Job({function!r}, ...): a coroutine object takes no further arguments")
        return
    name = getattr(function, "__qualname__", repr(function))
    if inspect.isasyncgenfunction(function):
        raise TypeError(f"Job({name}): this is an async generator function; give an async function without yield")
    if hasattr(cast(Any, type(function)), "_builds_jobs"):
        raise TypeError(f"Job({name}): it is decorated with @job already: call it, {name}(...), to build the job")
    if not callable(function):
        raise TypeError(f"Job({function!r}): give an async function and its arguments, or a coroutine object")
    plain = inspect.unwrap(function) if inspect.isroutine(function) else function
    if isinstance(function, type) or (
        inspect.isroutine(plain) and not inspect.iscoroutinefunction(plain) and plain.__name__ != "<lambda>"
    ):
        raise TypeError(
            f"Job({name}): this is not an async function; define it with async def, "
            f"or run it in a thread: ThreadJob({getattr(function, '__name__', name)}, ...)"
        )
