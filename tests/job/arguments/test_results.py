"""Jobs as arguments: results flow to those that use them; what is searched, what is filled in, what is rejected."""

import builtins
import collections
import functools
import itertools
import types
from collections.abc import Callable
from typing import Any, NamedTuple
import anyio
import hypothesis
import hypothesis.strategies as st
import pytest
from trioflow import AbstractJob, Job, JobState, Scheduler, Service, ThreadJob, ref
from trioflow.testing import run_virtual
from ...bodies import add, at_once, fail_now, give
from ...conftest import Virtual


async def take(*args: Any, **kwargs: Any) -> Any:
    """Return what was given: the positional arguments, and the keyword ones if there are any."""
    return (args, kwargs) if kwargs else args


async def fresh(size: int = 1) -> list[int]:
    return [0] * size


def taken(virtual: Virtual, job: Job[Any]) -> Any:
    virtual(lambda: Scheduler(job).co_run(check=True))
    return job.result()


# --- what is filled in
def test_a_job_as_argument_gives_its_result(virtual: Virtual) -> None:
    """It becomes a requirement; other arguments reach the function as they are."""
    a, b = Job(give, "value"), Job(give, "other")
    job = Job(take, 1, a, kwargs={"x": b, "y": 2})
    assert list(job.required) == [a, b]
    assert taken(virtual, job) == ((1, "value"), {"x": "other", "y": 2})
    assert job.started_at == a.finished_at == 1


@hypothesis.settings(max_examples=30, derandomize=True)
@hypothesis.given(
    st.lists(
        st.sampled_from(["job", "other job", "scheduler", "atom", "object"]), max_size=6
    )
)
def test_jobs_as_direct_arguments_act_like_jobs_in_containers(kinds: list[str]) -> None:
    """Jobs that are arguments take a shorter path in the code than jobs in containers, with the same effect."""
    a, b, scheduler, something = (
        Job(give, 1, 0.1),
        Job(give, [2], 0.2),
        Scheduler(),
        object(),
    )
    values = {
        "job": a,
        "other job": b,
        "scheduler": ref(scheduler),
        "atom": 7,
        "object": something,
    }
    arguments = [values[kind] for kind in kinds]
    direct, searched = Job(take, *arguments), Job(take, *arguments, [])
    assert list(direct.required) == list(searched.required)
    run_virtual(lambda: Scheduler(direct, searched).co_run(check=True))
    assert (*direct.result(), []) == searched.result()
    assert all(
        one is other
        for one, other in zip(direct.result(), searched.result(), strict=False)
    )


def test_jobs_in_nested_lists_tuples_and_dicts_are_filled_in(virtual: Virtual) -> None:
    """Lists, tuples and dict values among the arguments are searched for jobs at any depth, and keep their types."""
    a, b, c = (Job(give, name) for name in "abc")
    job = Job(take, [a, (1, {"k": [b]})], kwargs={"x": {"deep": ({"er": (c,)},)}})
    assert list(job.required) == [a, b, c]
    assert taken(virtual, job) == (
        (["a", (1, {"k": ["b"]})],),
        {"x": {"deep": ({"er": ("c",)},)}},
    )


def test_containers_nested_deeper_than_the_recursion_limit_raise(
    virtual: Virtual,
) -> None:
    """Hundreds of lists inside each other are accepted as an argument; more than the recursion limit are rejected."""
    deep: Any = [Job(give, "bottom")]
    for _ in range(300):
        deep = [deep]
    found = taken(virtual, Job(take, deep))[0]
    for _ in range(300):
        (found,) = found
    assert found == ["bottom"]
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(
        ValueError,
        match=r"'take' is nested deeper than Python's recursion limit, \d+; wrap",
    ):
        Job(take, deep)


def test_dicts_keep_the_order_of_their_items(virtual: Virtual) -> None:
    job = Job(take, {"z": Job(give, 1), "a": 2, "m": Job(give, 3)})
    assert list(taken(virtual, job)[0].items()) == [("z", 1), ("a", 2), ("m", 3)]


