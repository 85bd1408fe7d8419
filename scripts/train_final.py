"""`hotlap online` under the name that users of online trainers type."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from trainer.online.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
