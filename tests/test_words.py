"""One word for each thing: that of the glossary, and none of the words listed here instead. Sentences are short."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
import pytest

ROOT = Path(__file__).parents[1]
INSTEAD = {
    r"background jobs?": "forever job", r"child jobs?": "member, or job in a nested scheduler",
    r"child schedulers?": "nested scheduler", r"cancellable": "can be cancelled", r"downstream": "what requires it",
    r"entry-?points? of the graph": "entry job", r"errbacks?": "on_settled", r"fan-?in": "join", r"for ever": "forever",
    r"gigs?": "GiB", r"inner jobs?": "job in a nested scheduler", r"inner schedulers?": "nested scheduler",
    r"invoke[ds]?": "call", r"job\(s\)": "1 job, 2 jobs", r"kicked off": "started", r"mandatory": "required",
    r"memoi[sz]e[ds]?": "keep in a journal", r"msecs?": "ms", r"outer schedulers?": "enclosing scheduler",
    r"parent jobs?": "enclosing scheduler", r"parent schedulers?": "enclosing scheduler",
    r"permits?": "slot, or token of a limiter", r"prerequisites?": "requirement", r"secs?": "s",
    r"someone": "the user, or the caller", r"sub-?jobs?": "job in a nested scheduler",
    r"sub-?schedulers?": "nested scheduler", r"sub-?tasks?": "job", r"supervisors?": "scheduler",
    r"surrounding schedulers?": "enclosing scheduler", r"upstream": "requirement",
}  # fmt: skip
"""Patterns of words, each with the word to use; names of older programs are in `compat` and `coming-from`."""
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
WORDS = re.compile(rf"(?<!\w)({'|'.join(INSTEAD)})(?!\w)", re.IGNORECASE)
IN_LOWER_CASE = re.compile(rf"(?:{'|'.join(INSTEAD)})(?!\w)")
"""What a text has in lower case if `WORDS` finds something there. It takes a fifth of the time."""


LONGEST = 35
"""How many words a sentence of the docs may have; code and links are words."""


def sentences(page: Path) -> Iterator[str]:
    """Yield the sentences of a page, and of the items of its lists; tables, headings and pictures have none."""
    text = re.sub(
        r"^```.*?^```$",
        "",
        page.read_text(encoding="utf-8"),
        flags=re.DOTALL | re.MULTILINE,
    )
    text = re.sub(r"^(?:\||#|!\[| *<).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", re.sub(r"`[^`]*`", "code", text))
    for paragraph in re.split(r"\n *\n|\n(?= *(?:-|\d+\.) )", text):
        yield from re.split(r"(?<=[.:;?!])[)*\"]*\s", paragraph)


def test_no_sentence_of_the_docs_is_too_long() -> None:
    pages = [
        ROOT / "README.md",
        *(
            page
            for page in (ROOT / "docs").rglob("*.md")
            if "decisions" not in page.parts
        ),
    ]
    found = [
        f"{page.relative_to(ROOT)}: {text}"
        for page in pages
        for text in sentences(page)
    ]
    assert [line for line in found if len(line.split()) - 1 > LONGEST] == []


def texts() -> Iterator[tuple[str, str]]:
    """Yield the docs, and the strings and comments of the package, each with its file."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        if not {"coming-from", "decisions"} & set(page.parts):
            yield (
                str(page.relative_to(ROOT)),
                re.sub(
                    r"```.*?```|`[^`\n]*`",
                    "",
                    page.read_text(encoding="utf-8"),
                    flags=re.DOTALL,
                ),
            )
    for module in sorted((ROOT / "trioflow").rglob("*.py")):
        if "compat" not in module.parts:
            source = module.read_text(encoding="utf-8")
            # To find the strings and comments of all modules takes most of a second.
            tokens = (
                tokenize.generate_tokens(io.StringIO(source).readline)
                if IN_LOWER_CASE.search(source.lower())
                else ()
            )
            for token in tokens:
                if token.type in (tokenize.STRING, tokenize.COMMENT):
                    yield f"{module.relative_to(ROOT)}:{token.start[0]}", token.string


def test_docs_and_code_use_the_words_of_the_glossary() -> None:
    assert [
        f"{place}: {match[0]!r}"
        for place, text in texts()
        for match in WORDS.finditer(text)
    ] == []


@pytest.mark.parametrize(
    "text", ["a Background job", "the sub-scheduler", "3 permits", "2 job(s)"]
)
def test_the_patterns_find_the_words_to_avoid(text: str) -> None:
    assert WORDS.search(f"see {text} here")
