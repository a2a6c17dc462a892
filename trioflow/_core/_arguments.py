"""Jobs inside arguments: found once, when a job is made, and filled in when it starts.

Plain lists, tuples and the values of plain dicts are searched at any depth. A container without jobs is passed on as
the same object; one with jobs is built anew at each start, with the results in the places of the jobs. What stands in
two places is built once, and so stands in both again: neither depth nor sharing costs more than a walk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

from ._jobs import AbstractJob
from ._outcomes import FREED

ATOMS: Final = frozenset({int, float, str, bytes, bool, type(None)})
PLAIN: Final = frozenset({list, tuple, dict})
SEARCHED: Final[Any] = (list, tuple, dict, set, frozenset)
"""In those of them that are not plain nothing can be filled in: a job there is refused."""
UNFINISHED: Final = -1
"""Stands for the number of a container that is being walked through."""


class Ref:
    """A job that is handed over as itself."""

    __slots__ = ("job",)

    def __init__(self, job: AbstractJob[Any]) -> None:
        """Hold `job`."""
        self.job: Final = job


def ref(job: AbstractJob[Any]) -> Any:
    """Let a job be an argument as itself: no dependency, and no result in its place.

    Args:
        job: the job that the function is to get.

    Returns:
        Something that stands for the job among the arguments of another.

    Raises:
        TypeError: not a job.

    Example:
        >>> async def label(job):
        ...     return job.label
        >>> other = Job(label, None, label="other")
        >>> asking = Job(label, ref(other))
        >>> len(asking.required)
        0

    """
    if not isinstance(job, AbstractJob):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"ref({job!r}): give a job")
    return Ref(job)


class Step:
    """How one container is made: a copy of it, into which results and other containers, made before, are put."""

    __slots__ = ("_made", "_makes_tuple", "_results", "_template")

    def __init__(self, walk: Walk) -> None:
        """Keep what a search has found."""
        self._makes_tuple = walk.kind is tuple
        self._template: Any = (dict if walk.kind is dict else list)(walk.container)
        for key, job in walk.refs:
            self._template[key] = job
        self._results = tuple(walk.results)
        self._made = tuple(walk.made)

    def build(self, made: list[Any]) -> Any:
        """Return the container; `made` are those of the steps before."""
        container = self._template.copy()
        for key, job in self._results:
            outcome = job._outcome
            # `result()` says that it is gone, or that a service has failed since those who use it were let go
            container[key] = job.result() if outcome is FREED or job._is_service else outcome
        for key, number in self._made:
            container[key] = made[number]
        return tuple(container) if self._makes_tuple else container


class Recipe:
    """How the arguments of a call are made: steps, each of which may use those before; the last makes the whole."""

    __slots__ = ("_last", "_parts")

    def __init__(self, steps: list[Step]) -> None:
        """Keep the steps."""
        *self._parts, self._last = steps

    def build(self) -> Any:
        """Return the whole."""
        made: list[Any] = []
        for step in self._parts:
            made.append(step.build(made))
        return self._last.build(made)


class Arguments:
    """Positional arguments with jobs among them; going through them gives the results in the jobs' places."""

    __slots__ = ("_recipe",)

    def __init__(self, recipe: Recipe) -> None:
        """Keep how they are made."""
        self._recipe = recipe

    def __iter__(self) -> Iterator[Any]:
        """Give the arguments of a call."""
        return iter(self._recipe.build())


class DirectArguments(Arguments):
    """The same where jobs stand among the arguments themselves, and in no container: the usual case, and the shortest.

    None of the jobs gives its result up, or is a service: arguments with such a job are searched through.
    """

    __slots__ = ("_places", "_values")

    def __init__(self, values: tuple[Any, ...], places: tuple[int, ...]) -> None:
        """Keep the arguments, and the places of the jobs among them."""
        self._values = values
        self._places = places

    def __iter__(self) -> Iterator[Any]:
        """Give the arguments of a call."""
        values = [*self._values]
        for place in self._places:
            values[place] = values[place]._outcome
        return iter(values)

    def inputs(self) -> tuple[AbstractJob[Any], ...]:
        """Return the jobs, each once, in argument order."""
        jobs = tuple([self._values[place] for place in self._places])
        return jobs if len(jobs) == 1 else tuple(dict.fromkeys(jobs))


def direct_places(values: tuple[Any, ...]) -> tuple[int, ...] | None:
    """Return the places of the jobs among `values`; None if the arguments have to be searched through."""
    places: list[int] = []
    for place, value in enumerate(values):
        kind = cast(Any, type(value))
        if kind in ATOMS:
            continue
        if isinstance(value, AbstractJob):
            if value._is_service or (value._rule is not None and not value._rule.keep_result):
                return None
            if not value._is_passed_as_it_is:
                places.append(place)
        elif kind is Ref or isinstance(value, SEARCHED):
            return None
    return tuple(places)


