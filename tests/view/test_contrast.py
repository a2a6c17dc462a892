"""The text of reports, timelines and graphs is readable in both colour schemes."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from trioflow import JobState
from trioflow.view import _state_styles

from .contrast import contrast

REPORT = resources.files("trioflow.view.trace.report")
PAPER = {"light": "#ffffff", "dark": "#1b1f26"}
SCHEMES = ("light", "dark")


def style(name: str) -> str:
    return (REPORT / name).read_text(encoding="utf-8")


def variables(text: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", text))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("state", JobState)
def test_text_in_boxes_and_frames_of_a_graph_is_readable(scheme: str, state: JobState) -> None:
    """In a graph, text has a contrast of at least 4.5, and the border of a box is visible on the page."""
    fill, line, text, frame = getattr(_state_styles.STATE_STYLES[state], f"{scheme}_colors")
    plain = _state_styles.LIGHT_SCHEME_TEXT_COLOR if scheme == "light" else _state_styles.DARK_SCHEME_TEXT_COLOR
    assert contrast(text, fill) >= 4.5
    assert contrast(plain, frame) >= 4.5
    assert contrast(line, PAPER[scheme]) >= 2.4


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_of_the_report_is_readable(scheme: str) -> None:
    """Text of the report is readable on the page, on cards, in the row under the pointer, and in badges."""
    light, _, dark = style("report.css").partition("@media screen and (prefers-color-scheme: dark)")
    dark, _, _ = dark.partition("@media print")
    found = variables(light) | (variables(dark) if scheme == "dark" else {})
    assert found["card"] == PAPER[scheme]
    for ground in ("ground", "card", "stripe"):
        for text in ("ink", "soft", "accent", "good", "bad"):
            assert contrast(found[text], found[ground]) >= 4.5, (text, ground)
    assert contrast(found["bad"], found["bad-ground"]) >= 4.5


def fills(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for selectors, colour in re.findall(r"^ *(\.timeline [^{}]+) {[^}]*\bfill: (#[0-9a-f]{6})", text, re.MULTILINE):
        found |= {one.strip().removeprefix(".timeline "): colour for one in selectors.split(",")}
    return found


@pytest.mark.parametrize("scheme", SCHEMES)
def test_labels_in_the_timeline_are_readable(scheme: str) -> None:
    """In the timeline, labels are readable on every bar and beside it, and captions on the background."""
    light, _, dark = style("timeline.css").partition("@media screen and (prefers-color-scheme: dark)")
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
        ".step",
        ".paper",
    ):
        assert contrast(label, found[ground]) >= 4.5, ground
    assert contrast(found[".label.on-dark"], found[".failed"]) >= 4.5
    for small in (".subtitle", ".tick", ".note", ".legend"):
        assert contrast(found[small], found[".paper"]) >= 4.5
