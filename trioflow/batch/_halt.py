"""When to stop before all is done, and the exit code: counts, a rule, and what follows from them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Final

MOST_FAILED: Final = 101
"""The exit code for more than a hundred failures."""
OLD: Final = {
    "0": "never",
    "1": "soon,fail=1",
    "2": "now,fail=1",
    "-1": "soon,success=1",
    "-2": "now,success=1",
}
RULE: Final = re.compile(r"(now|soon),(fail|success|done)=([1-9]\d*)(%?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Halt:
    """A rule: when `number` jobs, or so many percent of all, have failed, succeeded, or are done.

    Example:
        >>> Halt.parse("now,fail=10%")
        Halt(at_once=True, what='fail', number=10, percent=True)
        >>> Halt.parse("never") is None
        True

    """

    at_once: bool
    what: str
    number: int
    percent: bool

    @classmethod
    def parse(cls, text: str) -> Halt | None:
        """Return the rule that a text means; None for `never`.

        Raises:
            ValueError: it is no rule.

        """
        text = OLD.get(text, f"soon,fail={text}" if re.fullmatch(r"[1-9]\d?%", text, re.ASCII) else text)
        if text == "never":
            return None
        match = RULE.fullmatch(text)
        if match is None:
            raise ValueError(
                f"{text!r} is no rule: write never, or when,why=N or when,why=N%, "
                f"with now or soon as when, and fail, success or done as why"
            )
        return cls(match[1] == "now", match[2], int(match[3]), bool(match[4]))


@dataclass(slots=True)
class Tally:
    """How many jobs have ended how, and what that means under a rule.

    Example:
        >>> tally = Tally(Halt.parse("soon,fail=2"))
        >>> [tally.add(code) for code in (0, 1, 5)], tally.exit_code
        ([False, False, True], 2)

    """

    rule: Halt | None = None
    total: int | None = None  # of all jobs; known where the rule has percents
    failed: int = 0
    succeeded: int = 0
    decisive: int | None = field(default=None)  # the exit code of the job by which the rule was first met

    def add(self, code: int) -> bool:
        """Count a job that has ended with this exit code, as a shell has it; tell whether the rule is met."""
        if code:
            self.failed += 1
        else:
            self.succeeded += 1
        met = self.rule is not None and self._is_met(self.rule)
        if met and self.decisive is None:
            self.decisive = code
        return met

    def _is_met(self, rule: Halt) -> bool:
        count = {"fail": self.failed, "success": self.succeeded, "done": self.failed + self.succeeded}[rule.what]
        return 100 * count >= rule.number * (self.total or 0) if rule.percent else count >= rule.number

    @property
    def exit_code(self) -> int:
        """What GNU parallel exits with: the number of failures, unless the rule says otherwise."""
        rule, reached = self.rule, self.decisive is not None
        if rule is not None and rule.what == "success" and reached:
            return 0
        if rule is not None and rule.percent:
            return math.ceil(100 * self.failed / self.total) if self.total else 0
        if rule is not None and rule.what == "fail" and rule.number == 1:
            return self.decisive or 0
        return min(self.failed, MOST_FAILED)
