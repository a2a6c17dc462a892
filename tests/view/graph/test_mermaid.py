"""`mermaid`: the text of a flowchart, in the grammar that Mermaid publishes.

Each statement that trioflow writes has one form, listed below; Mermaid's own parser (11.17) accepted all of them, with
the labels of these tests, when the forms were chosen."""

import re
from typing import Any
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow import Job, JobState, Scheduler, Service, ThreadJob
from ...bodies import idle, serve, take
from ...transitions import lead_to
from .pictures import escape, mermaid, seen

TEXT = r'"(?:[\w (),/:=.\-]|[^\x00-\x7f]|#\d+;|<br/>)+"'
BOX = rf"(\w+)(?:\({TEXT}\)|\[{TEXT}\]|\{{\{{{TEXT}\}}\}}|\[\[{TEXT}\]\]|\[/{TEXT}/\]|\(\({TEXT}\)\))(?::::\w+)?"
COLOURS = r"fill:#\w{6},stroke:#\w{6},color:#\w{6}"
STATEMENTS = {
    "begin": r"flowchart (?:TB|LR)",
    "class definition": rf"  classDef \w+ {COLOURS}",
    "box": rf" +{BOX}",
    "frame": rf" +subgraph (\w+)\[{TEXT}\]",
    "direction": r" +direction (?:TB|LR)",
    "end of frame": r" +end",
    "line": r"  (\w+) (?:-->|==>|-\.->|---|===|-\.-) (\w+)",
    "class": r"  class (\w+) \w+",
    "style": r"  style (\w+) [\w:#, -]+",
}


def statements(text: str) -> list[tuple[str, re.Match[str]]]:
    found = []
    for line in text.splitlines():
        matches = {
            kind: match
            for kind, form in STATEMENTS.items()
            if (match := re.fullmatch(form, line))
        }
        assert len(matches) == 1, line
        found += matches.items()
    return found


def shown(text: str) -> str:
    return re.sub(r"#(\d+);", lambda found: chr(int(found[1])), text.strip('"'))


def labels(text: str) -> list[str]:
    return [
        shown(match)
        for kind, found in statements(text)
        if kind in ("box", "frame")
        for match in re.findall(TEXT, found[0])
    ]


def everything() -> Scheduler:
    """Return a scenario with all that a picture can show."""
    source = Job(take, label="source")
    service = Service(serve, label="service")
    reader = ThreadJob(print, source, service, label="reader", critical=True)
    scheduler = Scheduler(source, service, reader, label="all")
    inner = Scheduler(
        Job(take, source, label="in"), idle("beside"), label="inner", required=reader
    )
    alarm = idle("alarm", required=inner, run_if="failed")
    return scheduler.update([inner, alarm, Scheduler(label="empty", required=inner)])


def test_mermaid_writes_boxes_and_frames_then_lines_styles_and_classes() -> None:
    assert mermaid(everything()) == (
        "flowchart TB\n"
        "  classDef idle fill:#ffffff,stroke:#52606d,color:#1f2933\n"
        "  classDef idleFrame fill:#f7f8fa,stroke:#52606d,color:#1f2933\n"
        '  n1("source"):::idle\n'
        '  n2{{"service"}}:::idle\n'
        '  n3["#33; reader"]:::idle\n'
        '  subgraph n4["inner"]\n'
        "    direction TB\n"
        '    n5("in"):::idle\n'
        '    n6("beside"):::idle\n'
        "  end\n"
        '  n7("alarm<br/>if failed"):::idle\n'
        '  n8[["empty<br/>0 jobs"]]:::idle\n'
        "  n1 ==> n3\n"
        "  n2 ==> n3\n"
        "  n3 --> n4\n"
        "  n1 ==> n5\n"
        "  n4 -.-> n7\n"
        "  n4 --> n8\n"
        "  style n2 stroke-dasharray:5 4\n"
        "  style n3 stroke-width:3px\n"
        "  class n4 idleFrame\n"
    )


@pytest.mark.parametrize("options", [{}, {"collapse": True}], ids=str)
def test_mermaid_draws_the_same_boxes_frames_and_lines_as_graph(options: Any) -> None:
    scheduler = everything()
    found = [kind for kind, _ in statements(mermaid(scheduler, **options))]
    graph = seen(scheduler.graph(**options))
    empty = (
        "(empty)" in graph.boxes
    )  # which is a frame with a word in it there, and a box here
    assert found.count("line") == len(graph.lines)
    assert found.count("box") == len(graph.boxes)
    assert (
        found.count("frame") == found.count("end of frame") == len(graph.frames) - empty
    )


@pytest.mark.parametrize("state", JobState)
def test_each_box_and_frame_has_the_class_of_its_state(state: JobState) -> None:
    job, nested = idle("job"), Scheduler(idle("in"), label="nested")
    lead_to(state, job)
    lead_to(state, nested)
    text = mermaid(Scheduler(job, nested))
    assert re.search(rf'\("(?:. )?job"\):::{state.value}$', text, re.MULTILINE)
    assert f"  class n2 {state.value}Frame" in text.splitlines()
    assert {f"  classDef {state.value}", f"  classDef {state.value}Frame"} <= {
        line.partition(" fill")[0] for line in text.splitlines()
    }


@given(st.lists(st.text(max_size=30), min_size=1, max_size=10))
def test_any_label_is_shown_literally(given_labels: list[str]) -> None:
    """No part of a label is parsed as Mermaid syntax, HTML, Markdown or entities."""
    scheduler = Scheduler(
        [idle(label) for label in given_labels],
        [Scheduler(idle("in"), label="s" + given_labels[0])],
    )
    expected = sorted(
        escape(job.label).lstrip() or " " for job in scheduler.iterate_jobs()
    )
    assert sorted(labels(mermaid(scheduler))) == expected


@pytest.mark.parametrize(
    "label",
    [
        "1. list",
        "- list",
        "+ list",
        "* list",
        "1) list",
        "`code`",
        "# heading",
        "a - b",
    ],
)
def test_labels_are_not_parsed_as_markdown(label: str) -> None:
    """Labels that Markdown would parse as code, a heading or a list, which Mermaid rejects, are escaped."""
    text = mermaid(Scheduler(idle(label)))
    assert labels(text) == [label]
    assert not re.search(r"\"(?:\d+[.)]|[-+*]) |[`]|# ", text)


def test_outside_requirements_are_drawn() -> None:
    outer = Job(take, label="outer")
    inner = Scheduler(Job(take, outer, label="in"), label="inner")
    Scheduler(outer, inner)
    assert labels(mermaid(inner)) == ["in", "? outer"]