@pytest.mark.parametrize(
    "value", [[1, [2]], (1, (2,)), {"a": {"b": 1}}, {1, 2}, frozenset("ab"), object()]
)
def test_an_argument_without_jobs_is_passed_as_the_same_object(
    virtual: Virtual, value: Any
) -> None:
    same, inside = taken(virtual, Job(take, value, [Job(give), value]))
    assert same is value
    assert inside[1] is value


def test_a_container_with_jobs_is_built_anew_at_each_start(virtual: Virtual) -> None:
    """Changes that a function makes to its argument, or the user to the original, do not reach the next start."""
    a = Job(give, 1)
    original = [a]

    async def change(values: list[Any]) -> list[Any]:
        values.append("changed")
        return values

    job = Job(change, original)
    original.append("later")
    scheduler = Scheduler(job)
    virtual(scheduler.co_run)
    first = job.result()
    virtual(scheduler.co_run)
    assert first == job.result() == [1, "changed"]
    assert job.result() is not first
    assert original == [a, "later"]


@pytest.mark.parametrize("kind", [Job, functools.partial])
@pytest.mark.parametrize("has_job", [False, True])
def test_what_becomes_of_dict_of_keyword_arguments_reaches_no_start(
    virtual: Virtual, kind: Any, has_job: bool
) -> None:
    """The arguments are those of the moment at which the job was made: a loop may fill the same dict again."""
    keywords: dict[str, Any] = {"a": Job(give, 1) if has_job else 1}
    job = (
        Job(take, kwargs=keywords)
        if kind is Job
        else Job(functools.partial(take, **keywords), kwargs=keywords)
    )
    keywords.update(a=2, b=3)
    assert taken(virtual, job) == ((), {"a": 1})


def test_each_attempt_gets_new_containers(virtual: Virtual) -> None:
    async def change(values: list[int]) -> list[int]:
        values.append(2)
        if job.attempts < 3:
            raise OSError
        return values

    job = Job(change, [Job(give, 1)], retry=2)
    assert taken(virtual, job) == [1, 2]
    assert job.attempts == 3


def test_a_job_in_several_arguments_runs_once_and_gives_the_same_result(
    virtual: Virtual,
) -> None:
    a = Job(fresh)
    job = Job(take, a, [a], kwargs={"x": a})
    assert list(job.required) == [a]
    (first, second), keywords = taken(virtual, job)
    assert first is second[0] is keywords["x"] is a.result()


def test_a_container_in_several_arguments_stays_the_same_object(
    virtual: Virtual,
) -> None:
    """A list that occurs twice among the arguments is still one and the same list after it is filled in."""
    shared = [Job(give, 1)]
    first, second = taken(virtual, Job(take, shared, {"again": shared}))
    assert first == [1]
    assert second["again"] is first


def test_containers_shared_at_every_level_are_searched_once_each(
    virtual: Virtual,
) -> None:
    """Sixty lists, each of which holds the next one twice, are searched in sixty steps, not in two to the sixtieth."""
    shared: Any = [Job(give, "bottom")]
    for _ in range(60):
        shared = [shared, shared]
    found = taken(virtual, Job(take, shared))[0]
    while len(found) == 2:
        assert found[0] is found[1]
        found = found[0]
    assert found == ["bottom"]


def test_a_result_of_none_is_passed(virtual: Virtual) -> None:
    assert taken(virtual, Job(take, Job(give, None), [Job(give, None)])) == (
        None,
        [None],
    )


def test_a_result_is_not_searched_for_jobs(virtual: Virtual) -> None:
    other = Job(give)
    assert taken(virtual, Job(take, Job(at_once, lambda: [other]))) == ([other],)


def test_each_run_passes_its_own_results(virtual: Virtual) -> None:
    a = Job(fresh)
    job = Job(take, a)
    scheduler = Scheduler(job)
    virtual(scheduler.co_run)
    first = job.result()[0]
    virtual(scheduler.co_run)
    assert job.result()[0] is a.result()
    assert job.result()[0] is not first


def test_results_flow_through_a_chain_of_jobs(virtual: Virtual) -> None:
    one = Job(give, 1)
    two = Job(add, one, one)
    assert taken(virtual, Job(add, two, Job(add, two, one))) == 5


