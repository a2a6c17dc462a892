"""`keep_jobs`: each law of failures holds with both values of the option."""

import functools
import pytest
from trioflow import Scheduler


@pytest.fixture(params=[True, False], ids=["kept", "dropped"])
def keep_jobs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Let the schedulers of a module of tests have this option."""
    monkeypatch.setattr(
        request.module,
        "Scheduler",
        functools.partial(Scheduler, keep_jobs=request.param),
    )
    return bool(request.param)
