"""`hotlap docs` and `hotlap explain`: the documentation of this version, also from an installed package."""

from __future__ import annotations

import sys
from pathlib import Path

from daemon.errors import DaemonError, Exit
from schemas.program.children import CODE_ROOT
from schemas.program.commands import usable
from schemas.program.parser import nearest
from schemas.text import ascii_safe

_FOLDERS = (Path(__file__).with_name("docs"), CODE_ROOT / "docs")
"""In an installed package; in a checkout."""
_TRAINER_PREFIX = "W_TRAINER_"


def show_page(name: str | None) -> Exit:
    """Print a page of the documentation; without a name, list all pages. Raises DaemonError (E_PAGE)."""
    pages = _pages()
    if name is None:
        width = max(map(len, pages))
        _print("".join(f"{stem:{width}}  {_title(path)}\n" for stem, path in pages.items()))
        _print("\nhotlap docs PAGE prints one of these pages\n")
        return Exit.DONE
    parts = name.lower().removesuffix(".md").replace("\\", "/").split("/")
    wanted = "/".join(parts[-2:])
    if wanted not in pages:
        wanted = parts[-1]
    if wanted not in pages:
        close = nearest(wanted, pages)
        hint = f"did you mean `hotlap docs {close}`?" if close else "`hotlap docs` lists the pages"
        raise DaemonError(f"the page {name} does not exist", hint=hint, code="E_PAGE")
    _print(pages[wanted].read_text(encoding="utf-8"))
    return Exit.DONE


def _pages() -> dict[str, Path]:
    """Return the pages by their names, in the order of the folders. Raises DaemonError (E_PAGE).

    A name is the stem of the file. If an earlier folder has a page with this stem, the folder is part of the name.
    """
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), None)
    found = sorted(folder.rglob("*.md"), key=lambda path: (path.parent, path.stem)) if folder else []
    if not found:
        raise DaemonError(
            f"the documentation is not installed: {_FOLDERS[0]} does not exist",
            hint="install hotlap again",
            code="E_PAGE",
        )
    pages: dict[str, Path] = {}
    for path in found:
        stem = path.stem.lower()
        if stem != "readme":
            pages[f"{path.parent.name}/{stem}" if stem in pages else stem] = path
    return pages


def _title(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.lstrip("# ") for line in lines if line.startswith("# ")), "")


def explain(code: str | None) -> Exit:
    """Print what a code means and what to do; without a code, list all. Raises DaemonError (E_CODE)."""
    from schemas.error_codes import CODES

    if code is None:
        _print("".join(f"{name:20}  {known.cause}\n" for name, known in sorted(CODES.items())))
        return Exit.DONE
    name = code.strip("[]`").upper()
    known = CODES.get(name) or CODES.get(name.removeprefix(_TRAINER_PREFIX))
    if known is None:
        close = nearest(name, CODES)
        hint = f"did you mean `hotlap explain {close}`?" if close else "`hotlap explain` lists the codes"
        raise DaemonError(f"the code {code} does not exist", hint=hint, code="E_CODE")
    _print(f"{name}: {known.cause}\nwhat to do: {usable(known.remedy)}\n")
    return Exit.DONE


def _print(text: str) -> None:
    """Write text. If the console's encoding does not have all characters, those outside ASCII become escapes."""
    encoding = sys.stdout.encoding or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = "".join(f"{ascii_safe(line)}\n" for line in text.splitlines())
    sys.stdout.write(text)
