"""Rules that stop a batch early (`--halt`), and the exit code of a batch."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Final

MAX_EXIT_CODE: Final = 101
HALT_RULE_PATTERN: Final = re.compile(r"(now|soon),(fail|success|done)=([1-9]\d*)(%?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class HaltRule:
    """A rule of `--halt`: stop the batch when enough commands have failed, succeeded, or ended.

    Attributes:
        is_immediate: whether to kill the running commands instead of waiting for them.
        outcome: the outcome that counts: `fail`, `success`, or `done` for both.
        threshold: the number or percentage of commands that must have this outcome.
        is_percentage: whether `threshold` is a percentage of all commands.

    Example:
        >>> HaltRule.parse("now,fail=10%")
        HaltRule(is_immediate=True, outcome='fail', threshold=10, is_percentage=True)
        >>> HaltRule.parse("never") is None
        True

    """

    is_immediate: bool
    outcome: str
    threshold: int
    is_percentage: bool

    @classmethod
    def parse(cls, text: str) -> HaltRule | None:
        if text == "never":
            return None
        match = HALT_RULE_PATTERN.fullmatch(text)
        if match is None:
            raise ValueError(
                f"{text!r} is not a rule: write never, or WHEN,WHY=N or WHEN,WHY=N%, "
                f"where WHEN is now or soon, and WHY is fail, success or done"
            )
        return cls(match[1] == "now", match[2], int(match[3]), bool(match[4]))


@dataclass(slots=True)
class CommandTally:
    """The numbers of commands that failed and succeeded, and whether the rule of `--halt` is met.

    Attributes:
        rule: the rule; None if the batch never stops early.
        total: the number of all commands; None if it is unknown. If the rule has a percentage, it is always known.
        failed_count: the number of commands that failed.
        succeeded_count: the number of commands that succeeded.
        decisive_exit_code: the exit code of the command that first met the rule; None until the rule is met.

    Example:
        >>> tally = CommandTally(HaltRule.parse("soon,fail=2"))
        >>> [tally.add(code) for code in (0, 1, 5)], tally.exit_code
        ([False, False, True], 2)

    """

    rule: HaltRule | None = None
    total: int | None = None
    failed_count: int = 0
    succeeded_count: int = 0
    decisive_exit_code: int | None = field(default=None)

    def add(self, code: int) -> bool:
        """Count a command that ended with this exit code, and return whether the rule is met."""
        if code:
            self.failed_count += 1
        else:
            self.succeeded_count += 1
        is_met = self.rule is not None and self._is_met(self.rule)
        if is_met and self.decisive_exit_code is None:
            self.decisive_exit_code = code
        return is_met

    def _is_met(self, rule: HaltRule) -> bool:
        count = {
            "fail": self.failed_count,
            "success": self.succeeded_count,
            "done": self.failed_count + self.succeeded_count,
        }[rule.outcome]
        return 100 * count >= rule.threshold * (self.total or 0) if rule.is_percentage else count >= rule.threshold

    @property
    def exit_code(self) -> int:
        """The exit code of the batch, as in GNU parallel.

        It is the number of failures, up to `MAX_EXIT_CODE`, unless the rule defines another code.
        """
        rule = self.rule
        if rule is not None and rule.outcome == "success" and self.decisive_exit_code is not None:
            return 0
        if rule is not None and rule.is_percentage:
            return math.ceil(100 * self.failed_count / self.total) if self.total else 0
        if rule is not None and rule.outcome == "fail" and rule.threshold == 1:
            return self.decisive_exit_code or 0
        return min(self.failed_count, MAX_EXIT_CODE)
