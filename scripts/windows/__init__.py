"""Run Hotlap on Windows Python, on Debian: Wine, a Windows CPython and wheels for Windows, in a cache folder."""
