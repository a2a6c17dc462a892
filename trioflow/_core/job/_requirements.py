"""The requirements of one job: their storage, the users' view, and their extraction from users' arguments."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Final

from ..base._reprs import short_repr

if TYPE_CHECKING:
    from typing import TypeAlias

    from ..scheduler._sequence import Sequence as JobSequence
    from ._job import AbstractJob

    Required: TypeAlias = "AbstractJob[Any] | JobSequence | Iterable[Required] | None"
    """Requirements as users give them: jobs, Sequences, None, or collections of these."""

MANY_REQUIREMENTS: Final = 16
"""From this number on, requirements are kept in a dict. A tuple takes a quarter of the memory; its search is slow."""


class Requirements(AbstractSet[Any]):
    """A read-only view of a job's requirements, in the order in which they were added."""

    __slots__ = ("_job",)

    def __init__(self, job: AbstractJob[Any]) -> None:
        self._job = job

    def __contains__(self, job: object) -> bool:
        """Return whether `job` is required."""
        return job in self._job._required

    def __iter__(self) -> Iterator[AbstractJob[Any]]:
        """Iterate in the order in which they were added."""
        return iter(tuple(self._job._required))

    def __len__(self) -> int:
        """Return the number of requirements."""
        return len(self._job._required)

    def __repr__(self) -> str:
        """Show them as a set."""
        return "{" + ", ".join(map(repr, self)) + "}"

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> set[Any]:
        return set(it)  # the result of &, | and -


def flatten_simple(value: Any, state_of: Callable[[Any], Any]) -> tuple[Any, ...] | None:
    """Return the jobs in the common cases of one job, or of one list or tuple of jobs; None if `flatten` is needed.

    This is several times as fast as `flatten`.

    Args:
        value: the user's value.
        state_of: returns the state of a job. It raises for anything else, and for a job that is not initialised.

    """
    things: Any = value if value.__class__ is list or value.__class__ is tuple else (value,)
    if len(things) == 1 and things[0].__class__ is list:
        things = things[0]
    try:
        for _ in map(state_of, things):
            pass
    except (TypeError, AttributeError):
        return None
    return tuple(things) if len(things) < 2 else tuple(dict.fromkeys(things))


def flatten(things: Iterable[Any], purpose: str, method: str) -> Iterator[AbstractJob[Any]]:
    """Yield the jobs in `things`, in order: jobs, Sequences, None, and collections of these at any depth.

    Args:
        things: the user's values.
        purpose: their use, for errors.
        method: "_all_jobs" if a Sequence means all of its jobs; "_last_jobs" if it means its last job.

    Raises:
        TypeError: something is none of these.

    """
    stack: list[Iterator[Any]] = [iter(things)]
    while stack:
        thing: Any
        for thing in stack[-1]:
            if thing is None:
                continue
            expand = getattr(thing.__class__, method, None)
            if expand is not None:
                _check_initialised(thing, purpose)
                yield from expand(thing)
            elif _is_collection(thing):
                stack.append(iter(thing))
                break
            else:
                raise TypeError(f"{purpose}: {short_repr(thing)} is not a job: {_advice(thing)}")
        else:
            stack.pop()


def _advice(thing: object) -> str:
    name = getattr(thing, "__name__", None)
    if hasattr(type(thing), "_builds_jobs"):
        return f"call it, {name}(...), to build a job"
    if isinstance(thing, Coroutine):
        return f"write Job({name}(...))"
    if callable(thing) and name:
        return f"write Job({name}, ...) for an async function, and ThreadJob({name}, ...) for a plain one"
    return "give jobs, Sequences, None, or collections of these"


def _check_initialised(thing: object, purpose: str) -> None:
    if not (hasattr(thing, "_state") or hasattr(thing, "jobs")):
        raise TypeError(f"{purpose}: {type(thing).__name__}.__init__ must call super().__init__()")


def _is_collection(thing: object) -> bool:
    return isinstance(thing, Iterable) and not isinstance(thing, (str, bytes))


def extend_requirements(
    required: tuple[AbstractJob[Any], ...] | dict[AbstractJob[Any], None], new: Sequence[AbstractJob[Any]]
) -> tuple[AbstractJob[Any], ...] | dict[AbstractJob[Any], None]:
    """Return `required` followed by `new`; a dict is extended in place."""
    if isinstance(required, dict):
        required.update(dict.fromkeys(new))
        return required
    together = (*required, *new) if required else tuple(new)  # `tuple` returns a tuple itself
    return together if len(together) < MANY_REQUIREMENTS else dict.fromkeys(together)
