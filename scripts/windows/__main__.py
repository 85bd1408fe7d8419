"""Start the command line: `python scripts/dev.py windows`."""

import sys

from scripts.windows.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
