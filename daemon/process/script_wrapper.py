"""Runs a user's training script in a child that ends with the daemon; started as `script_wrapper.py SCRIPT ARG ...`.

The user's Python may not have Hotlap's dependencies, so this file needs only the standard library. It loads
schemas/process/lifeline.py by its path: after an import of Hotlap's `schemas`, the script could not import a module of
the same name from its own folder.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType

_LIFELINE = Path(__file__).resolve().parents[2] / "schemas" / "process" / "lifeline.py"


def _load_lifeline() -> ModuleType:
    spec = importlib.util.spec_from_file_location("_hotlap_lifeline", _LIFELINE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Run the script as `python SCRIPT ARG ...` would."""
    script = sys.argv[1]
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(script).resolve().parent))
    _load_lifeline().end_script_with_parent()
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
