"""`granted`: stands for what a command has of a resource, in its arguments and its environment."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

from ...abc import AbstractJob


@final
@dataclass(frozen=True, slots=True)
class granted:
    r"""In the arguments or `env` of a `CommandJob` or `SshJob`: what the job was granted of a resource, when it starts.

    Named things are joined by commas, as `CUDA_VISIBLE_DEVICES` wants them; of a `Rate` it is what was taken, such as
    `requests=1,tokens=800`; of others it is the amount.

    Args:
        name: the name of a resource that the job needs.

    Raises:
        ValueError: when the job is made: it does not need this.

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
        """Return what `job` has."""
        found = job.granted[self.name]
        if isinstance(found, Mapping):
            return ",".join(f"{key}={amount}" for key, amount in found.items())  # pyright: ignore[reportUnknownVariableType]
        return str(found) if isinstance(found, (int, float)) else ",".join(map(str, found))

    def __str__(self) -> str:
        """Show it as labels do."""
        return f"{{{self.name}}}"


def filled_in(env: Mapping[bytes, bytes], own: dict[bytes, granted], job: AbstractJob[Any]) -> dict[bytes, bytes]:
    """Return an environment with what `job` was granted."""
    return {**env, **{name: os.fsencode(value.text(job)) for name, value in own.items()}}


def check(values: Iterable[Any], job: AbstractJob[Any], who: str) -> None:
    """Refuse what the job does not need.

    Raises:
        ValueError: it is granted nothing of this name.

    """
    for value in values:
        if isinstance(value, granted) and value.name not in job.needs:
            raise ValueError(
                f"{who}: granted({value.name!r}), but it needs nothing of that name: "
                f"write needs={{{value.name!r}: 1}}, or leave it out"
            )
