"""Notebooks: scenarios run in cells, and schedulers and jobs display themselves, in a real kernel."""

import base64
import os
import re
from typing import Any
import pytest
from trioflow import Trace
from ..places import PATIENCE, ROOT
from .graph.pictures import texts

CELLS = {
    "define": """
import os, anyio
from trioflow import Job, JobState, Scheduler, ThreadJob
async def double(number):
    await anyio.sleep(0.001)
    return 2 * number
first = Job(double, 21, label="first")
last = ThreadJob(str, first, label="last")
scheduler = Scheduler(first)
nested = Scheduler(last, label="nested", required=first, scheduler=scheduler)
""",
    "graph before": "scheduler",
    "run": "scheduler.run(), last.result()",
    "run on asyncio": "scheduler.run(backend='asyncio')",
    "await": "await scheduler.co_run(), first.result()",
    "graph after": "scheduler",
    "list": "scheduler.list()",
    "failure": """
async def fail():
    raise KeyError("k")
Scheduler(Job(fail, label="failing"), critical_jobs=True).run(check=True)
""",
    "monitored failure": """
from trioflow import Monitor
Scheduler(Job(fail, label="failing"), label="zoo", instruments=[Monitor()]).run()
""",
    "graph object": "scheduler.graph()",
    "class": "Scheduler",
    "without dot": "path, os.environ['PATH'] = os.environ['PATH'], ''\nscheduler",
}


@pytest.fixture(scope="module")
def outputs() -> dict[str, Any]:
    """Return the outputs of the cells of a notebook, in the given order, from one kernel."""
    import nbformat  # all that it imports takes a tenth of a second of each process that collects the tests
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in CELLS.values()]
    )
    client = NotebookClient(
        notebook,
        timeout=PATIENCE,
        allow_errors=True,
        resources={"metadata": {"path": str(ROOT)}},
    )
    client.execute(env={**os.environ, "PYTHONPATH": str(ROOT)})
    return {
        name: cell.outputs for name, cell in zip(CELLS, notebook.cells, strict=True)
    }


def data(outputs: dict[str, Any], cell: str) -> dict[str, str]:
    """Return the formats in which the value of a cell can be shown."""
    (output,) = outputs[cell]
    assert output.output_type == "execute_result", output
    return dict(output.data)


def test_importing_and_defining_jobs_in_a_cell_prints_nothing(
    outputs: dict[str, Any],
) -> None:
    """In a notebook, importing trioflow and defining jobs prints no warning and no message about the running loop."""
    assert outputs["define"] == []


def test_run_works_in_a_cell_on_both_backends(outputs: dict[str, Any]) -> None:
    assert data(outputs, "run")["text/plain"] == "(True, '42')"
    assert data(outputs, "run on asyncio")["text/plain"] == "True"


def test_awaiting_co_run_in_a_cell_uses_the_loop_of_the_kernel(
    outputs: dict[str, Any],
) -> None:
    assert data(outputs, "await")["text/plain"] == "(True, 42)"


def test_a_scheduler_is_displayed_as_its_graph(outputs: dict[str, Any]) -> None:
    """A scheduler as the value of a cell is drawn with current states; a text-only frontend gets the listing."""
    before, after = data(outputs, "graph before"), data(outputs, "graph after")
    assert set(before) == {"text/plain", "text/html", "image/svg+xml"}
    assert sorted(texts(before["image/svg+xml"])) == ["first", "last", "nested"]
    assert ["#c9e7d2" in one["image/svg+xml"] for one in (before, after)] == [
        False,
        True,
    ]
    assert re.findall(r"<\w+ (\w+)>", after["text/plain"]) == [
        "first",
        "nested",
        "last",
        "nested",
    ]
    assert "✓" in after["text/plain"]


def test_list_prints_the_listing_in_a_cell(outputs: dict[str, Any]) -> None:
    (output,) = outputs["list"]
    assert output.name == "stdout"
    assert output.text.startswith("1    ✓    <Job first>")


def test_check_true_shows_the_traceback_of_a_failed_job(
    outputs: dict[str, Any],
) -> None:
    """With `check=True`, IPython prints the whole exception group, with the failed job's traceback, on stderr."""
    assert all(
        output.name == "stderr" for output in outputs["failure"]
    )  # the line of the log, and the traceback
    output = outputs["failure"][-1]
    assert "Exception Group Traceback" in output.text
    assert "KeyError: 'k'" in output.text
    assert "'failing'" in output.text


def test_a_monitor_tells_a_failure_once(outputs: dict[str, Any]) -> None:
    """The lines of a monitor tell a failure and that of the run, which the log does not repeat in the cell."""
    *printed, result = outputs["monitored failure"]
    assert [output.name for output in printed] == ["stdout"] * len(printed)
    lines = re.sub(
        r"\x1b\[[\d;]*m", "", "".join(output.text for output in printed)
    ).splitlines()
    assert [line.split()[1:3] for line in lines] == [
        ["zoo:", "1"], ["start", "failing"], ["FAILED", "failing"], ["zoo", "✗"],
    ]  # fmt: skip
    assert result.data == {"text/plain": "False"}


def test_pictures_fit_the_cell(outputs: dict[str, Any]) -> None:
    """In a notebook, graph and timeline shrink in a narrow cell."""
    for shown in (data(outputs, "graph before"), Trace()._repr_mimebundle_()):
        picture = re.fullmatch(
            '<img alt="[a-z ]+" style="max-width: 100%; height: auto" src="([^"]+)">',
            shown["text/html"],
        )
        assert picture is not None
        form, _, content = picture[1].partition(",")
        assert form == "data:image/svg+xml;base64"
        assert base64.b64decode(content).decode() == shown["image/svg+xml"]


def test_the_object_that_graph_returns_is_displayed_as_a_picture(
    outputs: dict[str, Any],
) -> None:
    assert "first" in texts(data(outputs, "graph object")["image/svg+xml"])


def test_the_scheduler_class_is_not_displayed_as_a_graph(
    outputs: dict[str, Any],
) -> None:
    """A cell whose value is the class `Scheduler` itself shows plain text, not a graph."""
    assert set(data(outputs, "class")) == {"text/plain"}


def test_a_scheduler_is_displayed_as_mermaid_without_dot(
    outputs: dict[str, Any],
) -> None:
    shown = data(outputs, "without dot")
    assert set(shown) == {"text/plain", "text/vnd.mermaid"}
    assert shown["text/vnd.mermaid"].startswith("flowchart TB\n")
    assert shown["text/plain"].startswith("1    ✓")
