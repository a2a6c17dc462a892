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

    It is replaced when the job starts. Named units are replaced by their names, joined by commas as
    `CUDA_VISIBLE_DEVICES` requires. A `Rate` is replaced by the amounts taken, such as `requests=1,tokens=800`. Any
    other resource is replaced by the granted amount.

    Args:
        name: the name of a resource that the job needs.

    Raises:
        ValueError: the job does not need this resource; raised when the job is created.

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
    env: Mapping[bytes, bytes], placeholders: dict[bytes, granted], job: AbstractJob[Any]
) -> dict[bytes, bytes]:
    """Return `env` with the variables in `placeholders` set to the resources granted to `job`, as text."""
    return {**env, **{name: os.fsencode(value.text(job)) for name, value in placeholders.items()}}


def check_placeholders(values: Iterable[Any], job: AbstractJob[Any], subject: str) -> None:
    """Check that the job needs the resource of each placeholder among the values.

    Raises:
        ValueError: a placeholder names a resource that the job does not need.

    """
    for value in values:
        if isinstance(value, granted) and value.name not in job.needs:
            raise ValueError(
                f"{subject}: it uses granted({value.name!r}), but does not need that resource: "
                f"add needs={{{value.name!r}: 1}}, or remove granted()"
            )
