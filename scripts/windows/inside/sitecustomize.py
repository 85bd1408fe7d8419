"""Windows Python under Wine 8: avoid the functions of Windows that Wine does not have.

Python imports this module at its start. It is part of the environment of `python scripts/dev.py windows` only.
"""

import _winapi

# Python 3.13's shutil.copy2 calls CopyFile2, which ends the program under Wine 8. Without it, copy2 does what Python
# 3.11 does on Windows: copyfile and copystat.
if hasattr(_winapi, "CopyFile2"):
    del _winapi.CopyFile2
