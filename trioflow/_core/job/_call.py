"""Jobs among arguments: found once, when a job is created, and replaced by their results when it starts.

Plain lists, tuples and the values of plain dicts are searched at any depth. A container without jobs is passed on as
the same object. A container with jobs is built anew at each start, with results in place of jobs. A container that
occurs twice is searched and built only once, and the new one then occurs twice. So all of this costs one walk through
the containers, whatever their depth, and however often they are shared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, cast

from ..base._shown import shown
from ._job import AbstractJob
from ._outcome import DROPPED

ValueOf = Callable[[AbstractJob[Any]], Any]

ATOMS: Final = frozenset({int, float, str, bytes, bool, type(None)})
PLAIN: Final = frozenset({list, tuple, dict})
SEARCHED: Final[Any] = (list, tuple, dict, set, frozenset)
"""Containers of these types are searched. If they are not plain, no result can be filled in, so a job is refused."""
UNFINISHED: Final = -1
"""Stands for the number of a container whose walk has not ended."""


class Ref:
    """A job that is passed as itself."""

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
        TypeError: it is not a job.

    Example:
        >>> async def label(job):
        ...     return job.label
        >>> other = Job(label, None, label="other")
        >>> asking = Job(label, ref(other))
        >>> len(asking.required)
        0

    """
    if not isinstance(job, AbstractJob):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"ref({shown(job)}): give a job")
    return Ref(job)


class Step:
    """How to build one container: copy it, and put in results and the containers that earlier steps have built."""

    __slots__ = ("_made", "_makes_tuple", "_results", "template")

    def __init__(self, walk: Walk) -> None:
        self._makes_tuple = walk.kind is tuple
        self.template: Any = (dict if walk.kind is dict else list)(walk.container)
        for key, job in walk.refs:
            self.template[key] = job
        self._results = tuple(walk.results)
        self._made = tuple(walk.made)

    def build_with(self, made: list[Any], value_of: ValueOf) -> Any:
        """Return the container with something else in place of each result."""
        container = self.template.copy()
        for key, job in self._results:
            container[key] = value_of(job)
        for key, number in self._made:
            container[key] = made[number]
        return tuple(container) if self._makes_tuple else container

    def build(self, made: list[Any]) -> Any:
        """Return the container; `made` holds those that the earlier steps have built."""
        container = self.template.copy()
        for key, job in self._results:
            outcome = job._outcome
            # `result()` raises if the result was dropped, or if a service has failed since it was ready; or fetches it
            container[key] = job.result() if outcome is DROPPED or job._result_is_asked_for else outcome
        for key, number in self._made:
            container[key] = made[number]
        return tuple(container) if self._makes_tuple else container


class Recipe:
    """How to build the arguments of a call: steps that may use what earlier ones built; the last one builds it all."""

    __slots__ = ("_last", "_parts")

    def __init__(self, steps: list[Step]) -> None:
        *self._parts, self._last = steps

    def as_given(self) -> Any:
        """Return the whole as the user gave it, with the jobs in their places; references are the jobs themselves."""
        return self._last.template

    def build_with(self, value_of: ValueOf) -> Any:
        """Return the whole container with something else in place of each result."""
        made: list[Any] = []
        for step in self._parts:
            made.append(step.build_with(made, value_of))
        return self._last.build_with(made, value_of)

    def build(self) -> Any:
        """Return the whole container."""
        made: list[Any] = []
        for step in self._parts:
            made.append(step.build(made))
        return self._last.build(made)


class Arguments:
    """Positional arguments with jobs among them; to iterate over them gives the results in place of the jobs."""

    __slots__ = ("_recipe",)

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def as_given(self) -> Iterable[Any]:
        """Return the arguments with the jobs among them."""
        return cast("list[Any]", self._recipe.as_given())

    def __iter__(self) -> Iterator[Any]:
        """Yield the arguments of a call."""
        return iter(self._recipe.build())

    def with_inputs(self, value_of: ValueOf) -> tuple[Any, ...]:
        """Return the arguments with `value_of(job)` in place of the result of each job."""
        whole: tuple[Any, ...] = self._recipe.build_with(value_of)
        return whole


class DirectArguments:
    """The same as `Arguments`, but faster, for the usual case: jobs are arguments themselves, not in containers.

    None of the jobs is a service, is of a kind with a `result()` of its own, or has `keep_result=False`: if there is
    such a job, `Arguments` is used.
    """

    __slots__ = ("_places", "_values")

    def __init__(self, values: tuple[Any, ...], places: tuple[int, ...]) -> None:
        self._values = values
        self._places = places

    def as_given(self) -> Iterable[Any]:
        """Return the arguments with the jobs among them."""
        return self._values

    def __iter__(self) -> Iterator[Any]:
        """Yield the arguments of a call."""
        values = [*self._values]
        for place in self._places:
            values[place] = values[place]._outcome
        return iter(values)

    def with_inputs(self, value_of: ValueOf) -> tuple[Any, ...]:
        """Return the arguments with `value_of(job)` in place of the result of each job."""
        values = [*self._values]
        for place in self._places:
            values[place] = value_of(values[place])
        return tuple(values)

    def inputs(self) -> tuple[AbstractJob[Any], ...]:
        """Return the jobs, each once, in argument order."""
        jobs = tuple([self._values[place] for place in self._places])
        return jobs if len(jobs) == 1 else tuple(dict.fromkeys(jobs))


