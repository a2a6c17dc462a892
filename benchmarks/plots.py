"""The plots: what a job costs to run, how that grows, and memory, cancellation and delays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams.update(
    {
        "svg.hashsalt": "trioflow",  # the same numbers make the same file
        "svg.fonttype": "none",  # text remains text
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
    }
)

import matplotlib.pyplot as plt  # noqa: E402 - the settings come first

from .figures import Results  # noqa: E402
from .measuring import METRICS, Measurement  # noqa: E402
from .plans import ALL_SHAPES, LOOPS  # noqa: E402
from .rivals import OURS  # noqa: E402

COLOUR: Final = "#c2410c"
OTHERS: Final = (
    "#1e3a5f",
    "#3b6ea5",
    "#7aa6cf",
    "#b4cfe6",
    "#6b7280",
    "#9ca3af",
    "#c3c8cf",
    "#dfe2e6",
    "#0f766e",
    "#7ab8b0",
)
WIDE_RANGE: Final = 30
WHITE: Final = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}

GROWING: Final = (("growth", "run"), ("waiting", "overhead"))
"""Cases with a line for this metric of each contestant, by the number of jobs."""

SINGLE: Final = (
    ("memory", "waiting"),
    ("memory", "running"),
    ("cancel", "cancel"),
    ("ticker", "delay p99"),
    ("latency", "latency p50"),
)
"""Cases with one bar for each measurement of this metric."""


def draw(measurements: Iterable[Measurement], directory: Path) -> list[str]:
    """Draw all that was measured, and return the names of the files."""
    results = Results(measurements)
    directory.mkdir(parents=True, exist_ok=True)
    names = []
    for name, figure in (*running(results), *growth(results), *single(results)):
        figure.savefig(directory / name, metadata={"Date": None}, bbox_inches="tight")
        plt.close(figure)
        names.append(name)
    return names


def colours(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each name: ours stands out, the rivals have blues, greys and greens."""
    others = [name for name in dict.fromkeys(names) if name != OURS]
    return {OURS: COLOUR, **{name: OTHERS[number % len(OTHERS)] for number, name in enumerate(others)}}


def running(results: Results) -> Iterator[tuple[str, Any]]:
    """Draw, for each backend, the CPU time of a job, by body and shape."""
    for backend in LOOPS:
        bodies = [
            body
            for body in ("no-op", "checkpoint", "nap")
            if results.find("running", "run", OURS, backend=backend, body=body, window=None)
        ]
        if not bodies:
            continue
        figure, axes = plt.subplots(len(bodies), 1, figsize=(8, 2.6 * len(bodies)), squeeze=False, layout="constrained")
        for axis, body in zip(axes[:, 0], bodies, strict=True):
            found = results.find("running", "run", backend=backend, body=body, window=None)
            grouped(axis, found)
            sizes = " or ".join(f"{size:,}" for size in sorted({one.setting.size for one in found}))
            axis.set_title(f"{body}, {sizes} jobs, {backend}", loc="left")
            axis.set_ylabel("µs of CPU a job")
        yield f"running-{backend}.svg", figure


def grouped(axis: Any, found: Sequence[Measurement]) -> None:
    """Draw a group of bars for each shape, one bar for each contestant, ours first."""
    names = list(dict.fromkeys(sorted((one.contestant for one in found), key=lambda name: name != OURS)))
    shapes = [shape for shape in ALL_SHAPES if any(one.setting.shape == shape for one in found)]
    colour = colours(names)
    width = 0.85 / len(names)
    for place, name in enumerate(names):
        bests = {one.setting.shape: one.best for one in found if one.contestant == name}
        xs = [number + (place - (len(names) - 1) / 2) * width for number, shape in enumerate(shapes) if shape in bests]
        ys = [bests[shape] for shape in shapes if shape in bests]
        axis.bar(xs, ys, width * 0.92, color=colour[name], label=name)
        if name == OURS:
            for x, y in zip(xs, ys, strict=True):
                axis.annotate(f"{y:.2g}", (x, y), ha="center", va="bottom", color=COLOUR, fontsize=8, bbox=WHITE)
    axis.set_xticks(range(len(shapes)), shapes)
    axis.set_yscale(scale(found))
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def scale(found: Sequence[Measurement]) -> str:
    """Return the scale of an axis for bars: one that begins at 0, unless some would then be too short to see."""
    bests = [one.best for one in found]
    return "log" if max(bests) > WIDE_RANGE * min(bests) else "linear"


