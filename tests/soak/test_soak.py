"""The command that soaks: it runs much of everything, and finds what grows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.soak import __main__ as soak


def test_nothing_grows_in_a_short_run(backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A few hundred jobs of every kind: the long runs are for machines that have time."""
    assert soak.main(["--seconds", "1.5", "--part", "all", "--backend", backend]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "part"
    assert row.split()[0] == "all"


def test_what_grows_is_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Objects, and anything else that is counted."""
    kept: list[Any] = []

    class Keeping(soak.Counting):
        def job_finished(self, scheduler: Any, job: Any) -> None:
            kept.append([job])

    monkeypatch.setattr(soak, "SLACK", 50)
    monkeypatch.setattr(soak, "Counting", Keeping)
    assert soak.main(["--count", "640", "--seconds", "20", "--part", "jobs"]) == 1
    assert capsys.readouterr().out.rstrip().endswith("GROWS")


def test_the_third_look_counts() -> None:
    """Before, caches are filled; a descriptor more is one of a moment, a third is a leak."""

    def growth(descriptors: list[int]) -> soak.Growth:
        looks = [soak.Look(number, 100, one, 1, 1, 1, 1) for number, one in enumerate(descriptors)]
        return soak.Growth.of("jobs", looks, 1.0, allowed=0)

    assert growth([1, 5, 9, 9, 11]).is_none
    assert not growth([1, 5, 9, 9, 12]).is_none
