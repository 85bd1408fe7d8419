"""One rollout is read: its hash is that of the file's bytes, and its row describes its content."""

from __future__ import annotations

import hashlib
import os

import pytest

from daemon.ledger.records import FileSignature
from daemon.rollouts.reading.reader import Accepted, Incomplete, ingest
from schemas.rollout.cache import load_rollout
from schemas.storage.layout import ProjectPaths
from tests.helpers import v1_bytes

NAME = "rollout_1_20261121_120000.json"


@pytest.fixture
def paths(tmp_path):
    paths = ProjectPaths(tmp_path)
    paths.make()
    return paths


def write(paths, data: bytes) -> FileSignature:
    path = paths.exports / NAME
    path.write_bytes(data)
    return FileSignature.of(os.lstat(path))


@pytest.mark.parametrize("data", [v1_bytes(), v1_bytes() + b"\r\n", b" \n" + v1_bytes() + b"\t "])
def test_the_hash_is_that_of_the_bytes_in_the_file(paths, data):
    outcome = ingest(paths.exports, NAME, write(paths, data), paths)
    assert isinstance(outcome, Accepted)
    assert outcome.row.sha256 == hashlib.sha256(data).hexdigest()
    assert load_rollout(paths.cached_rollout(outcome.row.sha256)) is not None


def test_a_file_that_changed_since_the_scan_is_read_again_later(paths):
    signature = write(paths, v1_bytes())
    write(paths, v1_bytes(n=8))
    outcome = ingest(paths.exports, NAME, signature, paths)
    assert isinstance(outcome, Incomplete)
    assert outcome.code == "E_CHANGING"
