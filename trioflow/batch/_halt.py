"""Rules that stop a batch before its end (`--halt`), and its exit code."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Final

MAX_FAILED: Final = 101
"""The exit code for more than 100 failures."""
RULE: Final = re.compile(r"(now|soon),(fail|success|done)=([1-9]\d*)(%?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Halt:
    """A rule: stop when `number` jobs, or that percentage of all, have failed, have succeeded, or are done.

    Example:
        >>> Halt.parse("now,fail=10%")
        Halt(immediately=True, outcome='fail', number=10, percent=True)
        >>> Halt.parse("never") is None
        True

    """

    immediately: bool
    outcome: str
    number: int
    percent: bool

    @classmethod
    def parse(cls, text: str) -> Halt | None:
        """Return the rule in a text, or None for `never`.

        Raises:
            ValueError: the text is not a rule.

        """
        if text == "never":
            return None
        match = RULE.fullmatch(text)
        if match is None:
            raise ValueError(
                f"{text!r} is not a rule: write never, or WHEN,WHY=N or WHEN,WHY=N%, "
                f"where WHEN is now or soon, and WHY is fail, success or done"
            )
        return cls(match[1] == "now", match[2], int(match[3]), bool(match[4]))


@dataclass(slots=True)
class CommandTally:
    """The numbers of failed and succeeded jobs, and their effect under a rule.

    Example:
        >>> tally = CommandTally(Halt.parse("soon,fail=2"))
        >>> [tally.add(code) for code in (0, 1, 5)], tally.exit_code
        ([False, False, True], 2)

    """

    rule: Halt | None = None
    total: int | None = None  # the number of all jobs; always known if the rule is a percentage
    failed: int = 0
    succeeded: int = 0
    decisive: int | None = field(default=None)  # the exit code of the job that met the rule first

    def add(self, code: int) -> bool:
        """Count a job that ended with this exit code (a shell's), and return whether the rule is met."""
        if code:
            self.failed += 1
        else:
            self.succeeded += 1
        met = self.rule is not None and self._is_met(self.rule)
        if met and self.decisive is None:
            self.decisive = code
        return met

    def _is_met(self, rule: Halt) -> bool:
        count = {"fail": self.failed, "success": self.succeeded, "done": self.failed + self.succeeded}[rule.outcome]
        return 100 * count >= rule.number * (self.total or 0) if rule.percent else count >= rule.number

    @property
    def exit_code(self) -> int:
        """The exit code, as in GNU parallel: the number of failures, unless the rule sets another."""
        rule, reached = self.rule, self.decisive is not None
        if rule is not None and rule.outcome == "success" and reached:
            return 0
        if rule is not None and rule.percent:
            return math.ceil(100 * self.failed / self.total) if self.total else 0
        if rule is not None and rule.outcome == "fail" and rule.number == 1:
            return self.decisive or 0
        return min(self.failed, MAX_FAILED)
