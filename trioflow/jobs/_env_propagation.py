"""Environment variables that accompany a call to another process: set there for the duration of the call."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from ..abc import carried


def propagated_variables(command_env: Callable[[str], str | None]) -> Mapping[str, str]:
    """Return the variables to add to a command's environment, except those that the user set with `env=`.

    Args:
        command_env: returns the value of a variable in the command's `env=`, or None. A value equal to that in this
            program's environment counts as inherited, not as set.

    """
    variables = carried()
    return {
        name: value
        for name, value in variables.items()
        if (own := command_env(name)) is None or own == os.environ.get(name)
    }


def call_with_variables(
    variables: Mapping[str, str], function: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    """Call a function with variables set; unlike a closure, this can be pickled by its name."""
    return with_variables(function, variables)(*args, **kwargs)


def with_variables(function: Callable[..., Any], variables: Mapping[str, str]) -> Callable[..., Any]:
    """Wrap a function: set variables of its process before the call, and remove them after it.

    The wrapper is a closure, so cloudpickle sends it by value to workers that need not have trioflow. Overlapping calls
    in one process share its environment: each sets its own variables and removes only those.
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
