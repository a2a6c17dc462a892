"""The timeline as SVG: well-formed, without overlaps, with labels as text, and legible in grey."""

import itertools
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Tree
import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow import Answer, Job, Retry, Scheduler, Sequence, Service, Trace
from trioflow.view import save
from trioflow.view.trace import _timeline
from trioflow.view.trace._spans import assign_lanes
from trioflow.view.trace._timeline import (
    TICK_STEPS,
    clip_text,
    compute_ticks,
    read_resource,
    text_width,
)
from ...bodies import fail, flaky, later, nap, nothing, serve
from ...conftest import Virtual
from .scenarios import NASTY, SVG, everything, find_by_class, texts, traced


def draw_timeline(trace: Trace, path: Path, *, width: int = 1200) -> Tree.Element:
    path.write_text(
        _timeline.timeline_svg(trace._get_record(), width), encoding="utf-8"
    )
    return Tree.parse(path).getroot()


def bars(picture: Tree.Element) -> dict[int, dict[str, float]]:
    """Return the rectangle of each job, by the number of its span."""
    found: dict[int, dict[str, float]] = {}
    for group in find_by_class(picture, "job"):
        (box,) = group.findall(f"{SVG}rect")
        bounds = {
            name: float(value) for name, value in box.attrib.items() if name != "class"
        }
        found[int(group.attrib["data-number"])] = bounds
    return found


def test_each_started_job_has_a_bar(virtual: Virtual, tmp_path: Path) -> None:
    a, b = Job(nap, 1, label="a"), Job(nap, 4, label="b")
    trace = traced(
        virtual,
        Scheduler(
            a, b, Job(nap, 2, label="c", required=a), Job(nap, 1, a, run_if="failed")
        ),
    )
    found = bars(draw_timeline(trace, tmp_path / "t.svg", width=524))
    assert [(found[number]["x"], found[number]["width"]) for number in range(3)] == [
        (108, 100),
        (108, 400),
        (208, 200),
    ]
    assert found[0]["y"] == found[2]["y"] != found[1]["y"]


def test_bars_do_not_overlap(virtual: Virtual, tmp_path: Path) -> None:
    trace = traced(virtual, everything())
    picture = draw_timeline(
        trace, tmp_path / "t.svg", width=3000
    )  # so wide that no bars are merged
    found = bars(picture)
    assert set(found) == {
        span.number
        for span in trace._get_record().leaf_spans
        if span.started_at is not None
    }
    for number, box in found.items():
        assert contains({"x": 0.0, "y": 0.0, **full_bounds(picture)}, box), trace.spans[
            number
        ]
        for other, beside in found.items():
            assert other == number or apart(box, beside), (
                trace.spans[number],
                trace.spans[other],
            )


def full_bounds(picture: Tree.Element) -> dict[str, float]:
    return {name: float(picture.attrib[name]) for name in ("width", "height")}


def contains(outside: dict[str, float], inside: dict[str, float]) -> bool:
    return all(
        outside[at] <= inside[at] + 0.02
        and inside[at] + inside[size] <= outside[at] + outside[size] + 0.02
        for at, size in (("x", "width"), ("y", "height"))
    )


def apart(one: dict[str, float], other: dict[str, float]) -> bool:
    return any(
        one[at] + one[size] <= other[at] + 0.02
        or other[at] + other[size] <= one[at] + 0.02
        for at, size in (("x", "width"), ("y", "height"))
    )


def test_the_legend_explains_each_symbol_in_the_timeline(
    virtual: Virtual, tmp_path: Path
) -> None:
    """The timeline's legend has each color of the picture: families, states, forever jobs, the critical path."""
    picture = draw_timeline(traced(virtual, everything()), tmp_path / "t.svg")
    shown = texts(picture)
    legend = ["✗ failed", "⊘ cancelled", "forever job", "critical path"]
    assert set(legend) <= set(shown)
    assert "fetch *: 12, 58 s, 1 failed" in shown
    assert any(text.startswith("1 never started, blocked: uses 5") for text in shown)
    for css in ("incident", "bar failed", "bar forever", "on-path", "empty"):
        assert find_by_class(picture, css), css


