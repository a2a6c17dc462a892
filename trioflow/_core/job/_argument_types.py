"""Static types for the functions that jobs call and for the arguments passed to them, each a value or a job.

The type of a parameter must be inferred from the function alone, so that the argument is then checked against it. mypy
infers type variables in two passes. Arguments whose declared type contains a `Callable` with type variables belong to
the second pass, when the results of the first pass are fixed. So the function is declared as a Protocol, which belongs
to the first pass. The `tuple[Callable[[], A]]` in `ValueOrJob` serves only to move the argument to the second pass.
Otherwise mypy would infer `Job[Any] | Any` as the type of a parameter, and reject the function.

A function of a single iterable has an overload of its own, with `Iterable[Any]`. Its items are not checked, because
mypy cannot infer their type for `sorted`, for example.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence, ValuesView
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    # The default lets a bare `AbstractJob`, or `ThreadJob`, stand for a job with any result.
    T = TypeVarWithDefault("T", default=Any)
else:
    T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
T_co = TypeVar("T_co", covariant=True)
A_contra = TypeVar("A_contra", contravariant=True)
B_contra = TypeVar("B_contra", contravariant=True)
C_contra = TypeVar("C_contra", contravariant=True)


class JobOf(Protocol[T_co]):
    """A job that stands in place of its result. It is a Protocol, because `AbstractJob` is invariant in the result."""

    def result(self) -> T_co: ...

    async def wait_settled(self) -> None:
        """Wait until the job has settled."""


JobContainer: TypeAlias = (
    "Sequence[JobOf[Any]] | Mapping[Any, JobOf[Any]] | ValuesView[JobOf[Any]]"
)
"""A sequence, mapping or view of jobs. Users annotate a mixed or nested container as `list[Any]`. A recursive type for
nested containers would match each string, because a string is a sequence of strings."""
ValueOrJob: TypeAlias = "A | JobOf[A] | JobContainer | tuple[Callable[[], A]]"
"""An argument for a parameter of the type `A`: a value, a job with such a result, or a container of jobs."""
JobOr: TypeAlias = "A | JobOf[A] | JobContainer"
"""The same where `A` is known before: without the member that only moves the argument to the second pass."""


# Type checkers show the names of these Protocols in errors. They give advice: for a plain function, use `ThreadJob`.


class AsyncOrThreadFunction1(Protocol[A_contra, T_co]):
    def __call__(self, a: A_contra, /) -> Awaitable[T_co]: ...


class AsyncOrThreadFunction2(Protocol[A_contra, B_contra, T_co]):
    def __call__(self, a: A_contra, b: B_contra, /) -> Awaitable[T_co]: ...


class AsyncOrThreadFunction3(Protocol[A_contra, B_contra, C_contra, T_co]):
    def __call__(self, a: A_contra, b: B_contra, c: C_contra, /) -> Awaitable[T_co]: ...


class PlainFunction1(Protocol[A_contra, T_co]):
    def __call__(self, a: A_contra, /) -> T_co: ...


class PlainFunction2(Protocol[A_contra, B_contra, T_co]):
    def __call__(self, a: A_contra, b: B_contra, /) -> T_co: ...


class PlainFunction3(Protocol[A_contra, B_contra, C_contra, T_co]):
    def __call__(self, a: A_contra, b: B_contra, c: C_contra, /) -> T_co: ...
