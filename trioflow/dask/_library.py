"""Dask, imported when it is first used."""

from __future__ import annotations

from types import ModuleType


def imported(name: str) -> ModuleType:
    """Import a module of Dask's."""
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'{error}: install it with pip install "trioflow[dask]"', name=error.name) from None