def direct_places(values: tuple[Any, ...]) -> tuple[int, ...] | None:
    """Return the indices of the jobs among `values`; None if the arguments have to be searched."""
    places: list[int] = []
    for place, value in enumerate(values):
        kind = cast(Any, type(value))
        if kind in ATOMS:
            continue
        if isinstance(value, AbstractJob):
            if value._result_is_asked_for or (value._rule is not None and not value._rule.keep_result):
                return None
            if not value._is_passed_as_it_is:
                places.append(place)
        elif kind is Ref or isinstance(value, SEARCHED):
            return None
    return tuple(places)


def as_given(arguments: Iterable[Any]) -> Iterable[Any]:
    """Return arguments with the jobs among them: those of a search, which may have found none."""
    return arguments if isinstance(arguments, tuple) else cast("Arguments | DirectArguments", arguments).as_given()


class Call:
    """A function with keyword arguments; when it is called, jobs among them are replaced by their results."""

    __slots__ = ("_recipe", "_values", "func")

    def __init__(self, function: Callable[..., Any], values: dict[str, Any], recipe: Recipe | None) -> None:
        self.func: Final = function  # the name that `functools.partial` uses
        self._values = values
        self._recipe = recipe

    def as_given(self) -> dict[str, Any]:
        """Return the keyword arguments with the jobs among them."""
        return self._values

    def filled(self) -> dict[str, Any]:
        """Return the keyword arguments for a call."""
        return self._values if self._recipe is None else self._recipe.build()

    def with_inputs(self, value_of: ValueOf) -> dict[str, Any]:
        """Return the keyword arguments with `value_of(job)` in place of the result of each job."""
        return self._values if self._recipe is None else self._recipe.build_with(value_of)

    def __call__(self, /, *args: Any, **more: Any) -> Any:
        """Call the function with these arguments and the bound ones."""
        return self.func(*args, **self.filled(), **more)


class Walk:
    """A walk through one container, which stops at each container inside, and what it has found so far."""

    __slots__ = ("container", "items", "key", "kind", "made", "refs", "results")

    def __init__(self, container: Any) -> None:
        self.container: Final[Any] = container
        self.kind: Final[Any] = type(container)
        pairs: Any = container.items() if self.kind is dict else enumerate(container)
        self.items: Final[Iterator[Any]] = iter(pairs)
        self.key: Any = None  # the key of the inner container at which it has stopped
        self.refs: Final[list[tuple[Any, AbstractJob[Any]]]] = []
        self.results: Final[list[tuple[Any, AbstractJob[Any]]]] = []
        self.made: Final[list[tuple[Any, int]]] = []  # the keys of inner containers, and the numbers of their steps

    def has_found(self) -> bool:
        """Return whether the container has to be built anew."""
        return bool(self.refs or self.results or self.made)


class Search:
    """The search for jobs among the arguments of one job. It walks through each container once, without recursion."""

    __slots__ = ("_who", "inputs")

    def __init__(self, who: Callable[[], str]) -> None:
        self._who = who  # returns the label of the job
        self.inputs: Final[dict[AbstractJob[Any], None]] = {}  # in argument order

    def positional(self, values: tuple[Any, ...]) -> tuple[Any, ...] | Arguments:
        """Return the arguments; the same object, if there is no job among them."""
        recipe = self._recipe(values)
        return values if recipe is None else Arguments(recipe)

    def keywords(self, function: Callable[..., Any], values: Mapping[str, Any]) -> Call:
        """Return the function with its keyword arguments bound.

        Raises:
            TypeError: they are not a dict of names and values; the error shows no value, because it may be secret.

        """
        if not isinstance(values, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            found = type(values).__name__
            raise TypeError(f"kwargs of {self._who()}: found {found}; give a dict of names and values")
        for name in values:
            if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"kwargs of {self._who()}: the name {name!r} is not a string")
        plain = dict(values)
        return Call(function, plain, self._recipe(plain))

    def _recipe(self, whole: Any) -> Recipe | None:
        """Return how to build the arguments; None if there is no job in them."""
        steps: list[Step] = []
        numbers: dict[int, int | None] = {}  # the number of the step of each container (by id), if it has one
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
        """Go on to the next inner container and return it; None at the end."""
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
            f"an argument of {self._who()} contains itself, so the search for jobs in it would never end: "
            f"a {type(container).__name__} with {len(container)} items; pass it inside an object of your own"
        )

    def _refuse_hidden(self, value: Any, where: str) -> None:
        """Refuse a job, at any depth, in an object in which it cannot be replaced by its result."""
        todo: list[Any] = [value]
        met: set[int] = set()
        while todo:
            one = todo.pop()
            if isinstance(one, (AbstractJob, Ref)):
                label = one.job.label if isinstance(one, Ref) else one.label  # pyright: ignore[reportUnknownMemberType]
                raise TypeError(
                    f"{label!r} is {where} among the arguments of {self._who()}: a result cannot be filled in there; "
                    f"pass it in a plain list or tuple, or as a value of a plain dict"
                )
            if isinstance(one, SEARCHED) and id(one) not in met:
                met.add(id(one))
                todo += [*one, *one.values()] if isinstance(one, dict) else one
