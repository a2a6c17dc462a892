"""The text of reports, timelines and graphs is readable on light pages and on dark ones."""

import re
from importlib import resources
import pytest
from trioflow._core.base._states import ReportedState
from trioflow.view import _state_styles
from trioflow.view.graph import _dot, _drawing
from .contrast import contrast

REPORT = resources.files("trioflow.view.trace.report")
PAPER = {"light": "#ffffff", "dark": "#1b1f26"}
SCHEMES = ("light", "dark")


def style(name: str) -> str:
    return (REPORT / name).read_text(encoding="utf-8")


def variables(text: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", text))


@pytest.mark.parametrize("state", _state_styles.STATE_STYLES)
def test_text_in_boxes_and_frames_of_a_graph_is_readable(state: ReportedState) -> None:
    """In a graph, text has a contrast of at least 4.5; a box stands out from a white page by its outline."""
    fill, line, text, frame = _state_styles.STATE_STYLES[state].colors
    assert contrast(text, fill) >= 4.5
    assert contrast(_state_styles.TEXT_COLOR, frame) >= 4.5
    assert contrast(line, "#ffffff") >= 2.4
    assert contrast(fill, "#000000") >= 3
    assert (
        contrast(line, PAPER["dark"]) >= 2.2
    )  # the second border on the critical path, once 1.4


def test_lines_and_text_beside_boxes_are_visible_on_any_page() -> None:
    """Lines of a graph are visible on white, on black, and on every frame; text beside boxes on white and on black. A
    graph has no background of its own. With a dark style sheet, it was black boxes in a notebook with a white page."""
    frames = [style.colors.frame for style in _state_styles.STATE_STYLES.values()]
    for color in (_dot.LINE_COLOR, _drawing.INPUT_COLOR, _drawing.CRITICAL_PATH_COLOR):
        assert all(
            contrast(color, ground) >= 3
            for ground in ("#ffffff", "#000000", PAPER["dark"], *frames)
        )
    assert _dot.GRAPH_DEFAULTS["fontcolor"] == _dot.LINE_COLOR
    assert all(
        contrast(_dot.LINE_COLOR, ground) >= 4.5 for ground in ("#ffffff", "#000000")
    )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_of_the_report_is_readable(scheme: str) -> None:
    """Text of the report is readable on the page, on cards, in the row under the pointer, and in badges."""
    light, _, dark = style("report.css").partition(
        "@media screen and (prefers-color-scheme: dark)"
    )
    dark, _, _ = dark.partition("@media print")
    found = variables(light) | (variables(dark) if scheme == "dark" else {})
    assert found["card"] == PAPER[scheme]
    for ground in ("ground", "card", "stripe"):
        for text in ("ink", "soft", "accent", "good", "bad"):
            assert contrast(found[text], found[ground]) >= 4.5, (text, ground)
    assert contrast(found["bad"], found["bad-ground"]) >= 4.5


def fills(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for selectors, colour in re.findall(
        r"^ *(\.timeline [^{}]+) {[^}]*\bfill: (#[0-9a-f]{6})", text, re.MULTILINE
    ):
        found |= {
            one.strip().removeprefix(".timeline "): colour
            for one in selectors.split(",")
        }
    return found


@pytest.mark.parametrize("scheme", SCHEMES)
def test_labels_in_the_timeline_are_readable(scheme: str) -> None:
    """In the timeline, labels are readable on every bar and beside it, and captions on the background."""
    light, _, dark = style("timeline.css").partition(
        "@media screen and (prefers-color-scheme: dark)"
    )
    found = fills(light) | (fills(dark) if scheme == "dark" else {})
    label = found["text"]
    families = [f".family{number}" for number in range(6)]
    for ground in (
        *families,
        ".family-other",
        ".running",
        ".skipped",
        ".forever",
        ".hatched",
        ".empty",
        ".paper",
    ):
        assert contrast(label, found[ground]) >= 4.5, ground
    assert contrast(found[".label.on-dark"], found[".failed"]) >= 4.5
    for small in (".subtitle", ".tick", ".note", ".legend"):
        assert contrast(found[small], found[".paper"]) >= 4.5
