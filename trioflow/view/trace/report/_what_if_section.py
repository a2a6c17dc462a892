"""The what-if section of a report: other numbers of slots, or other amounts of the resource with the longest waits."""

from __future__ import annotations

import html as escapes
from typing import Final

from ...._core.api.views import StopReason, WaitCause, printable
from .._span_builder import TraceRecord
from .._what_if import WhatIf, percent
from ..timeline._what_if_chart import Curves, svg

MOST_JOBS: Final = 1000
"""Number of jobs above which the section is left out: its simulations would delay the end of each run."""
SIMULATED: Final = 10_000
"""Number of simulated jobs in all for one picture: a second of CPU time."""
TOO_MANY: Final = (
    '<p class="note">To simulate so many jobs takes a while: <code>trace.what_if()</code> does it when asked.</p>'
)
LEAST_WAIT: Final = 0.02
"""The ratio of waits to work from which more of a resource, or of slots, is simulated."""
WIDTH: Final = 900


def section(record: TraceRecord) -> str:
    """Return the section as HTML; "" if the run did not go on to its end, or if no variant changes the time."""
    jobs = len(record.spans) - len(record.nested)
    if len(record.roots) != 1 or record.roots[0].reason is not StopReason.COMPLETED or jobs < 2:
        return ""
    limits = _limits(record)
    if not limits:
        return ""
    from ....simulation import _sweep

    try:
        found = _picture(_sweep.of_trace(record, limits[0], most=SIMULATED)) if jobs <= MOST_JOBS else TOO_MANY
    except (ValueError, RuntimeError):  # the scenario has changed, or cannot be simulated: the report goes without
        return ""
    return f'<section id="what-if">\n<h2>What if</h2>\n{found}</section>'


def _limits(record: TraceRecord) -> list[str | None]:
    """Return the limits that jobs waited for, slots (None) and resources, the longest first."""
    waited: dict[str | None, float] = {}
    work = 0.0
    members = {*record.roots[0].members}
    for span in record.spans:
        work += span.worked if span.number not in record.nested else 0.0
        for wait in span.waits:
            if wait.cause in (WaitCause.RESOURCE, WaitCause.RATE) or (
                wait.cause is WaitCause.SLOT and span.number in members
            ):
                waited[wait.name or None] = waited.get(wait.name or None, 0.0) + wait.seconds
    own: set[str | None] = {resource.name for resource in record.resources if not resource.is_part}
    own |= {None} if record.roots[0].window is not None else set()
    found = [name for name in sorted(waited, key=waited.__getitem__, reverse=True) if waited[name] > LEAST_WAIT * work]
    return [name for name in found if name in own]


def _picture(found: WhatIf) -> str:
    best = found.best
    data = Curves(
        {
            policy: [(point.size, point.seconds) for point in found.points if point.policy == policy]
            for policy in found.policies()
        },
        list(found.bounds),
        (found.this.size, found.this.seconds),
        (best.size, best.seconds, best.policy) if found._is_better else None,
        None if found.gain is None else percent(found.gain),
        found.amount,
        _axis(found),
    )
    told = escapes.escape(printable(str(found)))
    return f'<p class="note">{told}</p><div class="card paper scroll" tabindex="0">{svg(data, WIDTH)}</div>\n'


def _axis(found: WhatIf) -> str:
    if found.resource is None:
        return "slots of the window"
    return printable(found.resource if found.rate is None else f"{found.resource}, {found.rate}")
