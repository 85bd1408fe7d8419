"""A published model is read back before the pointer file names it; the copies are flushed together."""

from __future__ import annotations

import pytest

from daemon.publishing import publish as module
from daemon.publishing.publish import publish
from schemas.errors import HotlapError
from schemas.job import Result
from schemas.model import model_to_bytes
from schemas.storage.files import Disk, sha256_of
from schemas.storage.layout import ProjectPaths
from tests.helpers import make_model

MODEL, CHECKPOINT = "model_epoch_2.json", "model_epoch_2.pt"


@pytest.fixture
def paths(tmp_path):
    paths = ProjectPaths(tmp_path)
    paths.make()
    return paths


class NoOthers:
    """A project in which no other program has written to Models."""

    unreadable = frozenset()

    def set_aside(self):
        return frozenset()

    def remove_copied(self):
        pass


def publish_one(paths, disk):
    model = make_model(version=1)
    staging = paths.staging / "cycle_000001"
    staging.mkdir()
    files = {MODEL: model_to_bytes(model), CHECKPOINT: b"2", "model_epoch_1.pt": b"1", "model_analysis.json": b"{}"}
    for name, data in files.items():
        (staging / name).write_bytes(data)
    result = Result(
        epoch=2,
        score=0.5,
        model=MODEL,
        checkpoint=CHECKPOINT,
        files={name: sha256_of(data) for name, data in files.items()},
        contract=model.contract,
        hidden_sizes=model.hidden_sizes,
    )
    kwargs = {"contract": model.contract, "paths": paths, "keep_checkpoints": True, "disk": disk, "others": NoOthers()}
    return publish(result, staging=staging, cycle=1, **kwargs)


class Recorder(Disk):
    def __init__(self):
        self.ops = []

    def write(self, path, data):
        self.ops.append(("write", path.name))
        super().write(path, data)

    def rename(self, source, target):
        self.ops.append(("rename", target.name))
        super().rename(source, target)

    def fsync_dir(self, path):
        self.ops.append(("fsync_dir", path.name))
        super().fsync_dir(path)


def test_a_model_that_changed_while_it_was_moved_is_not_published(paths):
    class Corrupting(Disk):
        """Changes a byte of the model when its folder is moved to Models."""

        def rename(self, source, target):
            super().rename(source, target)
            if target.name == "cycle_000001":
                data = (target / MODEL).read_bytes()
                at = data.index(b'"weights":[') + 12
                (target / MODEL).write_bytes(data[:at] + b"7" + data[at + 1 :])

    with pytest.raises(HotlapError):
        publish_one(paths, Corrupting())
    assert not paths.pointer.exists()


def test_an_unchanged_model_is_probed_only_once(paths, monkeypatch):
    read, calls = module.read_model, []
    monkeypatch.setattr(module, "read_model", lambda data: calls.append(len(data)) or read(data))
    publish_one(paths, Disk())
    assert len(calls) == 1
    assert paths.pointer.read_text().endswith(f"/cycle_000001/{MODEL}")


def test_no_copy_is_renamed_before_all_are_written_and_the_folder_is_flushed_once(paths):
    disk = Recorder()
    publish_one(paths, disk)
    copies = disk.ops[disk.ops.index(("fsync_dir", "Models")) + 1 :]
    kinds = [kind for kind, _ in copies]
    assert kinds == ["write"] * 4 + ["rename"] * 4 + ["fsync_dir"] + ["write", "rename", "fsync_dir"]
    assert copies[-2] == ("rename", "best_model_path.txt")
