"""What goes with a call to another process: variables of the environment there, for as long as the call takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from ..abc import carried


def carried_beside(given: Callable[[str], str | None]) -> Mapping[str, str]:
    """Return the variables that go along with a command, but for those that it was given otherwise.

    Args:
        given: returns what the command was given as a variable, by `env=`; None for nothing. What is the same in this
            program's environment was taken over with all the rest of it, and does not count.

    """
    found = carried()
    return {name: value for name, value in found.items() if (own := given(name)) is None or own == os.environ.get(name)}


def call_with_variables(
    variables: Mapping[str, str], function: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    """Call a function; processes find this one by its name."""
    return with_variables(function, variables)(*args, **kwargs)


def with_variables(function: Callable[..., Any], variables: Mapping[str, str]) -> Callable[..., Any]:
    """Return a function that sets variables of its process, and does what another one does.

    It stands in no module by its name, so it is sent as it is to workers that need not have trioflow. Calls that
    overlap in one process share its environment: each sets what is its own, and takes away only that.
    """

    def called(*args: Any, **kwargs: Any) -> Any:
        import os

        os.environ.update(variables)
        try:
            return function(*args, **kwargs)
        finally:
            for name, value in variables.items():
                if os.environ.get(name) == value:
                    del os.environ[name]

    called.__name__ = getattr(function, "__name__", "call")  # Dask shows it
    return called
