"""`hotlap simulate` under its old name: a simulated engine."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from trainer.cli import run_script

if __name__ == "__main__":
    sys.exit(run_script("simulate", sys.argv[1:]))
