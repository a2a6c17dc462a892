"""Which backends exist, and which of them is running."""

import asyncio
import contextvars
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
    libraries = [name for name in dict.fromkeys(imported) if not name.startswith("._fast")]
    assert libraries == ["._asyncio", "._trio", "anyio._backends._trio"]


@pytest.mark.parametrize("imported", [False, True])
def test_current_backend_is_asyncio_only_in_a_task_of_asyncio(monkeypatch: pytest.MonkeyPatch, imported: bool) -> None:
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


class OwnLoop(asyncio.SelectorEventLoop):
    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]


@pytest.mark.fast_way("asyncio")
@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, OwnLoop])
def test_an_iteration_of_a_loop_in_python_is_known_by_its_frame_at_any_depth(loop: type[Any]) -> None:
    """However many functions are called in between, an iteration is the same object, for which no callback is added."""
    from trioflow._core.backend._fast_asyncio import LoopIterations

    def at_depth(iterations: LoopIterations, depth: int) -> object:
        return at_depth(iterations, depth - 1) if depth else iterations.current()

    async def main() -> list[set[object]]:
        iterations = LoopIterations(asyncio.get_running_loop(), contextvars.copy_context())
        found: list[set[object]] = []
        for _ in range(2):
            found.append({at_depth(iterations, depth) for depth in range(1, 9)})
            assert iterations._current is None, "a callback was added"
            await asyncio.sleep(0)
        return found

    with asyncio.Runner(loop_factory=loop) as runner:
        first, second = runner.run(main())
    assert len(first) == len(second) == 1
    assert first != second
