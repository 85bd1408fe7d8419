"""`python -m trainer`: the trainer's programs; see `trainer.cli`.

`python -m` searches the current folder before all others. So it is removed from the search path before other modules
than `sys` and `os`, which are loaded already, are imported, unless it is the checkout that this file belongs to.
"""

import os
import sys

_CHECKOUT = os.path.realpath(os.path.dirname(os.path.dirname(__file__)))
try:
    _CURRENT_FOLDER = os.path.realpath(os.getcwd())
except OSError:  # the folder was removed: nothing can be imported from it
    _CURRENT_FOLDER = _CHECKOUT
if _CURRENT_FOLDER != _CHECKOUT:
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or _CURRENT_FOLDER) != _CURRENT_FOLDER]

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's threads compete with a game's, and torch's, for the cores

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # An import that Ctrl-C interrupts ends with a traceback, that of torch sometimes with an abort. `trainer.cli` sets
    # the usual handler again when the program is imported.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from schemas.process.ending import exit_with
from trainer.cli import main

if __name__ == "__main__":
    exit_with(main(sys.argv[1:]))
