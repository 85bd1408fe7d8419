"""`python -m trainer`: the trainer's programs; see `trainer.cli`.

`python -m` searches the current folder before all others. So it leaves the search path before anything is imported
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

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's threads compete with a game's, and torch's, for the cores

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # An import that Ctrl-C interrupts ends with a traceback, that of torch sometimes with an abort. `trainer.cli` sets
    # the usual handler again when the program is imported.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from trainer.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
