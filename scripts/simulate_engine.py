"""A game without a game: `python scripts/simulate_engine.py --project DIR`. `--help` lists the flags."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from trainer.simulate.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
