"""The example that runs workflows recorded by WfCommons, in any version of the format."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ..conftest import Virtual
from ..places import EXAMPLES
from ..view.graph.pictures import seen, texts
from .scripts import load_example, run_example

MOSAIC = EXAMPLES / "data" / "mosaic.json"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return load_example("wfcommons")


FORMS: dict[str, Any] = {
    "shortened": {
        "name": "w",
        "tasks": [{"name": "a", "runtime_s": 3, "needs": []}, {"name": "b", "runtime_s": 4.5, "needs": [0]}],
    },
    "1.5": {
        "name": "w",
        "workflow": {
            "specification": {"tasks": [{"name": "p", "id": "a", "parents": []}, {"id": "b", "parents": ["a"]}]},
            "execution": {"tasks": [{"id": "b", "runtimeInSeconds": 4.5}, {"id": "a", "runtimeInSeconds": 3}]},
        },
    },
    "1.4": {
        "name": "w",
        "workflow": {
            "tasks": [
                {"name": "a", "id": "1", "runtimeInSeconds": 3, "parents": []},
                {"name": "b", "id": "2", "runtimeInSeconds": 4.5, "parents": ["a"]},
            ]
        },
    },
    "1.1": {
        "name": "w",
        "workflow": {
            "jobs": [{"name": "b", "runtime": 4.5, "parents": ["a"]}, {"name": "a", "runtime": 3, "parents": []}]
        },
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_workflows_of_all_versions_of_the_format_can_be_read(
    form: str, example: ModuleType, tmp_path: Path, virtual: Virtual
) -> None:
    """Names, requirements and times of workflows are read; a run takes the recorded time, divided by the speed."""
    (tmp_path / "w.json").write_text(json.dumps(FORMS[form]))
    scheduler = example.scenario(tmp_path / "w.json", speed=1.5)
    jobs = {job.label: job for job in scheduler}
    assert set(jobs) == {"a", "b"}
    assert list(jobs["b"].required) == [jobs["a"]]
    assert [jobs[label].expected_duration for label in "ab"] == [2, 3]
    virtual(scheduler.co_run)
    assert (jobs["a"].elapsed, jobs["b"].elapsed) == (2, 3)
    assert jobs["b"].started_at == jobs["a"].finished_at


def test_a_workflow_without_recorded_times_takes_no_time(example: ModuleType, tmp_path: Path) -> None:
    content = {"workflow": {"specification": {"tasks": [{"id": "a", "parents": []}]}}}
    (tmp_path / "w.json").write_text(json.dumps(content))
    scheduler = example.scenario(str(tmp_path / "w.json"))
    assert scheduler.label == "w"
    assert [job.expected_duration for job in scheduler] == [0]


def test_the_mosaic_workflow_takes_the_recorded_time(example: ModuleType, virtual: Virtual) -> None:
    scheduler = example.scenario(MOSAIC, speed=1)
    assert len(seen(scheduler.graph()).boxes) == len(scheduler) == 17
    virtual(scheduler.co_run)
    took = max(job.finished_at for job in scheduler) - min(job.started_at for job in scheduler)
    assert round(took, 6) == json.loads(MOSAIC.read_text())["workflow"]["execution"]["makespanInSeconds"]


def test_the_script_runs_and_draws_a_workflow(tmp_path: Path, backend: str) -> None:
    done = run_example(
        "wfcommons", MOSAIC, "--speed", 10_000, "--window", 2, "--backend", backend, "--graph", tmp_path / "g.svg"
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"mosaic: 17 tasks, 0\.\d+ s of work in 0\.\d+ s\n", done.stdout)
    assert {"fit_1", "model_1"} < set(texts((tmp_path / "g.svg").read_text(encoding="utf-8")))


def test_the_time_of_a_run_with_a_failed_task_leaves_out_those_that_it_blocked(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tasks that never began counted as begun at 0 on the clock, so the run seemed to take as long as the machine."""

    class FailingTask(example.Task):  # type: ignore[name-defined,misc]
        async def co_run(self) -> None:
            await super().co_run()
            if self.label == "project_1":
                raise OSError("no disk")

    monkeypatch.setattr(example, "Task", FailingTask)
    monkeypatch.setattr(sys, "argv", ["wfcommons.py", str(MOSAIC), "--speed", "10000"])
    assert example.main() == 1
    assert re.fullmatch(r"mosaic: 6 of 17 tasks, 0\.\d+ s of work in 0\.\d+ s\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a workflow of WfCommons: JSONDecodeError"),
        ("[]", "is not a workflow of WfCommons: "),
        ('{"name": "w"}', "is not a workflow of WfCommons: KeyError: 'tasks'"),
        ('{"tasks": [{"name": "a", "runtime_s": 1, "needs": [7]}]}', "the task 'a' needs '7', which is not there"),
    ],
)
def test_the_error_for_a_bad_workflow_file_names_the_file_and_the_fault(
    content: str, message: str, example: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "w.json").write_text(content)
    with pytest.raises(ValueError, match=re.escape(message)) as info:
        example.scenario(tmp_path / "w.json")
    assert str(tmp_path / "w.json") in str(info.value)


def test_a_speed_of_zero_and_a_missing_file_are_rejected(example: ModuleType, tmp_path: Path) -> None:
    """A speed of zero raises a ValueError, and a missing file gives an error without a traceback, and exit code 2."""
    for speed in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="speed="):
            example.scenario(MOSAIC, speed=speed)
    done = run_example("wfcommons", tmp_path / "missing.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "missing.json" in done.stderr
    assert "Traceback" not in done.stderr
