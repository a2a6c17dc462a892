"""Which pairs of mechanisms have taken effect in one run, and how often."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable


class Table:
    """A count for each pair of mechanisms."""

    def __init__(self) -> None:
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.single: Counter[str] = Counter()

    def add(self, effects: Iterable[str]) -> None:
        """Count the mechanisms of one run."""
        names = sorted(effects)
        self.single.update(names)
        self.pairs.update(itertools.combinations(names, 2))

    def __str__(self) -> str:
        """Return the mechanisms with their counts, and their rarest partners."""
        lines = []
        for name in sorted(self.single):
            others = sorted(
                (self.pairs[min(name, other), max(name, other)], other) for other in self.single if other != name
            )
            rarest = ", ".join(f"{other} {count}" for count, other in others[:6])
            lines.append(f"{name:20} {self.single[name]:7}  rarest: {rarest}")
        return "\n".join(lines)
