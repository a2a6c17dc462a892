"""What may be given as an argument of a job, for type checkers alone: a value, a job with such a result, a container.

A parameter's type is to come from the function alone, and the argument is then compared with it. mypy infers type
variables in two passes: the arguments whose declared type contains a `Callable` with type variables belong to the
second, and what the first has found is fixed by then. So the function is declared as a Protocol, which belongs to the
first pass, and `Given` has a `Callable` inside, which accepts nothing that `tuple[Any, ...]` does not. Otherwise mypy
would infer that the parameter of a function takes a `Job[Any] | Any`, and refuse the function for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
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


Container: TypeAlias = "list[Any] | tuple[Any, ...] | dict[Any, Any]"
"""A container that may hold jobs."""
Given: TypeAlias = "A | GivenJob[A] | Container | tuple[Callable[[], A]]"
"""What may be given for a parameter of this type."""


class Function1(Protocol[A_contra, T_co]):
    """An async function with one positional parameter."""

    def __call__(self, a: A_contra, /) -> Awaitable[T_co]:
        """Call it."""
        ...


class Function2(Protocol[A_contra, B_contra, T_co]):
    """An async function with two positional parameters."""

    def __call__(self, a: A_contra, b: B_contra, /) -> Awaitable[T_co]:
        """Call it."""
        ...


class Function3(Protocol[A_contra, B_contra, C_contra, T_co]):
    """An async function with three positional parameters."""

    def __call__(self, a: A_contra, b: B_contra, c: C_contra, /) -> Awaitable[T_co]:
        """Call it."""
        ...


class Function4(Protocol[A_contra, B_contra, C_contra, E_contra, T_co]):
    """An async function with four positional parameters."""

    def __call__(self, a: A_contra, b: B_contra, c: C_contra, d: E_contra, /) -> Awaitable[T_co]:
        """Call it."""
        ...


class Function5(Protocol[A_contra, B_contra, C_contra, E_contra, G_contra, T_co]):
    """An async function with five positional parameters."""

    def __call__(self, a: A_contra, b: B_contra, c: C_contra, d: E_contra, e: G_contra, /) -> Awaitable[T_co]:
        """Call it."""
        ...
