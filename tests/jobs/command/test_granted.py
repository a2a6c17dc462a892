"""`granted`: a command gets what it was granted in its arguments and its environment."""

from __future__ import annotations

import os
from typing import Any

import pytest

from trioflow import CommandJob, Pool, Scheduler, granted

from .commands import PIPE


def test_granted_is_replaced_in_arguments_and_environment(backend: Any) -> None:
    """Named units are joined by commas; amounts are numbers; each command gets its own."""
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
    """The amount is not known before the start."""
    assert CommandJob(["train", granted("gpu")], needs={"gpu": 1}).label == "train {gpu}"


@pytest.mark.parametrize(
    ("command", "options"),
    [(["train", granted("gpu")], {}), (["train"], {"env": {"CARD": granted("gpu")}, "needs": {"cpu": 1}})],
)
def test_granted_of_a_resource_that_the_job_does_not_need_raises(command: list[Any], options: dict[str, Any]) -> None:
    """The error says which option is missing."""
    with pytest.raises(ValueError, match=r"'x': granted\('gpu'\), but it needs nothing of that name: write needs="):
        CommandJob(command, label="x", **options)
