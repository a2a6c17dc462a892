"""`granted()`: a command gets the resources granted to it in its arguments and its environment."""

from __future__ import annotations

import os
from typing import Any

import pytest

from trioflow import CommandJob, Pool, Scheduler, granted

from .commands import PIPE


def test_granted_is_replaced_in_arguments_and_environment(backend: Any) -> None:
    """In arguments and variables, `granted()` becomes the granted amount, or the names of the units with commas."""
    env = {**os.environ, "CARDS": granted("gpu")}
    jobs = [
        CommandJob(
            ["sh", "-c", 'echo "$CARDS $0"; sleep 0.05', granted("cpu")],
            env=env, needs={"gpu": number, "cpu": number + 0.5}, stdout=PIPE,
        )
        for number in (1, 2)
    ]  # fmt: skip
    pool = Pool(gpu=["a", "b", "c"], cpu=8)
    assert Scheduler(*jobs, pool=pool).run(backend=backend, check=True)
    assert [job.result().stdout for job in jobs] == [b"a 1.5\n", b"b,c 2.5\n"]
    assert pool.free == pool.total


def test_label_shows_the_name_of_a_granted_resource() -> None:
    """A label shows `granted("gpu")` as `{gpu}`, since the granted units are not known before the start."""
    assert CommandJob(["train", granted("gpu")], needs={"gpu": 1}).label == "train {gpu}"


@pytest.mark.parametrize(
    ("command", "options"),
    [(["train", granted("gpu")], {}), (["train"], {"env": {"CARD": granted("gpu")}, "needs": {"cpu": 1}})],
)
def test_granted_of_a_resource_that_the_job_does_not_need_raises(command: list[Any], options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"'x': it uses granted\('gpu'\), but does not need that resource: add needs="):
        CommandJob(command, label="x", **options)
