"""`python -m daemon`: the same as the command `hotlap`.

`python -m` searches the current folder before all others, and that is a game's folder: a `tomllib.py` or `schemas/`
in it would run in the place of the real one. So the current folder leaves the search path before anything is imported
(`sys` and `os` are loaded already), unless it is the checkout that this file belongs to.
"""

import os
import sys

_OURS = os.path.realpath(os.path.dirname(os.path.dirname(__file__)))
try:
    _HERE = os.path.realpath(os.getcwd())
except OSError:  # it was removed: nothing can be imported from it
    _HERE = _OURS
if _HERE != _OURS:
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or _HERE) != _HERE]

from schemas.program.entry import main

if __name__ == "__main__":
    sys.exit(main())