def test_an_answer_has_its_own_name_in_the_timeline(
    virtual: Virtual, tmp_path: Path
) -> None:
    """It takes no slot, as a forever job, and was called one."""
    ask, watch = Answer("ready?", label="ask"), Job(nap, 9, forever=True, label="watch")
    scheduler = Scheduler(ask, watch, Job(later, 1, lambda: ask.answer("yes")))
    shown = texts(draw_timeline(traced(virtual, scheduler), tmp_path / "t.svg"))
    assert [text for text in shown if text.startswith("Answer")] == [
        "Answer, foreve…",
        "Answer, forever job",
    ]


def test_jobs_that_never_started_are_counted_without_nested_schedulers(
    virtual: Virtual, tmp_path: Path
) -> None:
    inner = Scheduler(Job(nap, 1), Job(nap, 1), label="inner")
    never = Scheduler(
        Job(fail, 1, OSError(), label="x", critical=True),
        inner,
        jobs_window=1,
        label="all",
    )
    shown = texts(draw_timeline(traced(virtual, never), tmp_path / "t.svg"))
    assert [
        text.partition(":")[0]
        for text in shown
        if "never started," in text and "stopped" not in text
    ] == ["2 never started, idle"]


def test_the_legend_of_a_plain_run_has_one_entry(
    virtual: Virtual, tmp_path: Path
) -> None:
    shown = texts(
        draw_timeline(
            traced(virtual, Scheduler(Job(nap, label="a"), label="plain")),
            tmp_path / "t.svg",
        )
    )
    assert shown[:3] == ["plain", shown[1], "one job at a time for 1 s: 100 % working"]
    assert shown[1].startswith("1 job succeeded, 1")
    assert {"a, 1 s", "critical path"} < set(shown)


def test_a_kind_has_a_color_only_if_one_of_its_jobs_succeeded(
    virtual: Virtual, tmp_path: Path
) -> None:
    """The legend leaves out families that no bar has the color of, because all their jobs failed."""
    jobs = [Job(fail, 1, label="broken"), Job(nap, 2, label="fine")]
    picture = draw_timeline(traced(virtual, Scheduler(*jobs)), tmp_path / "t.svg")
    assert "fine, 2 s" in texts(picture)
    assert not [text for text in texts(picture) if text.startswith("broken, ")]
    assert not find_by_class(picture, "kind1")


def test_a_bar_has_its_details_in_a_tooltip(virtual: Virtual, tmp_path: Path) -> None:
    jobs = [Job(nap, 2, label="a"), Job(fail, 1, label="b", retry=1)]
    picture = draw_timeline(
        traced(virtual, Scheduler(*jobs, jobs_window=1)), tmp_path / "t.svg"
    )
    titles = [group.findtext(f"{SVG}title") for group in find_by_class(picture, "job")]
    assert titles[:2] == [
        "a\nJob, succeeded\nstarted at 0 s, took 2 s",
        "b\nJob, failed\nstarted at 2 s, took 2 s\n"
        "waited 2 s for a slot, until a released it\n2 attempts\nOSError: broken",
    ]


def test_a_tooltip_sums_the_waits_of_each_cause(
    virtual: Virtual, tmp_path: Path
) -> None:
    """It had a line for each: of a job with many attempts, dozens."""
    job = Job(fail, 1, label="b", retry=Retry(3, first=2, factor=1, jitter=False))
    picture = draw_timeline(
        traced(virtual, Scheduler(Job(nap, 1), job, jobs_window=1)), tmp_path / "t.svg"
    )
    titles = [
        group.findtext(f"{SVG}title") or "" for group in find_by_class(picture, "job")
    ]
    waits = [line for line in titles[1].splitlines() if line.startswith("waited")]
    assert waits == [
        "waited 1 s for a slot, until nap(1) released it",
        "waited 6 s for a retry",
    ]


