"""The requirements of a job: how they are stored, shown to users, and read from users' arguments."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..base._text_forms import short_repr

if TYPE_CHECKING:
    from ..scheduler._sequence import Sequence as JobSequence
    from ._job import AbstractJob

    Required: TypeAlias = "AbstractJob[Any] | JobSequence | Iterable[Required] | None"
    """The type of a user's requirements: a job, a Sequence, None, or a collection of these."""
    StoredRequirements: TypeAlias = "tuple[AbstractJob[Any], ...] | dict[AbstractJob[Any], int]"
    """The type in which a job's requirements are stored. A dict has the flags of each; in a tuple, none has any."""

SETTLED_ONLY: Final = 1
"""The flag of `requires(..., settled=True)`."""
ORDER_ONLY: Final = 2
"""The flag of `requires(..., order_only=True)`. Flags are plain integers, because an `IntFlag` is ten times as slow."""
MANY_REQUIREMENTS: Final = 16
"""From this number on, a job's requirements are in a dict. A tuple takes less memory, but is slower to search."""


class Requirements(AbstractSet[Any]):
    """A read-only view of a job's requirements, in the order in which they were added."""

    __slots__ = ("_job",)

    def __init__(self, job: AbstractJob[Any]) -> None:
        self._job = job

    def __contains__(self, job: object) -> bool:
        return job in self._job._required

    def __iter__(self) -> Iterator[AbstractJob[Any]]:
        return iter(tuple(self._job._required))

    def __len__(self) -> int:
        return len(self._job._required)

    def __repr__(self) -> str:
        return "{" + ", ".join(map(repr, self)) + "}"

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> set[Any]:
        return set(it)  # `&`, `|` and `-` return plain sets


SIMPLE: Final = (list, tuple)


def flatten_simple(value: Any, state_of: Callable[[Any], Any]) -> tuple[Any, ...] | None:
    """Return the jobs if `value` is a job, or a list or tuple of jobs; otherwise None.

    This is several times as fast as `flatten`, which accepts all other forms.

    Args:
        value: the user's value.
        state_of: returns the state of a job; raises for any other object, and for a job that is not initialized.

    """
    jobs: Any = value if type(value) in SIMPLE else (value,)
    if len(jobs) == 1 and type(jobs[0]) is list:
        jobs = jobs[0]
    try:
        for _ in map(state_of, jobs):
            pass
    except (TypeError, AttributeError):
        return None
    return tuple(jobs) if len(jobs) < 2 else tuple(dict.fromkeys(jobs))


def flatten(values: Iterable[Any], purpose: str, method: str) -> Iterator[AbstractJob[Any]]:
    """Yield the jobs in `values`, in order. Each value is a job, a Sequence, None, or a collection of values.

    Args:
        values: the user's values.
        purpose: the call that takes the values, for errors.
        method: "_all_jobs" if a Sequence stands for all of its jobs; "_last_jobs" if it stands for its last job.

    Raises:
        TypeError: a value is none of these.

    """
    stack: list[Iterator[Any]] = [iter(values)]
    while stack:
        value: Any
        for value in stack[-1]:
            if value is None:
                continue
            expand = getattr(type(value), method, None)  # pyright: ignore[reportUnknownArgumentType]
            if expand is not None:
                if not (hasattr(value, "_state") or hasattr(value, "jobs")):
                    raise TypeError(f"{purpose}: {type(value).__name__}.__init__ must call super().__init__()")
                yield from expand(value)
            elif _is_collection(value):
                stack.append(iter(value))
                break
            else:
                raise TypeError(f"{purpose}: {short_repr(value)} is not a job: {_advice(value)}")
        else:
            stack.pop()


def _advice(value: object) -> str:
    name = getattr(value, "__name__", None)
    if hasattr(type(value), "_builds_jobs"):
        return f"call it, {name}(...), to build a job"
    if issubclass(type(value), Coroutine):
        return f"write Job({name}(...))"
    if callable(value) and name:
        return f"write Job({name}, ...) for an async function, and ThreadJob({name}, ...) for a plain one"
    return "give jobs, Sequences, None, or collections of these"


def _is_collection(value: object) -> bool:
    return issubclass(type(value), Iterable) and not isinstance(value, (str, bytes))


def flagged(required: StoredRequirements, flag: int) -> list[AbstractJob[Any]]:
    """Return those requirements that have a flag."""
    return [job for job, flags in required.items() if flags & flag] if isinstance(required, dict) else []


def add_flags(required: StoredRequirements, jobs: Iterable[AbstractJob[Any]], flags: int) -> StoredRequirements:
    """Return the requirements `required`, of which `jobs` have these flags, too."""
    known = required if isinstance(required, dict) else dict.fromkeys(required, 0)
    return {**known, **{job: known[job] | flags for job in jobs}}


def extend_requirements(required: StoredRequirements, new: Sequence[AbstractJob[Any]]) -> StoredRequirements:
    """Return the requirements `required` followed by `new`, in a tuple or a dict; a dict is extended in place."""
    if isinstance(required, dict):
        required.update(dict.fromkeys(new, 0))
        return required
    extended = (*required, *new) if required else tuple(new)  # `tuple` returns a tuple unchanged
    return extended if len(extended) < MANY_REQUIREMENTS else dict.fromkeys(extended, 0)
