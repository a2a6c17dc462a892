"""The plants follow the engine, and those who are to notice them do."""

import ast
from pathlib import Path
import pytest
from ..mutation.__main__ import ROOT, copied
from .__main__ import BY_MODEL, who_notices
from .plants import PLANTS, NotFound, Plant

SAMPLE = ("run-settle-order",)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_each_plant_has_its_place(plant: Plant) -> None:
    """The text that a plant replaces stands once in its file, and what comes of a module is Python."""
    mutant = plant.mutant(ROOT)
    text = (ROOT / plant.path).read_text(encoding="utf-8")
    if plant.path.endswith(".py"):
        ast.parse(text[: mutant.start] + mutant.new + text[mutant.start + len(mutant.old) :])


def test_no_plant_stands_twice() -> None:
    assert len({plant.name for plant in PLANTS}) == len(PLANTS)
    faults = {(fault.path, fault.start, fault.old, fault.new) for fault in (plant.mutant(ROOT) for plant in PLANTS)}
    assert len(faults) == len(PLANTS)


def test_a_plant_whose_text_has_changed_is_an_error_that_names_it(tmp_path: Path) -> None:
    """A plant that no longer fits its file says so, rather than counting as noticed, or as not noticed."""
    (tmp_path / "module.py").write_text("a = 1\na = 1\n", encoding="utf-8")
    for path, old, count in (("module.py", "a = 1\n", 2), ("module.py", "b", 0), ("gone.py", "a", 0)):
        with pytest.raises(NotFound, match=f"plant 'x': its text stands {count} times in {path}"):
            Plant("x", path, "a mistake", old).mutant(tmp_path)


@pytest.mark.parametrize("name", SAMPLE)
def test_the_model_notices_a_plant(name: str, tmp_path: Path) -> None:
    """A sample of what `python -m tests.plants` does; afterwards, the copy of the tree is as it was."""
    plant = next(plant for plant in PLANTS if plant.name == name)
    copy = copied(tmp_path / "copy")
    who, test = who_notices(plant, copy)
    assert who == BY_MODEL, test
    assert (copy / plant.path).read_text(encoding="utf-8") == (ROOT / plant.path).read_text(encoding="utf-8")
