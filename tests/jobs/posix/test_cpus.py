"""The number of CPUs that a program may use: its affinity and the quotas of its control groups."""

import os
from pathlib import Path
import pytest
from trioflow._command_options import parse_slots
from trioflow.batch import _resources
from trioflow.jobs.posix import _cpus


@pytest.fixture
def cgroups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let this machine have 8 CPUs, and empty control groups, of which this program is in `a/b`."""
    monkeypatch.setattr(os, "process_cpu_count", lambda: 8, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(2, 10)))
    monkeypatch.setattr(_cpus, "CGROUP_ROOT", str(tmp_path))
    monkeypatch.setattr(_cpus, "CGROUP_FILE", str(tmp_path / "cgroup"))
    (tmp_path / "cgroup").write_text("1:name=systemd:/x\n0::/a/b\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "cpu").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 8),
        ({"cpu.max": "50000 100000"}, 1),
        (
            {
                "cpu.max": "max 100000",
                "a/cpu.max": "250000 100000\n",
                "a/b/cpu.max": "400000 100000",
            },
            3,
        ),
        ({"cpu.max": "9000000 100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu.max": "nonsense", "a/cpu.max": "1 0"}, 8),
    ],
)
def test_quotas_limit_the_cpus_of_a_program(
    cgroups: Path, files: dict[str, str], count: int
) -> None:
    """The smallest quota of a control group and those around it decides, rounded up; all that start by CPUs ask it."""
    for name, text in files.items():
        (cgroups / name).write_text(text)
    assert (
        _cpus.count_usable_cpus()
        == parse_slots("100%")
        == _resources.detect_resource("cpu")
        == count
    )
    assert _cpus.usable_cpus() == list(range(2, 2 + count))
