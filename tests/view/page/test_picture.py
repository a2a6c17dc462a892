"""The graph on a page: what its boxes stand for, and when it is laid out again."""

import json
import math
from collections.abc import Callable
from graphlib import TopologicalSorter
from typing import Any
from xml.etree import ElementTree as Tree
import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow import First, Job, Scheduler
from trioflow._core.words._run_view import runs_in_progress
from trioflow.view.look._console import WatchedRun, name_of
from trioflow.view.look._picture import FOLDED, JOBS, MISSING, TOO_MANY, Picture
from trioflow.view.look._watch import Watch
from ...bodies import fail, later, nap
from ...conftest import Virtual

NASTY = [
    "<b>&amp;",
    "\\N\\l",
    '"] ; x -> y [',
    "{|}<f0>",
    "a\nb",
    "\u202eabc",
    "<img src=x onerror=alert(1)>",
    " ",
]


def ask_each_second(
    virtual: Virtual, scheduler: Scheduler, run: WatchedRun, see: Callable[[], object]
) -> None:
    """Run a scenario; let its page take the changes, and see all of them, once a second."""
    watches = list[Watch]()

    async def ask() -> None:
        await anyio.sleep(0.5)
        watches.append(Watch(runs_in_progress()[0]))
        while True:
            run.update(
                json.loads(json.dumps({"may_steer": False, **watches[0].answer()}))
            )
            if not run.answer["more"]:
                see()
            await anyio.sleep(1)

    scheduler.add(Job(ask, forever=True, label="who asks"))
    virtual(scheduler.co_run)


def pictures_of(
    virtual: Virtual, scheduler: Scheduler, run: WatchedRun | None = None
) -> list[Picture]:
    """Run a scenario; return the picture of its page once a second."""
    pictures, run = list[Picture](), run or WatchedRun()
    ask_each_second(virtual, scheduler, run, lambda: pictures.append(Picture(run)))
    return pictures


def first_picture(virtual: Virtual, scheduler: Scheduler) -> Picture:
    pictures, run = list[Picture](), WatchedRun()
    ask_each_second(
        virtual, scheduler, run, lambda: pictures or pictures.append(Picture(run))
    )
    return pictures[0]


def last_picture(
    virtual: Virtual, scheduler: Scheduler, run: WatchedRun | None = None
) -> Picture:
    run = run or WatchedRun()
    ask_each_second(virtual, scheduler, run, lambda: None)
    assert not run.answer["more"]
    return Picture(run)


def titles(picture: Picture) -> list[str]:
    """Return the paths of the boxes and frames that are drawn; those of frames end in a slash."""
    plan = picture.plan
    return [
        "/".join(plan.titles[place[: depth + 1]] for depth in range(len(place)))
        + "/" * (place in plan.members)
        for place in plan.titles
    ]


def text_of(svg: str) -> list[str]:
    return [
        element.text or ""
        for element in Tree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    ]


# ---- each job is in one box
@given(st.randoms(use_true_random=False), st.booleans())
def test_each_job_is_in_one_box_and_all_are_counted(
    random: Any, keep_jobs: bool
) -> None:
    """Boxes form no cycle, share no job, and name a job that is alone. A family that was split in time formed one."""
    results: list[Any] = []

    def members(depth: int) -> list[Any]:
        made: list[Any] = []
        for number in range(random.randint(0 if depth else 2, 6)):
            label, kind = (
                random.choice(("a", f"a {number}", "")),
                random.choice((Scheduler, First, Job, Job, Job)),
            )
            required = random.sample(made, min(len(made), random.randint(0, 2)))
            if kind is Job or depth == 3:
                taken = random.sample(
                    results, min(len(results), random.choice((0, 0, 1)))
                )
                made.append(Job(nap, 3, *taken, label=label, required=required))
                results.append(made[-1])
            elif kind is First:
                made.append(
                    First(Job(nap, 2), Job(nap, 3), label=label, required=required)
                )
            else:
                made.append(
                    Scheduler(members(depth + 1), label=label, required=required)
                )
        return made

    run = WatchedRun()
    picture = last_picture(
        Virtual("trio"), Scheduler(members(0), Job(nap, 9), keep_jobs=keep_jobs), run
    )
    counted = sorted(facts.span.number for facts in run.counted()[1])
    for placing, plan in picture._plans.items():
        boxes = [place for place in plan.titles if place not in plan.members]
        assert sorted(key for box in boxes for key in plan.jobs[box]) == counted
        placed = [place for places in plan.members.values() for place in places]
        assert len(placed) == len(plan.titles)
        assert set(placed) == plan.titles.keys()
        for frame in plan.members.keys() - {()}:
            inside = (
                key
                for box in boxes
                if box[: len(frame)] == frame
                for key in plan.jobs[box]
            )
            assert sorted(plan.jobs[frame]) == sorted(inside)
        assert placing is not JOBS or all(len(plan.jobs[box]) == 1 for box in boxes)
        ends = (
            (a, b, next(n for n in range(1, 9) if a[:n] != b[:n]))
            for a, b in plan.edges
            if a
        )
        sorter = TopologicalSorter[Any]()
        for a, b, depth in ends:
            sorter.add(b[:depth], a[:depth])
        sorter.prepare()  # which a cycle refuses
        jobs = {key: facts for key, (_, facts) in run.jobs.items()}
        for box in boxes:
            shown = plan.jobs[box]
            if keep_jobs and len(shown) == 1 and placing.frame_depth == math.inf:
                assert plan.titles[box] == name_of(jobs[shown[0]].span.label)
            if isinstance(box[-1], tuple) and not box[-1][1]:
                assert not any(
                    set(shown) & set(jobs[key].span.required) for key in shown
                )


