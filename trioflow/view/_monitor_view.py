"""The pictures of one run: its head and its jobs, put together for a size."""

from __future__ import annotations

from typing import Final

from ._monitor_forecast import Forecast
from ._monitor_head import Head
from ._monitor_layout import Layout, Nested
from ._monitor_model import Model
from ._monitor_text import Line, Pictures
from ._script import Script


class View:
    """What a monitor shows of one run on one stream."""

    def __init__(self, model: Model, script: Script, nested: Nested) -> None:
        self._model: Final = model
        self._head: Final = Head(model, script)
        self._pictures: Final = Pictures(model, Layout(model, nested), script)
        self._forecast: Final = Forecast(model)

    def draw(self, columns: int, height: int) -> list[Line]:
        """Return at most `height` lines of at most `columns`; the last picture of a run has all failures."""
        remaining = self._forecast.remaining() if self._model.ended is None else None
        return self._pictures.picture(columns, height, self._head.lines(columns, remaining))
