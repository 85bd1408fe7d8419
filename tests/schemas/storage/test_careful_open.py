"""Only regular files are opened, and child processes do not inherit them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from schemas.storage.careful_open import open_regular
from tests.platforms import needs_posix


def test_a_file_is_opened_and_not_inherited(tmp_path):
    descriptor = open_regular(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        assert not os.get_inheritable(descriptor)
        os.write(descriptor, b"a\nb")
    finally:
        os.close(descriptor)
    assert (tmp_path / "file").read_bytes() == b"a\nb"


@needs_posix("FIFOs and /dev/fd")
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
@pytest.mark.parametrize("kind", ["fifo", "folder", "link", "missing"])
def test_other_kinds_of_files_raise_without_waiting(tmp_path, kind, flags):
    path = tmp_path / kind
    (tmp_path / "target").write_bytes(b"")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(tmp_path / "target")
    before = len(list(Path("/dev/fd").iterdir()))
    with pytest.raises(OSError, match=str(path)):
        open_regular(path, flags)
    assert len(list(Path("/dev/fd").iterdir())) == before, "no descriptor is left open"