def test_what_a_picture_shows_adds_up_to_the_counts_of_its_run(
    virtual: Virtual,
) -> None:
    """The shares of a box are its jobs by state; its own state is the worst; how many have settled stands in it."""
    jobs = [Job(nap, number % 5, label=f"nap {number}") for number in range(310)]
    group = Scheduler(
        jobs,
        Job(fail, 1, critical=False, label="fail 1"),
        label="many",
        jobs_window=100,
    )
    run = WatchedRun()
    picture = last_picture(
        virtual, Scheduler(group, Job(nap, 4, label="last", required=group)), run
    )
    states = {
        text: shown for _, text, _, *shown in picture.draw(1).states(run).values()
    }
    assert states["fail 1: 1 failed"] == ["1 of 1", [["failed", 1]]]
    assert states["nap *: 310 succeeded"] == ["310 of 310", [["succeeded", 310]]]
    assert states["many: 310 succeeded, 1 failed"] == [
        "311 of 311",
        [["succeeded", 310], ["failed", 1]],
    ]
    styles = {text: style for style, text, *_ in picture.states(run).values()}
    assert styles["many: 310 succeeded, 1 failed"] == "many failed"
    assert styles["last: 1 running"] == "many running"


# ---- the form with the most details that can be read
def few() -> list[Any]:
    return [
        Job(nap, 2, label="load"),
        Scheduler(Job(nap, 2, label="a"), Job(nap, 2, label="b"), label="group"),
    ]


def stages() -> list[Any]:
    return [
        Scheduler([Job(nap, 2, label=f"{name} {n}") for n in range(160)], label=name)
        for name in ("get", "put")
    ]


def nodes() -> list[Any]:
    return [
        Scheduler([Job(nap, 2, label=step) for step in "abc"], label=f"node {n}")
        for n in range(104)
    ]


def hosts() -> list[Any]:
    """Return groups of different names, more than can have labels."""
    steps = [f"step {'x' * n}" for n in range(4)]
    return [
        Scheduler([Job(nap, 2, label=step) for step in steps], label="h" * n)
        for n in range(1, 80)
    ]


def shops() -> list[Any]:
    """Return 300 jobs in groups of groups: the jobs are too many for boxes, and the inner groups are not."""

    def shop(number: int) -> Scheduler:
        return Scheduler(
            [Job(nap, 2, label=f"{step} it") for step in "abcdefghijklmno"],
            label=f"shop {number}",
        )

    return [
        Scheduler([shop(number) for number in range(4)], label=city)
        for city in ("Oslo", "Bergen", "Tromsø")
    ]


@pytest.mark.parametrize(
    ("scenario", "note", "expected"),
    [
        (
            shops,
            FOLDED,
            {
                *(
                    f"{city}/{end}"
                    for city in ("Oslo", "Bergen", "Tromsø")
                    for end in ("", *(f"shop {n}" for n in range(4)))
                )
            },
        ),
        (few, "", {"load", "group/", "group/a", "group/b"}),
        (stages, FOLDED, {"get/", "get/get *", "put/", "put/put *"}),
        (nodes, FOLDED, {"node */", "node */a", "node */b", "node */c"}),
        (hosts, FOLDED, {"h" * n for n in range(1, 80)}),
    ],
)
def test_most_detailed_readable_form_is_drawn(
    virtual: Virtual, scenario: Any, note: str, expected: set[str]
) -> None:
    """Groups are frames; of many jobs, those that differ in numbers only are one box; so are groups."""
    picture = first_picture(virtual, Scheduler(scenario())).draw(1)
    assert picture.note == note
    assert {title for title in titles(picture) if title != "who asks"} == expected


def test_hundreds_of_jobs_are_squares_with_few_lines(virtual: Virtual) -> None:
    """Boxes with the same requirements stand in a grid, whose outer rows alone have the lines of all."""
    first = Job(nap, 9, label="first")
    many = [Job(nap, 9, label=f"job {number}", required=first) for number in range(200)]
    picture = first_picture(
        virtual, Scheduler(first, many, Job(nap, label="last", required=many))
    ).draw(1)
    assert picture.svg.count('class="node"') == 203
    assert text_of(picture.svg) == []
    assert 15 < picture.svg.count('class="edge"') < 60


def test_too_many_different_jobs_are_said_to_be(virtual: Virtual) -> None:
    jobs = [Job(nap, 9, label="x" * number) for number in range(1, 302)]
    picture = first_picture(virtual, Scheduler(jobs)).draw(1)
    assert (picture.svg, picture.note) == ("", TOO_MANY)


