"""The families of jobs, how their names are cut, and the levels where pictures fold them: at the ends of each scale."""

import pytest
from trioflow.view._families import family_from_label, fit_name, levels_in_groups
from trioflow.view.text._symbols import display_width


@pytest.mark.parametrize(
    ("label", "is_given", "family"),
    [
        ("python3.11 -m x(1)", False, "python3.11"), ("ls (all)", False, "ls"), ("fetch(' ')", False, "fetch"),
        ("(odd)", False, "(odd)"), (" x", False, " x"), ("", False, ""), ("page 7_8", True, "page *_*"),
        ("1:30:15 to 2.5,7", True, "* to *"), ("v1.2 a-7", True, "v1.2 a-*"), ("f(7) of 7 x86", True, "f(*) of * x86"),
    ],
)  # fmt: skip
def test_a_family_is_the_function_or_the_label_without_its_numbers(
    label: str, is_given: bool, family: str
) -> None:
    assert family_from_label(label, is_given) == family


@pytest.mark.parametrize(
    ("name", "width", "ellipsis", "cut"),
    [
        ("group number 7 of all", 21, "…", "group number 7 of all"),
        ("group number 7 of all", 20, "…", "group …mber 7 of all"),
        ("group number 7 of all", 12, "…", "gro…r 7 o…ll"),
        ("x 1 a very long part", 14, "…", "x 1 a ve… part"),
        # Numbers that take half of the room are kept; more are cut as all else.
        ("ab cd ef 1234567", 14, "…", "ab …ef 1234567"),
        ("ab cd ef 1234567", 13, "…", "ab cd …234567"),
        ("漢字漢字漢字 7 漢字漢字", 16, "…", "漢字…字 7 漢…字"),
        ("漢字漢字漢字 7 漢字漢字", 16, "...", "漢字... 7 ...字"),
        ("漢字漢字 7 ab漢字漢字cd", 15, "…", "漢字… 7 ab…字cd"),
        ("12345678901234", 8, "...", "123...34"),
    ],
)
def test_a_name_is_cut_between_its_numbers(
    name: str, width: int, ellipsis: str, cut: str
) -> None:
    """The shortest parts stay whole, and what they leave of their shares is for the others."""
    assert fit_name(name, width, display_width, ellipsis) == cut


def test_jobs_of_a_level_have_no_path_between_them() -> None:
    """What a job in a group requires is before the group, also if that is in another group."""
    parents = {"a": None, "g": None, "b": "g", "c": "g", "h": None, "d": "h", "e": None}
    required = {"b": ["a"], "c": ["b"], "d": ["c"], "e": ["a", "stranger"]}
    levels = levels_in_groups(parents, lambda node: required.get(node, []))
    assert levels == {"a": 1, "g": 2, "b": 1, "c": 2, "h": 3, "d": 1, "e": 2}