# --- what is passed unchanged
def test_ref_passes_the_job_itself(virtual: Virtual) -> None:
    a, b = Job(give), Job(give, "b")
    job = Job(take, ref(a), [ref(a), b], kwargs={"x": {"y": ref(a)}})
    assert list(job.required) == [b]
    assert taken(virtual, job) == ((a, [a, "b"]), {"x": {"y": a}})
    assert a.scheduler is None


def test_ref_with_a_requirement_passes_a_failed_job(virtual: Virtual) -> None:
    async def look(other: AbstractJob[Any]) -> Any:
        return other.state, other.raised_exception()

    error = OSError("broken")
    a = Job(fail_now, error)
    job = Job(look, ref(a)).requires(a, settled=True)
    virtual(Scheduler(a, job).co_run)
    assert job.result() == (JobState.FAILED, error)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda group: group,
        lambda group: [{"a": group}],
        lambda group: functools.partial(str, group),
    ],
)
def test_a_scheduler_as_an_argument_raises(wrap: Callable[[Scheduler], Any]) -> None:
    """A scheduler was once passed as it is, and had not run: it has no result, so that `ref` must say what is meant."""
    group = Scheduler(Job(give), label="group")
    for make in (
        lambda: Job(take, wrap(group)),
        lambda: Job(take, kwargs={"a": wrap(group)}),
    ):
        with pytest.raises(
            TypeError,
            match=r"the scheduler 'group' is an argument of 'take', .* or ref\(scheduler\) to",
        ):
            make()
    with pytest.raises(TypeError, match="ref"):
        ThreadJob(functools.partial(repr, group))


def test_a_scheduler_is_passed_by_ref(virtual: Virtual) -> None:
    other = Scheduler(Job(give))
    job = Job(take, ref(other), [ref(other), Job(give, 1)])
    assert other not in job.required
    assert taken(virtual, job) == (other, [other, 1])
    assert other.scheduler is other.stop_reason is None


def test_a_job_may_add_jobs_to_a_scheduler_that_is_its_argument(
    virtual: Virtual,
) -> None:
    async def grow(scheduler: Scheduler) -> Job[Any]:
        return scheduler.add(Job(give, "new"))

    scheduler = Scheduler()
    job = scheduler.add(Job(grow, ref(scheduler)))
    virtual(scheduler.co_run)
    assert job.result().result() == "new"


@pytest.mark.parametrize(
    ("fill", "passed"),
    [
        (
            lambda job: collections.deque([1, job], maxlen=2),
            collections.deque([1, "r"], maxlen=2),
        ),
        (lambda job: {"a": job}.values(), ["r"]),
        (lambda job: {"a": [job]}.items(), [("a", ["r"])]),
        (lambda job: collections.UserDict(a=job).values(), ["r"]),
        (lambda job: collections.UserDict(a=job), collections.UserDict(a="r")),
        (lambda job: collections.UserList([job, 2]), collections.UserList(["r", 2])),
        (lambda job: collections.OrderedDict(a=job), collections.OrderedDict(a="r")),
        (
            lambda job: collections.defaultdict(list, a=[job]),
            collections.defaultdict(list, a=["r"]),
        ),
        (lambda job: types.MappingProxyType({"a": job}), {"a": "r"}),
        (
            lambda job: [{"x": collections.deque([(job,)])}],
            [{"x": collections.deque([("r",)])}],
        ),
    ],
    ids=[
        *(
            "deque",
            "values",
            "items",
            "values of a UserDict",
            "UserDict",
            "UserList",
            "OrderedDict",
            "defaultdict",
        ),
        *("proxy", "deep"),
    ],
)
def test_what_can_be_looked_into_is_filled_in(
    virtual: Virtual, fill: Any, passed: Any
) -> None:
    """A container gets results in place of the jobs in it and keeps its type; a view becomes a list."""
    value = fill(Job(give, "r"))
    direct, (nested,) = taken(virtual, Job(take, value, [value]))
    assert direct == nested == passed
    assert type(direct) is type(passed)