def test_any_label_is_shown_as_text(virtual: Virtual, tmp_path: Path) -> None:
    """The timeline is well-formed for any label; unprintable characters are escaped."""
    trace = traced(
        virtual, Scheduler(*(Job(nap, label=label) for label in NASTY), label=NASTY[0])
    )
    picture = draw_timeline(trace, tmp_path / "t.svg", width=2000)
    assert len(bars(picture)) == len(NASTY)
    assert NASTY[0] in texts(picture)
    assert not [one for one in picture.iter() if one.tag.endswith(("script", "img"))]
    titles = [
        group.findtext(f"{SVG}title") or "" for group in find_by_class(picture, "job")
    ]
    assert r"control \x00 \x1b[31m \r\n \t characters" in titles[4]


def test_labels_are_shortened_to_the_width_of_their_bars(
    virtual: Virtual, tmp_path: Path
) -> None:
    """In the timeline, a long label loses its middle, one without room is left out, and those that fit stay whole."""
    label = "a label that is much too long for its bar"
    jobs = [
        Job(nap, 10, label="fits"), Job(nap, 2, label=label), Job(nap, 0.1, label="no room"), Job(nap, 9, label="x"),
    ]  # fmt: skip
    picture = draw_timeline(
        traced(virtual, Scheduler(Sequence(jobs))), tmp_path / "t.svg", width=700
    )
    first, middle, last = [
        str(piece.text) for piece in find_by_class(picture, "label")
    ][:3]
    assert (first, last) == ("fits", "x")
    begin, end = middle.split("…")
    assert label.startswith(begin)
    assert label.endswith(end)
    assert begin and end  # noqa: PT018 - one law


@pytest.mark.parametrize(
    ("follower", "seconds", "is_labeled"),
    [
        ("at once", 20, False),
        ("later", 20, True),
        ("none", 20, True),
        ("none", 10.1, False),
    ],
)
def test_a_label_beside_a_failed_bar_stands_over_emptiness(
    virtual: Virtual, tmp_path: Path, follower: str, seconds: float, is_labeled: bool
) -> None:
    """The label of a failed bar too narrow for it is beside the bar, but neither over bars nor outside the picture."""
    lane = [Job(nap, 10, label="first"), Job(fail, 0.1, label="broken")]
    beside = [Job(nap, seconds, label="beside"), Job(nap, 15, label="until then")][
        : 1 + (follower == "later")
    ]
    if follower != "none":
        lane.append(Job(nap, 4, label="next", run_if="settled", required=beside[1:]))
    picture = draw_timeline(
        traced(virtual, Scheduler(beside, Sequence(lane))),
        tmp_path / "t.svg",
        width=900,
    )
    labels = [
        piece
        for piece in find_by_class(picture, "strong")
        if "broken" in str(piece.text)
    ]
    assert bool(labels) == is_labeled
    for label in labels:
        left, baseline = float(label.get("x", "")), float(label.get("y", ""))
        right = left + text_width(str(label.text), 11, is_bold=True)
        row = [
            box
            for box in bars(picture).values()
            if box["y"] < baseline < box["y"] + box["height"]
        ]
        assert right <= 900
        assert not [
            box for box in row if box["x"] < right and left < box["x"] + box["width"]
        ]


def test_a_failed_attempt_has_a_color_of_its_own(
    virtual: Virtual, tmp_path: Path
) -> None:
    """The bar of an attempt that failed and was repeated is not that of a success, with and without a pause."""
    jobs = [
        Job(flaky(seconds=5), retry=Retry(1, first=pause, jitter=False))
        for pause in (0.0, 3.0)
    ]
    picture = draw_timeline(
        traced(virtual, Scheduler(*jobs, Job(nap, 1, label="good"))), tmp_path / "t.svg"
    )
    groups = [group for group in picture.iter(f"{SVG}g") if group.get("class") == "job"]
    shown = Counter(
        rect.get("class", "").split()[1]
        for group in groups
        for rect in group.iter(f"{SVG}rect")
    )
    assert shown["failed-attempt"] == 2
    assert sum(shown.values()) == 5
    assert "✗ failed attempt" in texts(picture)


@pytest.mark.parametrize(
    "text",
    [
        "short",
        "WWWWWWWWWWWWWWWWWWWWWW",
        "漢字漢字漢字漢字漢字",
        "iiiiiiiiiiiiiiiiiiiiii",
    ],
)
def test_a_shortened_text_fits_its_width(text: str) -> None:
    for pixels in (10, 30, 60, 100):
        assert (
            text_width(clip_text(text, pixels, 11), 11) <= pixels
            or clip_text(text, pixels, 11) == ""
        )


