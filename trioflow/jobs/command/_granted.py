"""`granted`: a placeholder for the resources of a command, in its arguments and its environment."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

from ...abc import AbstractJob


@final
@dataclass(frozen=True, slots=True)
class granted:
    r"""A placeholder for granted resources, in the arguments or `env` of a `CommandJob` or `SshJob`.

    It is replaced when the job starts: by the names of the granted units, joined by commas as `CUDA_VISIBLE_DEVICES`
    requires; for a `Rate`, by the amounts taken, such as `requests=1,tokens=800`; for other resources, by the amount.

    Args:
        name: the name of a resource that the job needs.

    Raises:
        ValueError: when the job is created: the job does not need this resource.

    Example:
        >>> import subprocess
        >>> job = CommandJob(["echo", granted("gpu")], needs={"gpu": 2}, stdout=subprocess.PIPE)
        >>> Scheduler(job, pool=Pool(gpu=["0", "1", "2"])).run()
        True
        >>> job.result().stdout
        b'0,1\n'

    """

    name: str

    def text(self, job: AbstractJob[Any]) -> str:
        """Return the resources granted to `job`, as text."""
        grant = job.granted[self.name]
        if isinstance(grant, Mapping):
            return ",".join(f"{key}={amount}" for key, amount in grant.items())  # pyright: ignore[reportUnknownVariableType]
        return str(grant) if isinstance(grant, (int, float)) else ",".join(map(str, grant))

    def __str__(self) -> str:
        """Return the placeholder as it appears in labels."""
        return f"{{{self.name}}}"


def fill_environment(
    env: Mapping[bytes, bytes], own: dict[bytes, granted], job: AbstractJob[Any]
) -> dict[bytes, bytes]:
    """Return `env` with the variables in `own`, in which placeholders are replaced by the resources of `job`."""
    return {**env, **{name: os.fsencode(value.text(job)) for name, value in own.items()}}


def check_placeholders(values: Iterable[Any], job: AbstractJob[Any], subject: str) -> None:
    """Check that the job needs the resource of each placeholder among the values.

    Raises:
        ValueError: the job does not need such a resource.

    """
    for value in values:
        if isinstance(value, granted) and value.name not in job.needs:
            raise ValueError(
                f"{subject}: granted({value.name!r}), but it needs nothing of that name: "
                f"write needs={{{value.name!r}: 1}}, or leave it out"
            )
