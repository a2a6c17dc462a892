"""The example of an API with limits, run as a newcomer runs it."""

from __future__ import annotations

import pytest

from trioflow import Throttled

from .scripts import load_example, run_example


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_the_example_gets_a_temperature_for_each_city_whose_call_succeeds(backend: str) -> None:
    """All cities but five get a temperature, in whatever order the calls are answered."""
    done = run_example("api", "--backend", backend)
    known = [city * 7 % 40 for city in range(200) if city % 40 != 13]
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"195 temperatures, {sum(known) / 195:.2f} on average\nfailed: city 13, city 133, city 173, city 53, city 93\n"
    )


def test_the_example_keeps_the_limits_and_is_throttled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API rejects one call of the example in a bad moment, and none for coming too fast."""
    example = load_example("api")
    servers = []

    class Watched(example.Api):  # type: ignore[name-defined, misc]
        def server_activate(self) -> None:
            servers.append(self)
            super().server_activate()

    monkeypatch.setattr(example, "Api", Watched)
    scheduler = example.scenario(60)
    assert scheduler.run()
    throttled = [job for job in scheduler if job._extras is not None and job._extras.throttlings]
    assert [len(job._extras.throttlings) for job in throttled] == [1]
    assert (servers[0].asked, servers[0].refused) == (61, 0)
    assert not any(isinstance(job.raised_exception(), Throttled) for job in scheduler)
