"""`hotlap online` under the name that users of online trainers type."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from schemas.process.ending import exit_with
from trainer.cli import run_script

if __name__ == "__main__":
    exit_with(run_script("online", sys.argv[1:]))
