"""The types of a job's arguments, for type checkers: a value, a job with such a result, a container.

A parameter's type has to come from only the function, and the argument is then compared with it. mypy infers type
variables in two passes: arguments whose declared type contains a `Callable` with type variables belong to the second,
and the results of the first are fixed by then. So the function is declared as a Protocol, which belongs to the first
pass, and `Given` contains a `Callable`, which accepts nothing that `tuple[Any, ...]` does not. Otherwise mypy would
infer that the parameter of a function takes a `Job[Any] | Any`, and reject the function.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
E = TypeVar("E")
G = TypeVar("G")
T_co = TypeVar("T_co", covariant=True)
A_contra = TypeVar("A_contra", contravariant=True)
B_contra = TypeVar("B_contra", contravariant=True)
C_contra = TypeVar("C_contra", contravariant=True)
E_contra = TypeVar("E_contra", contravariant=True)
G_contra = TypeVar("G_contra", contravariant=True)


class GivenJob(Protocol[T_co]):
    """A job as an argument, in place of its result. It is a Protocol because `AbstractJob` is invariant."""

    def result(self) -> T_co:
        """Return the result."""
        ...

    async def wait_settled(self) -> None:
        """Wait until it has settled."""


JobsInside: TypeAlias = "Sequence[GivenJob[Any]] | Mapping[Any, GivenJob[Any]]"
"""A container of jobs. One of jobs and values, or a deeper one, is declared by its user, as `list[Any]`.

Without a limit of depth each string would match, as a sequence of sequences.
"""
Given: TypeAlias = "A | GivenJob[A] | JobsInside | tuple[Callable[[], A]]"
"""An argument for a parameter of this type."""


# Type checkers name these in errors: a plain function is for a `ThreadJob`.


class AsyncElseThreadJob1(Protocol[A_contra, T_co]):
    """An async function with one positional parameter."""

    def __call__(self, a: A_contra, /) -> Awaitable[T_co]:
        """Call it."""
        ...


class AsyncElseThreadJob2(Protocol[A_contra, B_contra, T_co]):
    """An async function with two positional parameters."""

    def __call__(self, a: A_contra, b: B_contra, /) -> Awaitable[T_co]:
        """Call it."""
        ...


class AsyncElseThreadJob3(Protocol[A_contra, B_contra, C_contra, T_co]):
    """An async function with three positional parameters."""

    def __call__(self, a: A_contra, b: B_contra, c: C_contra, /) -> Awaitable[T_co]:
        """Call it."""
        ...


class AsyncElseThreadJob4(Protocol[A_contra, B_contra, C_contra, E_contra, T_co]):
    """An async function with four positional parameters."""

    def __call__(self, a: A_contra, b: B_contra, c: C_contra, d: E_contra, /) -> Awaitable[T_co]:
        """Call it."""
        ...


class AsyncElseThreadJob5(Protocol[A_contra, B_contra, C_contra, E_contra, G_contra, T_co]):
    """An async function with five positional parameters."""

    def __call__(self, a: A_contra, b: B_contra, c: C_contra, d: E_contra, e: G_contra, /) -> Awaitable[T_co]:
        """Call it."""
        ...


class PlainFunction1(Protocol[A_contra, T_co]):
    """A function with one positional parameter."""

    def __call__(self, a: A_contra, /) -> T_co:
        """Call it."""
        ...


class PlainFunction2(Protocol[A_contra, B_contra, T_co]):
    """A function with two positional parameters."""

    def __call__(self, a: A_contra, b: B_contra, /) -> T_co:
        """Call it."""
        ...


class PlainFunction3(Protocol[A_contra, B_contra, C_contra, T_co]):
    """A function with three positional parameters."""

    def __call__(self, a: A_contra, b: B_contra, c: C_contra, /) -> T_co:
        """Call it."""
        ...


TakesIterable: TypeAlias = Callable[[Iterable[Any]], A]
"""A function of one iterable, whose items are not compared: mypy cannot infer them for generic ones, as `sorted`."""
