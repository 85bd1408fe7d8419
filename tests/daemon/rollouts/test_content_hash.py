"""A rollout is identified by the hash of the file's bytes, exactly as the engine wrote them."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3

from tests.faults.support.site import Site
from tests.helpers import drop, v1_bytes


def test_files_that_differ_only_in_white_space_are_two_rollouts_with_the_hashes_of_their_bytes(tmp_path):
    data = v1_bytes(seed=1)
    with Site(tmp_path, enable_auto_training=False) as site:
        files = [drop(site.layout.exports, k, text) for k, text in enumerate((data, data + b"\r\n", b"\t" + data))]
        site.until(lambda: site.ledger.pending_count() == len(files))
        hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        with contextlib.closing(sqlite3.connect(site.layout.ledger)) as db:
            assert dict(db.execute("SELECT name, sha256 FROM rollout")) == hashes
        assert all(site.layout.cached_rollout(sha256).is_file() for sha256 in hashes.values())
