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
    r"""In the arguments or `env` of a `CommandJob` or `SshJob`: what the job is granted of a resource when it starts.

    Names are joined by commas, as `CUDA_VISIBLE_DEVICES` requires. For a `Rate` it is the amounts taken, such as
    `requests=1,tokens=800`; for other resources, the amount.

    Args:
        name: the name of a resource that the job needs.

    Raises:
        ValueError: when the job is made: it does not need this resource.

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
        """Return the resources that `job` was granted, as text."""
        grant = job.granted[self.name]
        if isinstance(grant, Mapping):
            return ",".join(f"{key}={amount}" for key, amount in grant.items())  # pyright: ignore[reportUnknownVariableType]
        return str(grant) if isinstance(grant, (int, float)) else ",".join(map(str, grant))

    def __str__(self) -> str:
        """Return the placeholder as labels show it."""
        return f"{{{self.name}}}"


def fill_environment(
    env: Mapping[bytes, bytes], own: dict[bytes, granted], job: AbstractJob[Any]
) -> dict[bytes, bytes]:
    """Return an environment in which the placeholders are filled in for `job`."""
    return {**env, **{name: os.fsencode(value.text(job)) for name, value in own.items()}}


def check_placeholders(values: Iterable[Any], job: AbstractJob[Any], subject: str) -> None:
    """Reject placeholders for resources that the job does not need.

    Raises:
        ValueError: the job does not need a resource of this name.

    """
    for value in values:
        if isinstance(value, granted) and value.name not in job.needs:
            raise ValueError(
                f"{subject}: granted({value.name!r}), but it needs nothing of that name: "
                f"write needs={{{value.name!r}: 1}}, or leave it out"
            )