# ---- when it is laid out
def growing() -> Scheduler:
    """Return a run that grows and drops its jobs: pages, each of which is parsed, and sites with steps."""

    async def feed() -> None:
        for number in range(20):
            page = pages.add(Job(nap, 1, label=f"page {number}"))
            pages.add(Job(nap, 1, label=f"parse {number}", required=page))
            scheduler.add(
                Scheduler(
                    Job(nap, 1, label="fetch"),
                    Job(nap, 2, label="store"),
                    label=f"site {number}",
                )
            )
            await anyio.sleep(0.5)

    pages = Scheduler(Job(feed, label="feed"), label="pages", keep_jobs=False)
    scheduler = Scheduler(pages, keep_jobs=False, label="crawl")
    return scheduler


def test_the_graph_of_a_run_that_grows_has_its_families_and_groups(
    virtual: Virtual,
) -> None:
    """They change seldom: it is not laid out again when there are more jobs, or more groups of a family."""
    run = WatchedRun()
    pictures = pictures_of(virtual, growing(), run)
    pictures[4].draw(1)
    pages = {"pages/", "pages/feed", "pages/page *", "pages/parse *"}
    assert set(titles(pictures[4])) == pages | {
        "site */",
        "site */fetch",
        "site */store",
        "who asks",
    }
    for picture in pictures[5:]:
        assert picture.take_layout(pictures[4])
        assert picture.svg == pictures[4].svg
    plan = pictures[-1].plan
    assert {(plan.titles[tail], plan.titles[head]) for tail, head in plan.edges} == {
        ("page *", "parse *")
    }
    assert {plan.titles[place]: len(keys) for place, keys in plan.jobs.items()}[
        "site *"
    ] > 20
    assert pictures[-1].states(run).keys() == pictures[4].states(run).keys()
    assert all(f'id="{name}"' in pictures[4].svg for name in pictures[-1].states(run))


def test_another_structure_is_laid_out_again(virtual: Virtual) -> None:
    scheduler = Scheduler(
        Job(later, 2, lambda: scheduler.add(Job(nap, 3, label="late")), label="adds"),
        Job(nap, 5, label="early"),
    )
    pictures = pictures_of(virtual, scheduler)
    assert not pictures[-1].take_layout(pictures[0])
    assert pictures[1].take_layout(pictures[0])


def test_no_two_layouts_have_the_same_names(virtual: Virtual) -> None:
    pictures = [
        last_picture(virtual, Scheduler(few()), run := WatchedRun()).draw(number)
        for number in (1, 2)
    ]
    first, second = (picture.states(run).keys() for picture in pictures)
    assert len(first) == len(second) == 5
    assert not first & second


def test_the_graph_of_another_run_has_no_jobs_until_it_is_laid_out(
    virtual: Virtual,
) -> None:
    picture = first_picture(virtual, Scheduler(few())).draw(1)
    assert picture.states(WatchedRun()).keys() == set(picture.names.values())


@pytest.mark.parametrize("is_large", [False, True])
def test_hostile_labels_are_text(virtual: Virtual, is_large: bool) -> None:
    """A picture has no element and no attribute that a label has made, and shows each label literally."""
    count = 40 if is_large else 1  # then there are families
    jobs = [
        Job(nap, 9, label=f"{label} {n}" if is_large else label)
        for label in NASTY
        for n in range(count)
    ]
    group = Scheduler([Job(nap, 9, label=label) for label in NASTY], label='"} evil {"')
    picture = first_picture(virtual, Scheduler(jobs, group)).draw(1)
    assert picture.svg.count('class="node"') == 2 * len(NASTY) + 1
    shown = "".join(text_of(picture.svg))
    assert '"} evil {"' in shown
    assert all(label in shown.replace("\xa0", " ") for label in NASTY[:4])
    assert "\u202e" not in picture.svg


def test_without_graphviz_a_line_says_how_to_get_it(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    picture = first_picture(
        virtual, Scheduler(Job(nap, 2, label="a"), Job(nap, 3, label="b"))
    ).draw(1)
    assert (picture.svg, picture.note) == ("", MISSING)


def test_jobs_of_a_family_that_wait_for_each_other_have_boxes_of_their_own(
    virtual: Virtual,
) -> None:
    """Steps that come twice fold on each level alone: the picture led from "export *" back to "extract *". A job that
    is the only one of its family keeps its name: it was "step *: approve"."""
    jobs, after = list[Job[Any]](), list[Job[Any]]()
    for turn in (1, 2):
        for step in ("extract", "load", "export"):
            after = [
                Job(nap, 1, label=f"{step} {turn}{n}", required=after[n : n + 1])
                for n in range(50)
            ]
            jobs += after
    picture = last_picture(
        virtual, Scheduler(jobs, Job(nap, 1, label="step 7: approve", required=after))
    ).draw(1)
    folded = ["extract *", "load *", "export *"]
    assert titles(picture) == [*folded, *folded, "step 7: approve", "who asks"]
    assert [len(picture.plan.jobs[place]) for place in picture.plan.titles] == [
        50
    ] * 6 + [1, 1]
    assert len(picture.plan.edges) == 6