@pytest.mark.parametrize("kind", [Job, ThreadJob])
def test_the_arguments_of_a_partial_are_inputs(virtual: Virtual, kind: Any) -> None:
    function: Any = (
        take
        if kind is Job
        else lambda *args, **kwargs: (args, kwargs) if kwargs else args
    )
    called = functools.partial(function, Job(give, 1), x=[Job(give, 2)])
    job = kind(called, Job(give, 3), kwargs={"y": 4})
    assert taken(virtual, job) == ((1, 3), {"x": [2], "y": 4})
    plain = functools.partial(function, 1)
    assert taken(virtual, kind(plain, Job(give, 3))) == (1, 3)
    (given,) = taken(
        virtual, Job(take, functools.partial(int, Job(give, "11"), base=Job(give, 2)))
    )
    assert given() == 3


def kinds_of_containers() -> list[Any]:
    """Return the public types of the standard library's modules of containers and iterators."""
    modules = (builtins, collections, collections.abc, functools, itertools, types)
    kinds = {
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type)
    }
    return sorted(
        (kind for kind in kinds if kind.__name__[0] != "_"),
        key=lambda kind: kind.__qualname__,
    )


VIEWS: list[Any] = [
    lambda value: value,
    iter,
    reversed,
    dict.values,
    dict.items,
    dict.keys,
]


def test_no_function_gets_a_job_for_a_result() -> None:
    """Whatever container or iterator of Python's a job is in, the function gets its result, or an error says the cure.
    This tries each type with a job in it, in all ways in which it can be made."""
    job = Job(give, "r", label="hidden")
    ways = (
        [[job]],
        [{"a": job}],
        [{job: "a"}],
        [[("a", job)]],
        [str, [job]],
        [len, job],
        [[1], [job]],
        [job],
    )
    for kind, arguments, view in itertools.product(kinds_of_containers(), ways, VIEWS):
        try:
            value, items = (
                view(kind(*arguments)),
                [*itertools.islice(view(kind(*arguments)), 9)],
            )
        except Exception:  # this is no way to make it
            continue
        if isinstance(value, collections.ChainMap) and not isinstance(
            value.maps[0], dict
        ):
            continue
        try:
            is_input = job in Job(take, value).required
        except TypeError as error:
            assert any(cure in str(error) for cure in CURES), kind  # noqa: PT017
        else:
            assert is_input or all(
                job not in (item, *(item if type(item) is tuple else ()))
                for item in items
            ), kind


CURES = ("pass it in a plain list", "write list(...) around it", "give the job itself")


# --- rejected
def test_an_iterator_that_makes_its_items_later_raises() -> None:
    """Jobs in a generator or a `map` do not exist yet, so a search cannot find them: the error says what to write."""
    for lazy in ((Job(give, number) for number in range(3)), map(Job, [give])):
        for value in (lazy, [lazy], zip(lazy, [1], strict=False)):
            with pytest.raises(
                TypeError,
                match=r"an argument of 'mine' is a (generator|map), .*write list\(\.\.\.\)",
            ):
                Job(take, value, label="mine")


def test_an_argument_that_contains_itself_raises() -> None:
    around: list[Any] = []
    around.append({"deep": (around,)})
    with pytest.raises(ValueError, match=r"'mine' contains itself.*list"):
        Job(take, 1, around, label="mine")
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    with pytest.raises(ValueError, match=r"'take' contains itself.*dict"):
        Job(take, kwargs={"x": cycle})


class Pair(NamedTuple):
    left: Any
    right: Any


def test_a_cyclic_list_inside_a_namedtuple_is_passed_unchanged(
    virtual: Virtual,
) -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    pair = Pair(cycle, 1)
    job = Job(take, pair)
    assert virtual(Scheduler(job).co_run)
    assert job.result()[0] is pair


class MyList(list[Any]):
    pass


class MyDict(dict[Any, Any]):
    pass


