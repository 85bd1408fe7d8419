"""Banned forms (docs/style.md) in strings, docstrings and pages; pages that strings name exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("daemon", "trainer", "schemas", "scripts", "benchmarks", "examples")
#: These pages quote what they ban.
QUOTING = {"docs/style.md", "docs/glossary.md"}
PAGE_FOLDERS = ("docs", "Saved", "clients", "examples", "configs", "benchmarks", ".github")

BANNED = {
    "is no": re.compile(r"\b(?:is|are) no (?!longer\b|more than\b)"),
    "mend": re.compile(r"\bmend(?:s|ed|ing)?\b"),
    "anew": re.compile(r"\banew\b"),
    "stranger": re.compile(r"\bstrangers?\b"),
    "before the engine": re.compile(r"\bbefore the engine\b"),
    "that are none": re.compile(r"\b(?:that|log_probs) are none\b"),
    "lies in": re.compile(r"\blies? (?:in|at|there)\b"),
    "Contract 4": re.compile(r"\bContracts? \d"),
    "DESIGN.md": re.compile(r"\b(?:DESIGN|STYLE)\.md"),
}
FIRST_WORD = re.compile(r"(?:Give|Tell)s?\b")


def is_docstring_of(node: ast.AST) -> ast.Constant | None:
    body = getattr(node, "body", None)
    if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
        value = body[0].value
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return value
    return None


def strings_of(tree: ast.AST) -> Iterator[tuple[int, str, bool]]:
    """Return all texts: (line, text on one line, whether it is a docstring). An f-string is one text."""
    docstrings = {id(found) for node in ast.walk(tree) if (found := is_docstring_of(node))}
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            yield node.lineno, one_line("".join(map(str, parts))), False
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, one_line(node.value), id(node) in docstrings


def one_line(text: str) -> str:
    return " ".join(text.split()) + " "


def banned_in(text: str) -> list[str]:
    return [f"{name!r}: ...{text[max(0, found.start() - 30) : found.end() + 30]}..."
            for name, form in BANNED.items() if (found := form.search(text))]  # fmt: skip


def problems_in_code(source: str) -> list[str]:
    problems = []
    for line, text, is_docstring in strings_of(ast.parse(source)):
        problems += [f"line {line}, {problem}" for problem in banned_in(text)]
        if is_docstring and FIRST_WORD.match(text):
            problems.append(f"line {line}, docstring begins with {text.split()[0]!r}: {text[:60]}")
    return problems


def problems_in_page(text: str) -> list[str]:
    paragraphs = re.split(r"\n\s*\n|\n(?=[|#-])", text)
    return [problem for paragraph in paragraphs for problem in banned_in(one_line(paragraph))]


def modules(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py") if "out" not in path.parts)


def pages() -> list[Path]:
    found = [*ROOT.glob("*.md"), *(path for folder in PAGE_FOLDERS for path in (ROOT / folder).rglob("*.md"))]
    return sorted(path for path in found if path.relative_to(ROOT).as_posix() not in QUOTING)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", modules(*PACKAGES), ids=name_of)
def test_code_has_no_banned_form(path):
    assert problems_in_code(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", pages(), ids=name_of)
def test_a_page_has_no_banned_form(path):
    assert problems_in_page(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "raise ValueError('this is no model')",
        "print(f'{x} are no numbers')",
        "log.info('mend the file')",
        "log.info('it starts anew')",
        "fail(hint='another stranger plays')",
        "add(help='put a model before the engine')",
        "Setting(description='log_probs that are none')",
        "print('the file lies in\\n    Rejected')",
        "print('see Contract 4')",
        "def f():\n    '''Keeps the promises of DESIGN.md.'''",
        "def f():\n    '''Give the hash.'''",
        "class A:\n    '''Tells what is wrong.'''",
        "'''This is\nno title.'''",
    ],
)
def test_planted_forms_are_found(source):
    assert len(problems_in_code(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "print('it is no longer needed, we recommend to amend it; W_STRANGER; is not a model')",
        "def f():\n    '''Return what to give.'''",
        "x = 'Give it a name'",
        "is_no = mend = anew = 1  # this is no string",
    ],
)
def test_other_text_is_left_alone(source):
    assert problems_in_code(source) == []


def test_planted_forms_in_a_page_are_found():
    assert len(problems_in_page("# A\n\nThis file\nis no model.\n\n| a | lies there |\n| b | anew |\n")) == 3


# Pages that messages name. A user of the wheel has no docs folder, but has the command `hotlap docs PAGE`.

PAGE_COMMAND = re.compile(r"`hotlap docs ([^`\s]*)`|\bhotlap docs (?!PAGE)([a-z-]+)")
PAGE_PATH = re.compile(r"\bdocs/[\w/-]*|\b[\w-]+\.md\b")
#: tools for developers, who have the docs folder
TOOLS = {"schemas/generate.py"}


def page_problems(source: str, stems: set[str]) -> list[str]:
    problems = []
    for line, text, is_docstring in strings_of(ast.parse(source)):
        for match in PAGE_COMMAND.finditer(text):
            page = match.group(1) or match.group(2) or ""
            if page not in stems and "{}" not in page and page != "PAGE":
                problems.append(f"line {line}: `hotlap docs {page}` names a page that does not exist")
        if not is_docstring and (path := PAGE_PATH.search(text)):
            problems.append(f"line {line}: a message points to {path.group()}; write `hotlap docs PAGE`")
    return problems


def stems() -> set[str]:
    return {path.stem for path in (ROOT / "docs").rglob("*.md")}


@pytest.mark.parametrize("path", modules("daemon", "trainer", "schemas"), ids=name_of)
def test_messages_name_pages_that_exist(path):
    if name_of(path) not in TOOLS:
        assert page_problems(path.read_text(encoding="utf-8"), stems()) == []


def test_a_wrong_page_is_found():
    known = {"formats"}
    assert page_problems("raise E('see `hotlap docs formats`')\nprint(f'see `hotlap docs {name}`')", known) == []
    assert page_problems("'''See docs/formats.md.'''", known) == []
    assert len(page_problems("raise E('see `hotlap docs formulas`')", known)) == 1
    assert len(page_problems("raise E('see hotlap docs formulas')", known)) == 1
    assert len(page_problems("raise E('see docs/formats.md')", known)) == 1
    assert len(page_problems("raise E(f'{x}: see errors.md')", known)) == 1
