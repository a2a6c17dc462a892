"""What a report says of where and how a run went: host, versions, backend, and the options of the scheduler."""

from __future__ import annotations

import html as escapes
import platform
from collections.abc import Iterator
from importlib import metadata

from ...._core.api.views import duration_text, name_of_policy, printable
from .._spans import RunSpan


def section(roots: list[RunSpan]) -> str:
    """Return the facts, folded; nothing if nothing has run."""
    facts = [*_host(roots), *(fact for run in roots for fact in _options(run, len(roots) > 1))] if roots else []
    told = "".join(f"<dt>{escapes.escape(name)}</dt><dd>{escapes.escape(printable(said))}</dd>" for name, said in facts)
    return (
        f'<details id="about" class="card fold"><summary>Where and how it ran</summary><dl>{told}</dl></details>'
        * bool(told)
    )


def _host(roots: list[RunSpan]) -> Iterator[tuple[str, str]]:
    yield "host", platform.node() or "unknown"
    yield "system", platform.platform()
    packages = [f"Python {platform.python_version()}", *filter(None, map(_version, ("trioflow", "trio", "anyio")))]
    yield "versions", ", ".join(packages)
    yield "backend", ", ".join(dict.fromkeys(run.backend for run in roots if run.backend)) or "unknown"


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return ""


def _options(run: RunSpan, is_named: bool) -> Iterator[tuple[str, str]]:
    """Yield the options that are not as they are by default."""
    scheduler = run.scheduler
    found = {
        "jobs_window": None if run.window is None else str(run.window),
        "timeout": None if scheduler.timeout is None else duration_text(scheduler.timeout),
        "policy": name_of_policy(scheduler.policy),
        "pool": None if scheduler.pool is None else repr(scheduler.pool),
        "critical_jobs": None if scheduler.critical_jobs is None else str(scheduler.critical_jobs),
    }
    of = f" of {run.label}" if is_named else ""
    yield from ((name + of, said) for name, said in found.items() if said is not None)
