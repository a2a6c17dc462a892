"""Which backends exist, and which of them is running."""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import Any

import pytest

from trioflow._core import backend


def test_each_backend_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each backend is loaded once, and trio's with anyio's part for trio, so that no job waits for that import."""
    imported: list[str] = []

    def note(name: str, package: str | None = None) -> Any:
        imported.append(name)
        return importlib.import_module(name, package)

    monkeypatch.setattr(backend, "_loaded_backends", {})
    monkeypatch.setattr(backend, "import_module", note)
    found = {name: backend.get_backend(name) for name in ("asyncio", "trio")}
    assert all(backend.get_backend(name) is found[name] for name in found)
    assert [name for name in imported if "loop" in name or "anyio" in name] == [
        ".loop._asyncio", ".loop._trio", "anyio._backends._trio"
    ]  # fmt: skip


@pytest.mark.parametrize("imported", [False, True])
def test_current_backend_is_asyncio_only_in_a_task_of_asyncio(monkeypatch: pytest.MonkeyPatch, imported: bool) -> None:
    """The current backend is asyncio in its tasks, not in callbacks of its loop, whether or not trio is imported."""
    if not imported:
        monkeypatch.delitem(sys.modules, "trio")
    in_callback = asyncio.Event()

    def call_back() -> None:
        with pytest.raises(RuntimeError, match="must be awaited in a trio or asyncio task"):
            backend.current_backend()
        in_callback.set()

    async def main() -> str:
        asyncio.get_running_loop().call_soon(call_back)
        await asyncio.wait_for(in_callback.wait(), 1)
        return backend.current_backend().name

    assert asyncio.run(main()) == "asyncio"
    with pytest.raises(RuntimeError, match="must be awaited in a trio or asyncio task"):
        backend.current_backend()
