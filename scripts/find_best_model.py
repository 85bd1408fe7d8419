"""`hotlap find-best` under its old name: rank checkpoints and write model_analysis.json."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from trainer.cli import run_script

if __name__ == "__main__":
    sys.exit(run_script("find-best", sys.argv[1:]))
