"""Values of options say in their `repr` all that they were made of: another argument makes another one."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import trioflow
from trioflow import Adaptive, Budget, LocalNode, OutputLine, PerKey, PortOpen, Rate, Retry, SshNode, Throttled, granted


def is_busy(error: Exception) -> bool:
    return isinstance(error, OSError)


MADE: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], dict[str, Any]]] = [
    (Retry, (3,), {}, {"first": 2.0, "factor": 3.0, "cap": 9.0, "jitter": False, "on": OSError}),
    (Retry, (None,), {}, {"first": 0.0, "factor": 1.0, "cap": 1.0, "on": (OSError, ValueError)}),
    (Retry, (None,), {}, {"first": 1 / 3, "on": is_busy}),
    (Adaptive, (1, 4), {}, {"slower_on": (Throttled,)}),
    (Rate, (), {"requests": 5, "per": 1e7 / 3}, {"tokens": 1e9 / 3}),
    (Rate, (), {"requests": 5, "per": 60}, {"burst": 2, "give_up": 5.0, "tokens": 9.0}),
    (Rate, (), {"requests": 5, "per": 60}, {"give_up": None}),
    (PerKey, (2,), {}, {"gap": 1.5, "sizes": {"slow.org": 1}}),
    (PerKey, (Rate(requests=1, per=2),), {}, {"sizes": {"slow.org": Rate(requests=1, per=9)}}),
    (Budget, (5.0,), {}, {}),
    (Budget, (0.25,), {}, {}),
    (Budget, (1e9 / 3,), {}, {}),
    (PortOpen, (5432,), {}, {"host": "db"}),
    (OutputLine, ("ready",), {}, {}),
    (trioflow.CommandSucceeds, (["pg_isready", "-q"],), {}, {"cwd": "/tmp", "env": {"A": "1"}}),
    (SshNode, ("db",), {}, {"username": "ann", "port": 23, "identity": "key", "gateway": SshNode("gate")}),
    (LocalNode, (), {}, {"directory": "x"}),
    (granted, ("gpu",), {}, {}),
]
"""Each kind, with the arguments that it needs, and others, each of which makes another value."""


def public_values(value: object) -> dict[str, str]:
    found = {name: getattr(value, name) for name in dir(value) if name[0] != "_"}
    return {name: repr(each) for name, each in found.items() if not callable(each) or isinstance(each, type)}


@pytest.mark.parametrize(("kind", "args", "needed", "others"), MADE)
def test_the_repr_of_a_value_makes_an_equal_one(
    kind: Callable[..., Any], args: tuple[Any, ...], needed: dict[str, Any], others: dict[str, Any]
) -> None:
    """With no other argument, with each alone, and with all of them; a `Retry` is also compared, copied and pickled."""
    values = [kind(*args, **needed), *(kind(*args, **{**needed, name: value}) for name, value in others.items())]
    together = {name: value for name, value in others.items() if (name, kind) != ("tokens", Rate)}
    values.append(kind(*args, **needed, **together))
    names = {name: getattr(trioflow, name) for name in trioflow.__all__} | {"is_busy": is_busy}
    for value in values:
        made = eval(repr(value), names.copy())
        assert repr(made) == repr(value)
        assert public_values(made) == public_values(value)
        if isinstance(value, Retry):
            assert value == made == copy.copy(value) == pickle.loads(pickle.dumps(value))
            assert hash(made) == hash(value)
    assert len(set(map(repr, values))) == len({*others, "", *(["all"] if len(together) > 1 else [])})
    if kind is Retry:
        assert len(set(values)) == len(values)
