"""`hotlap dagger` under its old name."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from schemas.process.ending import exit_with
from trainer.cli import run_script

if __name__ == "__main__":
    exit_with(run_script("dagger", sys.argv[1:]))
