"""`hotlap export` under its old name: convert one checkpoint to model JSON."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from trainer.cli import run_script

if __name__ == "__main__":
    sys.exit(run_script("export", sys.argv[1:]))
