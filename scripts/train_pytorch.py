"""`hotlap train` under the name that the Unreal plugin uses."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from trainer.cli import run_script

if __name__ == "__main__":
    sys.exit(run_script("train", sys.argv[1:]))
