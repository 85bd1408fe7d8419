"""`python -m daemon`: the same as the command `hotlap`.

`python -m` searches the current folder first, and that is a game's folder: a `tomllib.py` or `schemas/` in it would be
imported instead of the real one. So the current folder is removed from the search path before anything is imported
(`sys` and `os` are loaded already), unless it is the checkout that contains this file.
"""

import os
import sys

_CODE_ROOT = os.path.realpath(os.path.dirname(os.path.dirname(__file__)))
try:
    _CURRENT_FOLDER = os.path.realpath(os.getcwd())
except OSError:  # the folder was removed: nothing can be imported from it
    _CURRENT_FOLDER = _CODE_ROOT
if _CURRENT_FOLDER != _CODE_ROOT:
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or _CURRENT_FOLDER) != _CURRENT_FOLDER]

from schemas.program.entry import main

if __name__ == "__main__":
    sys.exit(main())