def growth(results: Results) -> Iterator[tuple[str, Any]]:
    """Draw the CPU time of a job by the number of jobs; a flat line is best."""
    for case, metric in GROWING:
        if found := results.find(case, metric):
            yield f"{case}.svg", by_size(found)


def by_size(found: Sequence[Measurement]) -> Any:
    """Draw a panel for each scenario and backend, with a line for each contestant."""
    panels = list(dict.fromkeys((one.setting.shape, one.setting.body) for one in found))
    backends = list(dict.fromkeys(one.setting.backend for one in found))
    figure, axes = plt.subplots(
        len(panels),
        len(backends),
        figsize=(5 * len(backends), 3 * len(panels)),
        squeeze=False,
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    for column, backend in enumerate(backends):
        colour = colours(one.contestant for one in found if one.setting.backend == backend)
        for row, (shape, body) in enumerate(panels):
            axis = axes[row, column]
            for name in colour:
                points = sorted(
                    (one.setting.size, one.best)
                    for one in found
                    if (one.contestant, one.setting.backend, one.setting.shape) == (name, backend, shape)
                )
                if points:
                    axis.plot(*zip(*points, strict=True), "o-", ms=3, color=colour[name], label=name)
            axis.set(xscale="log", yscale="log", title=f"{shape}, {body}, {backend}")
            axis.title.set_size(9)
            axis.set(xlabel="jobs" if row == len(panels) - 1 else None, ylabel="" if column else "µs of CPU a job")
        lines, names = axes[0, column].get_legend_handles_labels()
        axes[-1, column].legend(
            lines, names, frameon=False, fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.2)
        )
    return figure


def single(results: Results) -> Iterator[tuple[str, Any]]:
    """Draw memory, cancellation, the ticker and latency as bars, one panel for each backend."""
    for case, metric in SINGLE:
        found = results.find(case, metric)
        backends = list(dict.fromkeys(one.setting.backend for one in found))
        if not found:
            continue
        most = max(sum(one.setting.backend == backend for one in found) for backend in backends)
        figure, axes = plt.subplots(
            1, len(backends), figsize=(5 * len(backends), 1 + 0.2 * most), squeeze=False, layout="constrained"
        )
        unit, meaning = METRICS[metric]
        figure.suptitle(meaning, x=0.01, ha="left", fontsize=10)
        for axis, backend in zip(axes[0], backends, strict=True):
            here = [one for one in found if one.setting.backend == backend]
            bars(axis, here)
            axis.set(title=backend, xlabel=unit, xscale=scale(here))
        yield f"{case}-{metric}.svg" if case == "memory" else f"{case}.svg", figure


def bars(axis: Any, found: Sequence[Measurement]) -> None:
    """Draw a horizontal bar for each measurement, ours in its colour."""
    labels = [" ".join(filter(None, (one.contestant, varying(one, found)))) for one in found]
    axis.barh(
        labels, [one.best for one in found], color=[COLOUR if one.contestant == OURS else OTHERS[1] for one in found]
    )
    axis.invert_yaxis()
    for place, one in enumerate(found):
        axis.annotate(
            f" {one.best:,.0f}" if one.best >= 100 else f" {one.best:.3g}", (one.best, place), va="center", fontsize=7
        )


def varying(one: Measurement, found: Sequence[Measurement]) -> str:
    """Return the conditions by which a measurement differs from others in the same panel."""
    setting = one.setting
    shape = setting.shape if len({other.setting.shape for other in found}) > 1 else ""
    body = setting.body if len({other.setting.body for other in found}) > 1 else ""
    conditions = ", ".join(filter(None, (shape, body)))
    return f"({conditions})" if conditions else ""