def test_forever_jobs_have_thin_rows_below_the_slots(
    virtual: Virtual, tmp_path: Path
) -> None:
    forever = [
        Job(anyio.sleep_forever, forever=True, label="f"),
        Service(serve, label="service"),
    ]
    nested = Scheduler(Job(nap, 2, label="inside"), forever=True, label="beside")
    trace = traced(
        virtual,
        Scheduler(*forever, nested, Job(nap, 4, label="a"), Job(nap, 4, label="b")),
    )
    picture = draw_timeline(trace, tmp_path / "t.svg")
    found = {trace.spans[number].label: box for number, box in bars(picture).items()}
    assert [text for text in texts(picture) if text.startswith("lane ")] == [
        "lane 1",
        "lane 2",
    ]
    slots = [found.pop(label) for label in "ab"]
    assert found.keys() == {"f", "service", "inside"}
    assert min(box["y"] for box in found.values()) > max(
        box["y"] + box["height"] for box in slots
    )
    assert max(box["height"] for box in found.values()) < slots[0]["height"]


def test_an_unfinished_run_is_drawn(virtual: Virtual, tmp_path: Path) -> None:
    trace = Trace()
    look = Job(later, 2, lambda: draw_timeline(trace, tmp_path / "t.svg"), label="look")
    virtual(Scheduler(look, Job(nap, 9, label="long"), instruments=[trace]).co_run)
    assert len(find_by_class(look.result(), "bar running")) == 3  # two and the legend's
    assert any("has not ended" in text for text in texts(look.result())[:2])


def test_a_trace_without_a_run_is_drawn_as_an_empty_picture(tmp_path: Path) -> None:
    assert "nothing has run" in texts(draw_timeline(Trace(), tmp_path / "t.svg"))


def test_jobs_without_duration_are_drawn(virtual: Virtual, tmp_path: Path) -> None:
    found = bars(
        draw_timeline(
            traced(virtual, Scheduler(Job(nothing), Job(fail, 0))), tmp_path / "t.svg"
        )
    )
    assert sorted(bar["width"] for bar in found.values()) == [0.5, 3]


def test_hundreds_of_jobs_are_drawn_with_few_elements(tmp_path: Path) -> None:
    """In the timeline of hundreds of jobs, narrow neighbors of one family are one bar, so that it can be displayed."""
    trace = Trace()
    Scheduler(*(Job(nothing) for _ in range(700)), instruments=[trace]).run()
    picture = draw_timeline(trace, tmp_path / "t.svg")
    assert len(list(picture.iter())) < 350
    assert float(picture.attrib["height"]) < 2000
    assert texts(picture)[1].startswith("all 700 jobs succeeded, ")


