"""`hotlap export-best` under its old name: export the best checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from trainer.checkpoint_cli import find_and_export

if __name__ == "__main__":
    sys.exit(find_and_export(sys.argv[1:]))