class Call:
    """A function with keyword arguments, jobs among them; calling it fills them in."""

    __slots__ = ("_recipe", "_values", "func")
    _is_call = True

    def __init__(self, function: Callable[..., Any], values: dict[str, Any], recipe: Recipe | None) -> None:
        """Keep the function as `func`, which is what partial calls it."""
        self.func: Final = function
        self._values = values
        self._recipe = recipe

    def filled(self) -> dict[str, Any]:
        """Return the keyword arguments of a call."""
        return self._values if self._recipe is None else self._recipe.build()

    def __call__(self, /, *args: Any, **more: Any) -> Any:
        """Call the function."""
        return self.func(*args, **self.filled(), **more)


class Walk:
    """The walk through one container, which stops at each container inside; and what it has found."""

    __slots__ = ("container", "items", "key", "kind", "made", "refs", "results")

    def __init__(self, container: Any) -> None:
        """Begin."""
        self.container: Final[Any] = container
        self.kind: Final[Any] = type(container)
        pairs: Any = container.items() if self.kind is dict else enumerate(container)
        self.items: Final[Iterator[Any]] = iter(pairs)
        self.key: Any = None  # of the container inside that it has stopped at
        self.refs: Final[list[tuple[Any, AbstractJob[Any]]]] = []
        self.results: Final[list[tuple[Any, AbstractJob[Any]]]] = []
        self.made: Final[list[tuple[Any, int]]] = []  # containers inside, by the number of their step

    def has_found(self) -> bool:
        """Tell whether the container must be made anew."""
        return bool(self.refs or self.results or self.made)


class Search:
    """The search for jobs in the arguments of one job. Each container is walked through once; no recursion."""

    __slots__ = ("_who", "inputs")

    def __init__(self, who: str) -> None:
        """Begin for the job called `who`."""
        self._who = who
        self.inputs: Final[dict[AbstractJob[Any], None]] = {}  # in argument order

    def positional(self, values: tuple[Any, ...]) -> tuple[Any, ...] | Arguments:
        """Return the arguments, the very same if there is no job among them."""
        recipe = self._recipe(values)
        return values if recipe is None else Arguments(recipe)

    def keywords(self, function: Callable[..., Any], values: Mapping[str, Any]) -> Call:
        """Return the function with its keyword arguments bound."""
        plain = dict(values)
        return Call(function, plain, self._recipe(plain))

    def _recipe(self, whole: Any) -> Recipe | None:
        """Return how to make the arguments; None if there is no job in them."""
        steps: list[Step] = []
        numbers: dict[int, int | None] = {}  # of the steps, by identity of containers; None if they hold no job
        stack = [Walk(whole)]
        while stack:
            walk = stack[-1]
            inside = self._go_on(walk)
            if inside is None:
                stack.pop()
                number = None
                if walk.has_found():
                    number = len(steps)
                    steps.append(Step(walk))
                numbers[id(walk.container)] = number
            elif id(inside) not in numbers:
                numbers[id(inside)] = UNFINISHED
                stack.append(Walk(inside))
                continue
            else:
                number = numbers[id(inside)]
                if number == UNFINISHED:
                    self._refuse_circle(inside)
            if stack and number is not None:
                stack[-1].made.append((stack[-1].key, number))
        return Recipe(steps) if steps else None

    def _go_on(self, walk: Walk) -> Any:
        """Walk on to the next container inside and return it; None at the end."""
        for key, value in walk.items:
            kind = cast(Any, type(value))
            if walk.kind is dict and type(key) not in ATOMS:
                self._refuse_hidden(key, "a key of a dict")
            if kind in ATOMS:
                continue
            if kind in PLAIN:
                walk.key = key
                return value
            if isinstance(value, AbstractJob):
                if not value._is_passed_as_it_is:
                    self.inputs[value] = None
                    walk.results.append((key, value))  # pyright: ignore[reportUnknownArgumentType]
            elif kind is Ref:
                walk.refs.append((key, value.job))
            elif isinstance(value, SEARCHED):
                self._refuse_hidden(value, f"in a {kind.__name__}")
        return None

    def _refuse_circle(self, container: Any) -> None:
        raise ValueError(
            f"an argument of {self._who} contains itself, so it could never be searched to its end: "
            f"a {type(container).__name__} with {len(container)} items; pass it inside an object of your own"
        )

    def _refuse_hidden(self, value: Any, where: str) -> None:
        """Refuse a job, at any depth, in something in which no result can be filled in."""
        todo: list[Any] = [value]
        met: set[int] = set()
        while todo:
            one = todo.pop()
            if isinstance(one, (AbstractJob, Ref)):
                label = one.job.label if isinstance(one, Ref) else one.label  # pyright: ignore[reportUnknownMemberType]
                raise TypeError(
                    f"{label!r} is {where} among the arguments of {self._who}: a result can't be filled in there; "
                    f"pass it in a plain list or tuple, or as a value of a plain dict"
                )
            if isinstance(one, SEARCHED) and id(one) not in met:
                met.add(id(one))
                todo += [*one, *one.values()] if isinstance(one, dict) else one
