"""The paths of all jobs of a scenario at once, at a cost that many equal labels do not raise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._core._job_set import JobSet

if TYPE_CHECKING:
    from .._core._jobs import AbstractJob


def paths(scheduler: JobSet, prefix: str) -> dict[AbstractJob[Any], str]:
    """Return the `path` of each job below `scheduler`, nested ones included, behind `prefix`. O(V)."""
    found: dict[AbstractJob[Any], str] = {}
    todo = [(scheduler, prefix)]
    while todo:
        parent, before = todo.pop()
        names = Names()
        for job in parent:
            found[job] = before + names.unique(job.label)
            if isinstance(job, JobSet):
                todo.append((job, found[job] + "/"))
    return found


class Names:
    """The names of siblings: of those with equal labels the second has "#2" behind its own, and so on."""

    def __init__(self) -> None:
        """Begin with none."""
        self._met: dict[str, int] = {}  # each name, with the ordinal of the last that has it as its label

    def unique(self, label: str) -> str:
        """Return a name that no sibling has."""
        name = escaped = label.replace("\\", "\\\\").replace("/", "\\/")
        ordinal = self._met.get(escaped, 0)
        while name in self._met:  # once a label, but for labels such as "a#2"
            ordinal += 1
            name = f"{escaped}#{ordinal}"
        self._met[escaped] = max(ordinal, 1)
        self._met.setdefault(name, 1)
        return name
