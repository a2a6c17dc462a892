"""The colours of the monitor: important text is readable on every background and with every palette."""

from __future__ import annotations

from typing import Any

import pytest
from rich.color import ColorType

from trioflow import Job, Monitor, Scheduler
from trioflow.view.monitor._terminal import STYLES

from ...bodies import fail, nap
from ...conftest import Virtual
from ..contrast import contrast
from .monitors import Terminal

GROUNDS = {
    "xterm, dark": "#000000", "xterm, light": "#ffffff", "VS Code, dark": "#1e1e1e", "VS Code, light": "#ffffff",
    "GNOME, dark": "#171421", "GNOME, light": "#ffffff",
    "JupyterLab, dark": "#111111", "JupyterLab, light": "#ffffff",
}  # fmt: skip
COLOURED = [name for name, style in STYLES.items() if style.color is not None]


@pytest.mark.parametrize("ground", GROUNDS)
def test_symbols_and_bars_have_enough_contrast_on_every_background(ground: str) -> None:
    """The monitor's symbols and bars have a contrast of at least 3, in colours that no palette changes."""
    for name in COLOURED:
        colour: Any = STYLES[name].color
        assert colour.type is ColorType.EIGHT_BIT, name
        assert colour.number >= 16, f"{name}: the first sixteen differ from palette to palette"
        assert contrast(colour.get_truecolor().hex, GROUNDS[ground]) >= 3, name


def test_no_style_is_dimmed() -> None:
    """No style of the monitor is dimmed, because dimmed text is unreadable on some terminals."""
    assert not any(style.dim for style in STYLES.values())


def test_only_symbols_bars_and_the_verdict_are_coloured(virtual: Virtual, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the monitor's picture, letters and digits below the verdict have the terminal's default colour."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    inner = Scheduler(Job(fail, label="bad"), Job(nap, label="good"), label="inner", critical=True)
    scheduler = Scheduler(inner, Job(nap, 9, label="w", forever=True), Job(nap, 2, inner.required, label="last"))
    virtual(Scheduler(scheduler, instruments=[Monitor(file=terminal)]).co_run)
    cells = [terminal.screen.buffer[y][x] for y in range(24) for x in range(80)]
    assert {cell.fg for cell in cells[:80] if cell.bold and cell.data.isalnum()} == {"default", "ff0000"}
    assert {cell.fg for cell in cells[80:] if cell.data.isalnum()} == {"default"}
    symbols = [cell for number, cell in enumerate(cells) if cell.data in "✓✗" and number % 80 < 5]
    assert {cell.fg for cell in symbols} == {"00875f", "ff0000"}
