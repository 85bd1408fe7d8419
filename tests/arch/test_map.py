"""docs/architecture.md names every module, so that nobody has to guess where a thing lives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path.relative_to(ROOT)
    for package in ("schemas", "daemon", "trainer")
    for path in (ROOT / package).glob("*.py")
    if not path.name.startswith("__")
)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.as_posix())
def test_the_map_names_it(module):
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = re.split(r"^## ", text, flags=re.MULTILINE)
    [mine] = [part for part in section if part.startswith(f"{module.parts[0]}/")]
    assert f"`{module.stem}`" in mine
