"""`hotlap train` under the name that the Unreal plugin uses."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from trainer.train_cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
