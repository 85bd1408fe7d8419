"""`hotlap export` under its old name: convert one checkpoint to model JSON."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from trainer.checkpoint_cli import export_one

if __name__ == "__main__":
    sys.exit(export_one(sys.argv[1:]))
