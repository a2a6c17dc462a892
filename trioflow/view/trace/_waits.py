"""The waits of each job of a past run: their causes, their times, and the span that ended each.

None of this is recorded during a run. It follows from the times of the jobs, their needs, the slots of each window,
and the amounts in each pool. Jobs with the same needs in the same run lack the same at the same time. So for each such
group of jobs, the intervals are found in which a slot or a resource was lacking, or a key was throttled; a job's waits
are the parts of these in which it was ready. Where nothing appears to be lacking, the cause is invisible to the trace:
the state of a rate, or other users of a shared pool.

The order is the engine's: without a slot a job does not wait for resources. O(n log n) for n jobs with few
different needs; each group has at most `MAX_INTERVALS` intervals, so it never becomes n².
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Final

from ..._core.api.views import JobState, WaitCause
from ._critical import SlotGivers, settled_at
from ._resource_use import Needs, ResourceUse, Steps, running
from ._spans import RunSpan, Span, Wait

SHORT: Final = 0.001
"""Seconds below which a gap between two waits is no cause of its own: the engine was about to start a job."""
MAX_INTERVALS: Final = 200
"""Number of intervals kept for each group; of more, the shortest gaps are closed."""
MAX_STEPS: Final = 2_000_000
"""Number of steps of resources to consider; of more, several are merged."""


What = tuple[WaitCause, ResourceUse | None]
Piece = tuple[float, float, WaitCause, ResourceUse | None]
"""Start, end, cause, and name of what was lacking."""


class Waits:
    """The waits of all spans."""

    def __init__(
        self,
        spans: Sequence[Span],
        runs: Sequence[RunSpan],
        there: Sequence[tuple[float, float]],
        needs: Mapping[int, Needs],
        held: Mapping[int, tuple[tuple[float, float], ...]],
    ) -> None:
        """Find the intervals in which something was lacking.

        Args:
            spans: the spans, by number, without their waits.
            runs: the runs.
            there: for each span, the interval in which it could wait or run: from when it was added, or its run
                began, until it settled; until now, if it has not; until its run ended, if it was never reached.
            needs: the needs of spans.
            held: intervals in which spans ran, but waited for room on the machine.

        """
        self._spans: Final = spans
        self._runs: Final = runs
        self._there: Final = there
        self._needs: Final = needs
        self._held: Final = held
        self._run_of: Final = {number: place for place, run in enumerate(runs) for number in run.members}
        self._givers: Final = [SlotGivers(run, [spans[number] for number in run.members]) for run in runs]
        amounts: dict[ResourceUse, set[float]] = {}
        ran_in: list[list[tuple[float, float]]] = [[] for _ in runs]
        for span in spans:
            end = math.inf if span.state is JobState.RUNNING else there[span.number][1]
            ran = [*span.throttled, (span.started_at, end)] if span.started_at is not None else span.throttled
            needed = needs.get(span.number, ())
            for began, ended in ran:
                for resource, amount in needed:
                    resource.uses.append((began, ended, amount, span.number))
                if not span.forever:
                    ran_in[self._run_of[span.number]].append((began, ended))
            for resource, amount in needed:
                amounts.setdefault(resource, set()).add(amount)
        number = sum(len(found) * 2 * len(resource.uses) for resource, found in amounts.items())
        together = max(1, math.ceil(number / MAX_STEPS))
        self._used: Final = {
            resource: _thinned(resource.used(), together) for resource in amounts if resource.total is not None
        }
        self._full: Final = [_when_full(run, *running(intervals)) for run, intervals in zip(runs, ran_in, strict=True)]
        self._lacking: Final[dict[tuple[ResourceUse, float], list[Piece]]] = {}
        self._kinds: Final[dict[tuple[int, bool, Needs], tuple[list[Piece], list[Piece]]]] = {}
        for resource in amounts:
            resource.sort()

    def of(self, span: Span) -> Iterator[Wait]:
        """Yield the waits of one span in chronological order."""
        since, over = self._there[span.number]
        ready = span.scheduled_at
        until = over if ready is None else ready
        if until > since and (ready is not None or span.state is not JobState.RUNNING):
            yield Wait(WaitCause.JOBS, "", since, until, None if ready is None else self._last_required(span))
        if ready is None:
            return
        starts = [*(began for began, _ in span.throttled), over if span.started_at is None else span.started_at]
        ends = [*(ended for _, ended in span.throttled), None]
        for start, end in zip(starts, ends, strict=True):
            if start > ready:
                yield from self._between(span, ready, start)
            ready = start if end is None else end
        for began, ended in self._held.get(span.number, ()):
            yield Wait(WaitCause.MACHINE, "", began, ended)

    def _last_required(self, span: Span) -> int | None:
        return max(span.required, key=lambda number: (settled_at(self._spans[number]), number), default=None)

    def _between(self, span: Span, since: float, until: float) -> Iterator[Wait]:
        """Yield the waits of a job that was ready all the time, without gaps; adjacent ones have different causes."""
        exact, rough = self._pieces(span)
        pieces = _clip(exact if until - since < SHORT else rough, since, until)
        for began, ended, cause, resource in _filled(pieces, since, until, self._unseen(span), self._unknown(span)):
            over = span.started_at is None and ended == self._there[span.number][1]  # no span ended the wait
            by = None if over else self._released_by(span, cause, resource, began, ended)
            yield Wait(cause, "" if resource is None else resource.name, began, ended, by)

    def _released_by(
        self, span: Span, cause: WaitCause, resource: ResourceUse | None, since: float, until: float
    ) -> int | None:
        if cause is WaitCause.SLOT:
            giver = self._givers[self._run_of[span.number]].giver(span, until)
            return None if giver is None else giver.number
        if resource is None:
            return None
        if cause is WaitCause.THROTTLED:
            return max(
                (entry for entry in resource.cooldowns if entry[0] < until and entry[1] > since),
                key=itemgetter(1),
                default=(0, 0, None),
            )[2]
        return resource.released_by(since, until, span.number)

    def _unseen(self, span: Span) -> What | None:
        """Return the cause to assume when nothing appears to be lacking; None for the cause before."""
        rate = next((resource for resource, _ in self._needs.get(span.number, ()) if resource.total is None), None)
        return None if rate is None else (WaitCause.RATE, rate)

    def _unknown(self, span: Span) -> What:
        """Return the cause to assume when there is none before, either."""
        if needs := self._needs.get(span.number):  # it is held outside the trace, or reserved
            return WaitCause.RESOURCE, needs[0][0]
        has_limiter = self._runs[self._run_of[span.number]].has_limiter
        return (WaitCause.SLOT if has_limiter and not span.forever else WaitCause.LOOP), None

    def _pieces(self, span: Span) -> tuple[list[Piece], list[Piece]]:
        """Return the intervals in which something was lacking for such a job: as found, and with short gaps closed."""
        key = run, _, needs = self._run_of[span.number], span.forever, self._needs.get(span.number, ())
        if key not in self._kinds:
            lacking = [] if span.forever else [self._full[run]]
            lacking += [_when_throttled(resource) for resource, _ in needs]
            lacking += [self._when_lacking(resource, amount) for resource, amount in needs]
            lacking = [pieces for pieces in lacking if pieces]
            exact = lacking[0] if len(lacking) == 1 else _overlaid(lacking)
            self._kinds[key] = exact, _close_gaps(exact)
        return self._kinds[key]

    def _when_lacking(self, resource: ResourceUse, amount: float) -> list[Piece]:
        """Return the intervals in which less than this amount of a resource was free."""
        if resource.total is None:
            return []
        key = resource, amount
        if key not in self._lacking:
            most = resource.total - amount + 1e-9 * max(1.0, resource.total)
            times, used = self._used[resource]
            self._lacking[key] = list(_where(times, [value > most for value in used], WaitCause.RESOURCE, resource))
        return self._lacking[key]


# ---- intervals


def _when_full(run: RunSpan, times: list[float], numbers: list[int]) -> list[Piece]:
    """Return the intervals in which all slots were taken."""
    if run.window is None:
        return []
    sizes = run.window_sizes or ((run.started_at or 0.0, run.window),)
    changes = [since for since, _ in sizes]
    flags: list[bool] = []
    both = sorted({*times, *changes})
    for at in both:
        place, size = bisect.bisect_right(times, at) - 1, bisect.bisect_right(changes, at) - 1
        flags.append(place >= 0 and numbers[place] >= sizes[max(size, 0)][1])
    return list(_where(both, flags, WaitCause.SLOT, None))


def _when_throttled(resource: ResourceUse) -> list[Piece]:
    times, closed = running((since, until) for since, until, _ in resource.cooldowns)
    return list(_where(times, [number > 0 for number in closed], WaitCause.THROTTLED, resource))


def _where(
    times: Sequence[float], flags: Sequence[bool], cause: WaitCause, resource: ResourceUse | None
) -> Iterator[Piece]:
    """Yield the intervals in which a step function of flags is set."""
    since = None
    for at, flag in zip(times, flags, strict=True):
        if flag and since is None:
            since = at
        elif not flag and since is not None:
            yield since, at, cause, resource
            since = None
    if since is not None:
        yield since, math.inf, cause, resource


def _overlaid(layers: Sequence[list[Piece]]) -> list[Piece]:
    """Merge lists of intervals into one; where several overlap, the first list wins."""
    bounds = sorted({at for pieces in layers for piece in pieces for at in piece[:2]})
    places, found = [0] * len(layers), list[Piece]()
    for since, until in itertools.pairwise(bounds):
        for layer, pieces in enumerate(layers):
            while places[layer] < len(pieces) and pieces[places[layer]][1] <= since:
                places[layer] += 1
            if places[layer] < len(pieces) and pieces[places[layer]][0] <= since:
                _, _, cause, resource = pieces[places[layer]]
                found.append((since, until, cause, resource))
                break
    return found


def _close_gaps(pieces: Iterable[Piece]) -> list[Piece]:
    """Return at most `MAX_INTERVALS` intervals, with short gaps closed."""
    found, short = list(pieces), SHORT
    while True:
        before, found = found, list[Piece]()
        for piece in before:
            if not found or piece[0] - found[-1][1] >= short:
                found.append(piece)
            elif piece[2:] == found[-1][2:] or (short > SHORT and piece[1] - piece[0] < short):
                found[-1] = found[-1][0], piece[1], *found[-1][2:]
            else:
                found[-1] = found[-1][0], piece[0], *found[-1][2:]
                found.append(piece)
        if len(found) <= MAX_INTERVALS:
            return found
        short *= 2


def _clip(pieces: list[Piece], since: float, until: float) -> Iterator[Piece]:
    """Yield the parts of the intervals between two times."""
    for place in range(bisect.bisect_right(pieces, since, key=itemgetter(1)), len(pieces)):
        began, ended, cause, resource = pieces[place]
        if began >= until:
            return
        yield max(began, since), min(ended, until), cause, resource


def _filled(pieces: Iterable[Piece], since: float, until: float, unseen: What | None, unknown: What) -> list[Piece]:
    """Return the intervals without gaps, adjacent ones of the same cause merged.

    A short gap belongs to the interval before it, or to the first one after it; if there is none, it was no wait. A
    long gap gets the cause `unseen`, or else the one before, or else `unknown`.
    """
    found: list[Piece] = []
    at = since
    for began, ended, cause, resource in pieces:
        if began - at >= SHORT:
            _append(found, at, began, unseen or (found[-1][2:] if found else unknown))
            at = began
        _append(found, at, ended, (cause, resource))
        at = ended
    if until - at >= SHORT:
        _append(found, at, until, unseen or (found[-1][2:] if found else unknown))
    elif found:
        _append(found, at, until, found[-1][2:])
    return found


def _append(found: list[Piece], since: float, until: float, what: What) -> None:
    if found and found[-1][2:] == what:
        found[-1] = found[-1][0], until, *what
    elif until > since:
        found.append((since, until, *what))


def _thinned(used: Steps, together: int) -> Steps:
    """Thin out steps: of each group that is merged, keep the highest."""
    if together == 1:
        return used
    times, values = used
    places = range(0, len(times), together)
    return [times[place] for place in places], [max(values[place : place + together]) for place in places]