@pytest.mark.parametrize(
    ("hide", "where"),
    [
        (lambda job: {job}, "a set"),
        (lambda job: frozenset([job]), "a frozenset"),
        (lambda job: {job: 1}, "a key of a dict"),
        (lambda job: {(1, (job,)): 1}, "a key of a dict"),
        (lambda job: Pair(1, job), "a Pair"),
        (lambda job: Pair(1, [{"x": job}]), "a Pair"),
        (lambda job: MyList([job]), "a MyList"),
        (lambda job: {(1, job)}, "a set"),
        (lambda job: MyDict(x=job), "a MyDict"),
        (lambda job: {job: 1}.keys(), "a dict_keys"),
        (lambda job: {job: 1}.items(), "a key of a dict"),
        (lambda job: iter([job]), "a list_iterator"),
        (lambda job: zip([1], itertools.chain([[job]]), strict=True), "a zip"),
    ],
    ids=[
        *(
            "set",
            "frozenset",
            "key",
            "in a key",
            "namedtuple",
            "deep",
            "list subclass",
            "in a set",
            "dict subclass",
        ),
        *("keys", "items", "iterator", "in an iterator"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda job: job, ref], ids=["job", "ref"])
@pytest.mark.parametrize("depth", [0, 1])
def test_a_job_inside_an_unsupported_container_raises(
    hide: Any, where: str, wrap: Any, depth: int
) -> None:
    """A job in a set, a key, a namedtuple, a subclass or an iterator raises a TypeError that advises a plain list."""
    hidden = hide(wrap(Job(give, label="hidden")))
    value = [{"x": hidden}] if depth else hidden
    with pytest.raises(
        TypeError,
        match=rf"'hidden' is (in )?{where} in the arguments of 'mine'.*plain list",
    ):
        Job(take, value, label="mine")
    with pytest.raises(TypeError, match=r"'hidden'.*'mine'"):
        Job(take, kwargs={"x": value}, label="mine")


def test_sets_and_container_subclasses_without_jobs_are_accepted(
    virtual: Virtual,
) -> None:
    values = (
        *(
            {1, (2, 3)},
            Pair(1, 2),
            MyList([1]),
            MyDict(x=1),
            {(1, 2): 3},
            collections.deque([1]),
            {1: 2}.values(),
        ),
        *(
            {1: 2}.items(),
            {1: 2}.keys(),
            collections.UserList([1]),
            functools.partial(int, 1),
            iter([1]),
        ),
        *(itertools.count(), zip([1], [2], strict=True), range(10**12)),
    )
    job = Job(take, *values)
    assert all(
        one is other for one, other in zip(taken(virtual, job), values, strict=True)
    )
    assert all(one is other for one, other in zip(job.result(), values, strict=True))


# --- other kinds of jobs
@pytest.mark.parametrize("kind", [Job, ThreadJob, Service])
def test_every_kind_of_job_rejects_jobs_inside_a_set(kind: Any) -> None:
    def function(*args: Any, **kwargs: Any) -> None: ...

    async def async_function(
        *args: Any, task_status: Any = None, **kwargs: Any
    ) -> None: ...

    called = function if kind is ThreadJob else async_function
    with pytest.raises(
        TypeError, match=r"'hidden' is in a set in the arguments of 'mine'"
    ):
        kind(called, {Job(give, label="hidden")}, label="mine")
    with pytest.raises(TypeError, match=rf"arguments of '{called.__name__}'"):
        kind(called, kwargs={"x": {Job(give)}})


def test_a_thread_job_is_called_with_results(backend: str) -> None:
    def add(numbers: list[int], *, last: int) -> int:
        return sum(numbers) + last

    one, two = Job(give, 1, 0), ThreadJob(int, "2")
    total = ThreadJob(add, [one, two], kwargs={"last": two}, label="total")
    after = Job(take, total)
    scheduler = Scheduler(after)
    assert list(total.required) == [one, two]
    assert list(scheduler) == [one, two, total, after]
    for _ in range(2):
        assert scheduler.run(backend=backend, check=True)  # type: ignore[arg-type]
        assert after.result() == (5,)
    assert (
        ThreadJob(add, [1], kwargs={"last": one}).label == "add([1], last=give(1, 0))"
    )


def test_a_service_is_called_with_results_and_gives_its_value(virtual: Virtual) -> None:
    async def serve(name: str, *, port: int, task_status: Any) -> None:
        task_status.started(f"{name}:{port}")
        await anyio.sleep_forever()

    service = Service(serve, Job(give, "host"), kwargs={"port": Job(give, 80)})
    assert taken(virtual, Job(take, service)) == ("host:80",)
