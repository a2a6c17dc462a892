"""The model's clock, which jumps from one event to the next, and what a simulated run writes down."""

import heapq
import itertools
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from .. import isolations

if TYPE_CHECKING:
    from .jobs import ModelJob
    from .limits import ModelLimiter, ModelResource
    from .schedulers import ModelScheduler
    from .steps import Step

SAME = 1e-7
"""Times that differ by less are one instant."""
Stored = tuple[Any, dict[str, float], frozenset[tuple[str, str]]]
"""What a journal has of a job: its result, what it has used, and the states of what had not succeeded before it."""


@dataclass(slots=True, order=True)
class Timer:
    """An action at a later time."""

    when: float
    number: int
    action: Callable[[], None] = field(compare=False)
    live: bool = field(compare=False, default=True)


class World:
    """The clock, all jobs by name, and the record of the run."""

    def __init__(self, implied: Iterable[tuple[str, str]], backend: str) -> None:
        self.now = 0.0
        self.cancels_once = backend == "asyncio"
        self.is_direct = isolations.ISOLATION == "direct"
        self.is_direct_asyncio = self.cancels_once and self.is_direct
        # Why the outcome may depend on turns of the loop.
        self.doubts: Counter[str] = Counter()
        self.jobs: dict[str, ModelJob] = {}
        self.schedulers: list[ModelScheduler] = []  # those under way
        # Requirements that were added while a run was under way.
        self.bound: set[tuple[str, str]] = set()
        self.implied = set(implied)  # who waits for whom for the sake of jobs inside
        self.limiters: list[ModelLimiter] = []
        self.paused: set[str] = set()  # the schedulers with a pause of their own
        self.windows: dict[str, int] = {}  # those that were set during the run
        self.pools: dict[str, dict[str, ModelResource]] = {}  # of each scheduler
        # What the journal has, and no attempt in this run has used.
        self.restored: dict[str, Stored] = {}
        self.stored: dict[str, Stored] = {}  # what the journal has after this run
        # By scheduler, the members that its next run begins with cancelling.
        self.cancelled_early: dict[str, list[str]] = {}
        self.restores = False
        self.has_journal = self.drops = self.apart = False
        # Jobs that a later run does not restore, although they SUCCEEDED.
        self.never_stored: set[str] = set()
        self.shutdowns: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.tries: Counter[str] = Counter()  # how often each job was tried again
        self.started: list[str] = []
        # Scheduler and job, in the order of calls of on_job_settled.
        self.settled: list[tuple[str, str]] = []
        self.told: Counter[tuple[str, str]] = Counter()  # of `calls`
        # What functions do that were told of a step, once it is over: in which scheduler, for which job.
        self.calls_due: deque[tuple[ModelScheduler, ModelJob, Step]] = deque()
        # What is tried again at this instant.
        self.tries_due: list[ModelJob] = []
        self.hooks: list[tuple[float, str, str]] = []
        self.effects: set[str] = set()  # the mechanisms that have taken effect
        self.numbers = itertools.count()
        self.first_numbers = itertools.count(-1_000_000)
        self.is_admitting = False
        # Jobs that have all they need, and start one after the other.
        self.admitted: deque[ModelJob] = deque()
        self.next_start = math.inf  # when time alone lets the next job start
        self.wake: Timer | None = None
        self.woken_at = -1.0  # when that is, or last was
        # When it would have been, had not something else in that instant come first.
        self.was_woken_at = -1.0
        self.tied_at = -1.0  # when a second cause has come in one instant
        self.last_blocked: tuple[float, object] | None = (
            None  # when a budget was last spent, and in which scheduler
        )
        self.failed_late = -1.0  # when a job failed because it was cancelled
        # At this instant, when all else has been done.
        self.soon: deque[Callable[[], None]] = deque()
        self._timers: list[Timer] = []

    def doubt(self, why: str) -> None:
        """Give up the claim that the outcome follows from the contract, because it leaves something open here."""
        self.doubts[why] += 1

    def mark(self, *mechanisms: str) -> None:
        """Record that mechanisms have taken effect."""
        self.effects.update(mechanisms)

    def hook(self, hook: str, job: str) -> None:
        self.hooks.append((self.now, hook, job))

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        timer = Timer(self.now + seconds, next(self.numbers), action)
        heapq.heappush(self._timers, timer)
        return timer

    def is_tied(self) -> bool:
        """Return whether several causes come at this instant."""
        return self.tied_at == self.now or any(
            timer.live and timer.when < self.now + SAME for timer in self._timers
        )

    def doubt_wake(self) -> None:
        """Give up exactness if time alone lets jobs start in the instant in which something else decides on that."""
        if (
            abs(self.woken_at - self.now) < SAME or self.was_woken_at == self.now
        ) and self.is_tied():
            self.doubt("time lets jobs start in the instant of something else")

    def step(self) -> None:
        """Go on to the next timer, and do all that follows from it at once."""
        timer = heapq.heappop(self._timers)
        if timer.live:
            if timer.when < self.now + SAME:
                self.doubt("two causes in one instant")
                self.tied_at = timer.when
            self.now = max(self.now, timer.when)
            timer.action()
            while self.soon:
                self.soon.popleft()()