def lightness(colour: str) -> float:
    """Return how light a colour is, from 0 to 100, as one sees it in grey (CIE 1976 L*)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in parts
    ]
    luminance = sum(
        weight * part
        for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True)
    )
    return (
        116 * luminance ** (1 / 3) - 16 if luminance > 0.008856 else 903.3 * luminance
    )


def test_states_are_distinguishable_in_grey() -> None:
    """In grey, failed jobs are darker than each kind, and forever jobs lighter; those of cancelled jobs are hatched."""
    light, dark = read_resource("timeline.css").split("@media screen")
    for scheme, sign in ((light, 1), (dark, -1)):
        fills = dict(re.findall(r"\.timeline \.([\w-]+) \{ fill: ([^;]+);", scheme))
        families = [sign * lightness(fills[f"family{number}"]) for number in range(6)]
        assert sign * lightness(fills["failed"]) + 15 < min(families)
        assert max(families) + 5 < sign * lightness(fills["forever"])
    fills = dict(re.findall(r"\.timeline \.(\w+) \{ fill: ([^;]+);", light))
    assert fills["cancelled"] == "url(#trioflow-hatch)"


def test_librsvg_renders_the_timeline(virtual: Virtual, tmp_path: Path) -> None:
    """librsvg, which supports only the SVG standard, renders the timeline, and not as an empty picture."""
    save(traced(virtual, everything()), tmp_path / "t.svg")
    command = shutil.which("rsvg-convert")
    assert command is not None, "apt-get install librsvg2-bin"
    done = subprocess.run(
        [command, tmp_path / "t.svg"], capture_output=True, check=True
    )
    assert done.stdout.startswith(b"\x89PNG")
    assert len(done.stdout) > 20_000
    assert done.stderr == b""


def test_a_notebook_shows_the_timeline(virtual: Virtual) -> None:
    assert (
        traced(virtual, Scheduler(Job(nap)))
        ._repr_mimebundle_()["image/svg+xml"]
        .startswith("<svg ")
    )


def test_bars_with_equal_labels_show_their_paths(
    virtual: Virtual, tmp_path: Path
) -> None:
    inner = [
        Scheduler(
            *(Job(nap, 5, label="same") for _ in range(2)), label=f"group {'x' * 80}{n}"
        )
        for n in range(2)
    ]
    shown = texts(
        draw_timeline(
            traced(virtual, Scheduler(Sequence(inner), Job(nap, 5))), tmp_path / "t.svg"
        )
    )
    assert (
        sum(text.endswith("/same") for text in shown)
        == sum(text.endswith("/same#2") for text in shown)
        == 2
    )


# ---- slots
def slots(
    virtual: Virtual, path: Path, *jobs: Any, **options: Any
) -> tuple[Any, Trace]:
    """Return the picture of these jobs and of sixty others, which begin after them."""
    more = [Job(nap, 0.5, label=f"more {n}", required=jobs) for n in range(61)]
    trace = traced(virtual, Scheduler(*jobs, *more, **options), jobs_window=4)
    return draw_timeline(trace, path), trace


def test_rows_are_slots(virtual: Virtual, tmp_path: Path) -> None:
    """Rows of the timeline are slots, in which bars never overlap; narrow neighbors of one family share a bar."""
    jobs = [Job(nap, 3 + n, label=f"train {n}") for n in range(6)]
    picture, trace = slots(virtual, tmp_path / "t.svg", *jobs)
    assert [text for text in texts(picture) if text.startswith("lane ")] == [
        "lane 1",
        "lane 2",
        "lane 3",
        "lane 4",
    ]
    numbers: list[int] = []
    rows: dict[str, list[tuple[float, float]]] = {}
    for group in find_by_class(picture, "job"):
        (box,) = group.findall(f"{SVG}rect")
        numbers += map(
            int, group.get("data-numbers", group.get("data-number", "")).split()
        )
        rows.setdefault(box.get("y", ""), []).append(
            (float(box.get("x", "")), float(box.get("width", "")))
        )
    assert sorted(numbers) == [span.number for span in trace.spans]
    assert len(rows) == 4
    for bars_of_row in rows.values():
        for (x, width), (following, _) in itertools.pairwise(sorted(bars_of_row)):
            assert x + width <= following + 0.02


def test_bars_on_the_critical_path_have_a_border(
    virtual: Virtual, tmp_path: Path
) -> None:
    first = Job(nap, 5, label="first")
    trace = traced(
        virtual,
        Scheduler(first, Job(nap, 4, label="last", required=first), Job(nap, 3)),
    )
    picture = draw_timeline(trace, tmp_path / "t.svg")
    groups = find_by_class(picture, "job")
    marked = [
        int(group.attrib["data-number"])
        for group in groups
        if "on-path" in group[1].attrib["class"]
    ]
    assert marked == [span.number for span in trace.critical_path]
    assert "critical path" in texts(picture)


def test_a_job_with_several_attempts_is_one_job_in_the_legend_and_in_a_bar(
    virtual: Virtual, tmp_path: Path
) -> None:
    """A job that had its slot three times, with pauses between its attempts, counts as one job of its family."""
    retry = Retry(3, first=1, factor=1, jitter=False)
    trace = traced(
        virtual,
        Scheduler(Job(flaky(2), label="flaky", retry=retry), Job(nap, 9, label="nap")),
    )
    found = texts(draw_timeline(trace, tmp_path / "t.svg", width=300))
    assert [text for text in found if text.startswith("flaky")] == ["flaky, 3 s"]
    assert [family.count for family in trace.time_spent().families] == [1, 1]


def test_merged_attempts_of_a_job_are_one_job(virtual: Virtual, tmp_path: Path) -> None:
    """Narrow bars of failed attempts of one job are merged to a bar with the tooltip of the job, not with a number."""
    job = Job(
        flaky(2), label="busy", retry=Retry(3, first=0.01, factor=1, jitter=False)
    )
    picture = draw_timeline(
        traced(virtual, Scheduler(job, Job(nap, 900, label="nap"))), tmp_path / "t.svg"
    )
    titles = [title.text or "" for title in picture.iter(f"{SVG}title")]
    assert [title.partition("\n")[0] for title in titles if "busy" in title] == [
        "busy",
        "busy",
    ]


# --- `compute_ticks`: the ticks of a timeline's axis
@pytest.mark.parametrize(
    ("end", "texts"),
    [
        (3.3e-6, "0|1 µs|2 µs|3 µs"), (0.9, "0|200 ms|400 ms|600 ms|800 ms"), (2, "0|500 ms|1 s|1.5 s|2 s"),
        (33, "0|10 s|20 s|30 s"), (100, "0|30 s|1 min|1 min 30 s"), (3700, "0|15 min|30 min|45 min|1 h"),
        (9000, "0|30 min|1 h|1 h 30 min|2 h|2 h 30 min"), (200_000, "0|12 h|1 d|1 d 12 h|2 d"),
        (432_000, "0|1 d|2 d|3 d|4 d|5 d"),
    ],
)  # fmt: skip
def test_ticks_are_at_round_numbers_of_a_unit(end: float, texts: str) -> None:
    assert "|".join(text for _, text in compute_ticks(end, 5)) == texts


@given(st.floats(1e-7, 1e10), st.integers(1, 20))
def test_ticks_are_equally_spaced_on_the_whole_axis(end: float, most: int) -> None:
    """Ticks begin at 0, do not exceed the axis or their maximum number, are equally spaced, and have unique labels."""
    found = compute_ticks(end, most)
    assert found[0] == (0, "0")
    assert len(found) <= most + 1
    assert found[-1][0] <= end * (1 + 1e-9)
    assert len({text for _, text in found}) == len(found)
    steps = [round((b - a) / end, 9) for (a, _), (b, _) in itertools.pairwise(found)]
    assert len(set(steps)) <= 1


def test_tick_steps_increase() -> None:
    assert list(TICK_STEPS) == sorted(set(TICK_STEPS))


# --- rows for intervals: none overlaps in its row, and there are no more rows than needed

intervals = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6)), max_size=40).map(
    lambda pairs: sorted(
        (float(begin), float(begin + length)) for begin, length in pairs
    )
)


@given(intervals)
def test_each_interval_takes_the_lowest_free_lane(
    given: list[tuple[float, float]],
) -> None:
    until: list[float] = []
    for (begin, end), lane in zip(given, assign_lanes(given), strict=True):
        expected = next(
            (number for number, free in enumerate(until) if free <= begin), len(until)
        )
        assert lane == expected
        until[lane : lane + 1] = [end]


@given(intervals, st.lists(st.none() | st.integers(0, 20).map(float), max_size=40))
def test_job_that_waited_takes_the_last_free_lane(
    given: list[tuple[float, float]], since: list[float | None]
) -> None:
    until: list[float] = []
    waits = [*since, *[None] * len(given)]
    for (begin, end), waiting, lane in zip(
        given, waits, assign_lanes(given, since), strict=False
    ):
        free = [number for number, at in enumerate(until) if at <= begin]
        latest = max((until[number] for number in free), default=0.0)
        if waiting is not None and latest > waiting:
            assert until[lane] == latest
        else:
            assert lane == min(free, default=len(until))
        until[lane : lane + 1] = [end]


def test_equal_waves_of_jobs_take_the_same_lanes() -> None:
    wave = [(0.0, 5.0), (0.0, 3.0), (3.0, 4.0)]
    both = [*wave, *((begin + 5, end + 5) for begin, end in wave)]
    assert list(assign_lanes(both, [0, 0, 0, 5, 5, 5])) == [0, 1, 1, 0, 1, 1]
