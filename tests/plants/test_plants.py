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
    """The code that a plant replaces stands once in its function, and what comes of a module is Python."""
    mutant = plant.mutant(ROOT)
    text = (ROOT / plant.path).read_text(encoding="utf-8")
    if plant.path.endswith(".py"):
        ast.parse(
            text[: mutant.start] + mutant.new + text[mutant.start + len(mutant.old) :]
        )


def test_no_plant_stands_twice() -> None:
    assert len({plant.name for plant in PLANTS}) == len(PLANTS)
    assert len(
        {(plant.path, plant.function, plant.old, plant.new) for plant in PLANTS}
    ) == len(PLANTS)


MODULE = """
class Line:
    def give_back(self, job):
        for token in (  # a comment
            self.tokens
        ):
            if token.is_free and (token.job is job
                                  or not self.jobs):
                token.give_back()
            elif token.job is None:
                return {"x": 1, "y": [
                    2]}
        token.give_back(); self.count = {
            job
        }
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("token.job is job or not self.jobs", "not self.jobs", "and ((not self.jobs)):"),
        ("if token.is_free and (token.job is job or not self.jobs):", "if token:", "            if token:\n    "),
        ("if token.job is None:", "if token:", "            elif token:\n    "),
        ("for token in self.tokens:", "for token in ():", "        for token in ():\n    "),
        ("self.count = {job}", "", "token.give_back(); pass\n"),
        ("token.give_back()\nself.count = {job}", "if job:\n    self.x = 1", "if job:\n            self.x = 1\n"),
        ("{'y': [2]}", "{'y': 3}", "{\"x\": 1, 'y': 3}"),
        ("return {'x': 1, 'y': [2]}", "return", "                return\n"),
    ],
)  # fmt: skip
def test_code_is_found_however_it_is_written(
    old: str, new: str, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "module.py").write_text(MODULE, encoding="utf-8")
    mutant = Plant("x", "module.py", "Line.give_back", "a mistake", old, new).mutant(
        tmp_path
    )
    planted = (
        MODULE[: mutant.start] + mutant.new + MODULE[mutant.start + len(mutant.old) :]
    )
    assert expected in planted
    ast.parse(planted)


def test_a_plant_that_has_lost_its_place_names_its_rule_and_where_the_code_stands(
    tmp_path: Path,
) -> None:
    """A plant that no longer fits its file says so, rather than counting as noticed, or as not noticed."""
    (tmp_path / "module.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "other.py").write_text(
        "def f(self):\n    self.size = 1\n", encoding="utf-8"
    )
    for path, function, old, words in (
        ("module.py", "Line.give_back", "token.give_back()", "stands there 2 times"),
        (
            "module.py",
            "Line.give_back",
            "self.size = 1",
            r"stands there 0 times(.|\n)*It stands in f of other.py\.",
        ),
        (
            "module.py",
            "Line.take",
            "self.size = 2",
            r"stands there 0 times(.|\n)*There is no such function\.",
        ),
        (
            "gone.py",
            "f",
            "self.size = 2",
            r"stands there 0 times(.|\n)*There is no such file\.",
        ),
    ):
        with pytest.raises(NotFound, match=words) as raised:
            Plant("x", path, function, "a token is not given back", old, "").mutant(
                tmp_path
            )
        assert "plant 'x': the rule that it breaks has no place any more in" in str(
            raised.value
        )
        assert (
            f"{function} of {path}.\nThe mistake was: a token is not given back.\n"
            in str(raised.value)
        )


@pytest.mark.parametrize("name", SAMPLE)
def test_the_model_notices_a_plant(name: str, tmp_path: Path) -> None:
    """A sample of what `python -m tests.plants` does; afterwards, the copy of the tree is as it was."""
    plant = next(plant for plant in PLANTS if plant.name == name)
    copy = copied(tmp_path / "copy")
    who, test = who_notices(plant, copy)
    assert who == BY_MODEL, test
    assert (copy / plant.path).read_text(encoding="utf-8") == (
        ROOT / plant.path
    ).read_text(encoding="utf-8")
