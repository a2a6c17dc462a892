"""`Outputs`: the content of the column `outputs` of a job in a journal."""

from __future__ import annotations

import dataclasses
from typing import Final

from ._serialization import msgspec


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a job has left besides its result. In the file, it is JSON."""

    stamps: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    budgets: dict[str, int | float] = dataclasses.field(
        default_factory=dict[str, int | float]
    )
    winners: dict[str, dict[str, bool]] = dataclasses.field(
        default_factory=dict[str, dict[str, bool]]
    )
    """The winners of a `First`. See `_record_paths`."""
    redacted: bool = False
    answered: str | None = None
    """How its question was answered, by whom and when."""

    @classmethod
    def parse(cls, text: str | None) -> Outputs:
        """Parse the JSON. Return no facts if it is missing, or another program has changed it."""
        try:
            return msgspec.json.decode(text or "{}", type=cls)
        except Exception:
            return NO_FACTS

    def to_json(self) -> str | None:
        if self == NO_FACTS:
            return None
        return msgspec.json.encode(self).decode()


NO_FACTS: Final = Outputs()
