"""The search path for code of users: the current folder, after all installed packages."""

from __future__ import annotations

import sys
from pathlib import Path


def search_current_folder() -> None:
    """Let imports search the current folder last, so that no file in it replaces an installed module."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
