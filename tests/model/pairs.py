"""Which pairs of mechanisms have taken effect in one run, and how often."""

import itertools
from collections import Counter
from collections.abc import Iterable


class Table:
    def __init__(self) -> None:
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.single: Counter[str] = Counter()

    def add(self, effects: Iterable[str]) -> None:
        names = sorted(effects)
        self.single.update(names)
        self.pairs.update(itertools.combinations(names, 2))

    def __str__(self) -> str:
        """Return how often each mechanism took effect, and which pairs did so most seldom."""
        singles = ", ".join(
            f"{name} {count}" for name, count in self.single.most_common()
        )
        pairs = sorted(
            itertools.combinations(sorted(self.single), 2), key=self.pairs.__getitem__
        )
        rarest = ", ".join(
            f"{one} + {other} {self.pairs[one, other]}" for one, other in pairs[:20]
        )
        return f"{len(self.single)} mechanisms: {singles}\n{len(pairs)} pairs, the rarest: {rarest}"
