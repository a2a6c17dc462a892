"""In a report: what if there were another number of slots, or more of the resource that jobs waited for longest."""

from __future__ import annotations

import html as escapes
from collections.abc import Iterator
from typing import Final

from ...._core.door.reading import printable
from .._record import TraceRecord
from .._what_if import WhatIf

MOST_JOBS: Final = 1000
"""Of more jobs, the report does not say it: nobody waits at the end of each run until it has been simulated."""
SIMULATED: Final = 10_000
"""Jobs that are simulated in all for one picture: a second of CPU time."""
TOO_MANY: Final = (
    '<p class="note">To simulate so many jobs takes a while: <code>trace.what_if()</code>, or '
    "<code>trioflow simulate FILE --what-if</code>, does it when asked.</p>"
)
LEAST_WAIT: Final = 0.02
"""The share of the work for which jobs must have waited for a resource, or for slots, before more of it is tried."""
WIDTH: Final = 900


def section(record: TraceRecord) -> str:
    """Return the section as HTML; nothing if the run is under way, or if nothing would be another time."""
    jobs = len(record.spans) - len(record.nested)
    if len(record.roots) != 1 or record.roots[0].reason is None or jobs < 2 or not _limits(record):
        return ""
    pictures = "".join(map(_picture, _found(record))) if jobs <= MOST_JOBS else TOO_MANY
    return f'<section id="what-if">\n<h2>What if</h2>\n{pictures}</section>' if pictures else ""


def _found(record: TraceRecord) -> Iterator[WhatIf]:
    from ....simulation import _what_if

    for resource in _limits(record):
        try:
            yield _what_if.of_trace(record, resource, most=SIMULATED)
        except (ValueError, RuntimeError):  # the scenario has changed, or cannot be simulated: that is no failure here
            return


def _limits(record: TraceRecord) -> list[str | None]:
    """Return for what jobs waited long enough: the slots of the window (None), and the worst resource."""
    waited: dict[str | None, float] = {}
    work = 0.0
    members = {*record.roots[0].members}
    for span in record.spans:
        work += span.worked if span.number not in record.nested else 0.0
        for wait in span.waits:
            if wait.cause in ("resource", "rate") or (wait.cause == "slot" and span.number in members):
                waited[wait.name or None] = waited.get(wait.name or None, 0.0) + wait.seconds
    found = [name for name in sorted(waited, key=waited.__getitem__, reverse=True) if waited[name] > LEAST_WAIT * work]
    own = {resource.name for resource in record.resources if not resource.is_part}
    resources = [name for name in found if name in own][:1]
    return [*([None] if None in found and record.roots[0].window is not None else []), *resources]


def _picture(found: WhatIf) -> str:
    told, picture = escapes.escape(printable(str(found))), found._svg(WIDTH, with_title=False)
    return f'<p class="note">{told}</p><div class="card paper scroll" tabindex="0">{picture}</div>\n'
