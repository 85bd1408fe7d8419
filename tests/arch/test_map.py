"""docs/concepts/architecture.md lists every package folder and every module, and nothing that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "concepts" / "architecture.md"
FOLDERS = sorted(
    {
        path.parent.relative_to(ROOT).as_posix() + "/"
        for package in ("daemon", "trainer", "schemas")
        for path in (ROOT / package).rglob("*.py")
    }
)
ROW = re.compile(r"\| `((?:daemon|trainer|schemas)/[\w/]*)` \|([^|\n]*)\|([^|\n]*)\|")


def rows_of(text: str) -> dict[str, tuple[str, set[str]]]:
    """Return the page's table rows: folder -> (what it contains, its modules)."""
    rows = {}
    for folder, contains, modules in ROW.findall(text):
        assert folder not in rows, f"{folder} has two rows"
        rows[folder] = (contains.strip(), set(re.findall(r"`(\w+)`", modules)))
    return rows


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_page_lists_the_folder_and_its_modules(folder):
    contains, modules = rows_of(PAGE.read_text(encoding="utf-8"))[folder]
    assert contains, "state in a few words what the folder contains"
    assert modules == {path.stem for path in (ROOT / folder).glob("*.py") if not path.name.startswith("__")}


def test_the_page_lists_no_folder_that_does_not_exist():
    assert set(rows_of(PAGE.read_text(encoding="utf-8"))) == set(FOLDERS)


def test_rows_are_found():
    """Check the control: prose is not a row, and folders of two levels are found."""
    text = "`daemon/ui/` is text\n| `daemon/ui/` | the dashboard | `log`, `panels` |\n| `x/` | a | `b` |"
    assert rows_of(text) == {"daemon/ui/": ("the dashboard", {"log", "panels"})}
    assert {"daemon/", "trainer/ppo/analytic/", "schemas/rollout/"} <= set(FOLDERS)
