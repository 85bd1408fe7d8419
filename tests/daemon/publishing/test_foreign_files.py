"""Files of other programs are never replaced or removed: they are moved, intact, before Hotlap uses their names."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from schemas.storage.files import Disk
from schemas.storage.layout import ProjectPaths
from tests.faults.support.disk import win_error
from tests.faults.support.harness import InstantHarness, violations
from tests.helpers import model_bytes

FOLDER = re.compile(r"before_hotlap_\d{8}(_\d+)?")
LEFT_ALONE = {"model_best.pt": b"best", "notes.txt": b"notes", "my_model.json": b"{}", "model_epoch_x.pt": b"x"}


def train_with_other_scripts(paths: ProjectPaths, *, epochs: int = 3, named: int = 2) -> dict[str, bytes]:
    """Write what other scripts leave in Models; return the content of the files that Hotlap's names collide with."""
    paths.models.mkdir(parents=True, exist_ok=True)
    endings = [(k, ending) for k in range(epochs) for ending in ("pt", "json")]
    files = {f"model_epoch_{k}.{ending}": f"days of training {k} {ending}".encode() for k, ending in endings}
    files |= {"model_analysis.json": b'{"mine": true}'}
    files |= {"best_model_path.txt": str(paths.models / f"model_epoch_{named}.json").encode()}
    for name, data in (files | LEFT_ALONE).items():
        (paths.models / name).write_bytes(data)
    return files


def moved_files(paths: ProjectPaths) -> dict[str, bytes]:
    """Return what is in the folders of moved files; no name may occur twice."""
    found: dict[str, bytes] = {}
    for folder in (path for path in paths.models.iterdir() if FOLDER.fullmatch(path.name)):
        for path in folder.rglob("*"):
            if path.is_file() and not path.name.endswith(".tmp"):
                assert path.name not in found
                found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def pointer_names_a_file(paths: ProjectPaths) -> bool:
    return Path(paths.pointer.read_text()).exists()


class Crash(BaseException):
    """The process ends here."""


class WatchedDisk(Disk):
    """Calls `check` before each operation, and crashes at operation `crash_at` (from 1)."""

    def __init__(self, check, *, crash_at: int = 0) -> None:
        self.check, self.crash_at, self.count = check, crash_at, 0

    def _next(self) -> None:
        self.count += 1
        self.check()
        if self.crash_at and self.count >= self.crash_at:
            raise Crash

    def write(self, path, data):
        self._next()
        super().write(path, data)

    def rename(self, source, target):
        self._next()
        super().rename(source, target)

    def unlink(self, path):
        self._next()
        super().unlink(path)

    def make_folder(self, path):
        self._next()
        super().make_folder(path)

    def remove_folder(self, path):
        self._next()
        super().remove_folder(path)


def test_the_first_start_moves_all_of_them_and_the_pointer_always_names_a_file(tmp_path):
    paths = ProjectPaths(tmp_path)
    files = train_with_other_scripts(paths)
    assert violations(tmp_path) == ()

    def check() -> None:
        assert pointer_names_a_file(paths)

    with InstantHarness(tmp_path, disk=WatchedDisk(check)) as harness:
        assert moved_files(paths) == files
        [line] = [line for line in harness.log.lines if "W_SET_ASIDE" in line]
        folder = next(path.name for path in paths.models.iterdir() if FOLDER.fullmatch(path.name))
        assert f"`hotlap adopt Saved/Training/Models/{folder}/model_epoch_2.json`" in line
        assert paths.pointer.read_bytes() == files["best_model_path.txt"]
        harness.run_cycle(1)
    assert moved_files(paths) == files
    assert {name: (paths.models / name).read_bytes() for name in LEFT_ALONE} == LEFT_ALONE
    assert paths.pointer.read_text().endswith("cycle_000001/model_epoch_2.json")
    assert violations(tmp_path) == ()
    with InstantHarness(tmp_path) as harness:
        assert not [line for line in harness.log.lines if "W_SET_ASIDE" in line]


def crash_once(folder, crash_at: int) -> bool:
    """Start a daemon that crashes at a disk operation; return whether it got that far."""
    paths = ProjectPaths(folder)
    disk = WatchedDisk(lambda: None, crash_at=crash_at)
    try:
        harness = InstantHarness(folder, disk=disk)
    except Crash:
        return True
    try:
        while harness.version < 0 or harness.runner.busy:
            harness.service.tick()
            harness.await_reader()
    except Crash:
        return True
    finally:
        harness.crash()
    assert pointer_names_a_file(paths)
    return False


def test_a_crash_at_any_operation_loses_nothing_and_the_next_start_finishes_the_move(tmp_path):
    """Check a file for version 0 that has the name of one of theirs, too: its content is saved before."""
    template = tmp_path / "template"
    files = train_with_other_scripts(ProjectPaths(template), named=0)
    crash_at = 1
    while True:
        folder = tmp_path / f"project_{crash_at}"
        shutil.copytree(template, folder)
        paths = ProjectPaths(folder)
        paths.pointer.write_text(str(paths.models / "model_epoch_0.json"))
        expected = files | {"best_model_path.txt": paths.pointer.read_bytes()}
        has_crashed = crash_once(folder, crash_at)
        assert pointer_names_a_file(paths)
        with InstantHarness(folder) as harness:
            harness.until_version(0)
        assert moved_files(paths) == expected, f"after a crash at operation {crash_at}"
        folders = [path.name for path in paths.models.iterdir() if FOLDER.fullmatch(path.name)]
        assert len(folders) == 1
        assert violations(folder) == ()
        shutil.rmtree(folder)
        if not has_crashed:
            break
        crash_at += 1 if sys.platform != "win32" else 5  # each start takes seconds there
    assert crash_at > 12


def test_an_existing_folder_is_never_used(tmp_path):
    paths = ProjectPaths(tmp_path)
    with InstantHarness(tmp_path) as harness:
        harness.until_version(0)
        for number in range(3):
            (paths.models / "model_epoch_7.pt").write_bytes(f"{number}".encode())
            harness.run_cycle(1 + 2 * number)
    folders = sorted(path.name for path in paths.models.iterdir() if FOLDER.fullmatch(path.name))
    assert folders == [folders[0], f"{folders[0]}_2", f"{folders[0]}_3"]
    assert [(paths.models / name / "model_epoch_7.pt").read_bytes() for name in folders] == [b"0", b"1", b"2"]


def test_a_script_that_writes_over_a_copy_while_the_daemon_runs_loses_nothing(tmp_path):
    paths = ProjectPaths(tmp_path)
    with InstantHarness(tmp_path) as harness:
        harness.run_cycle(1)
        (paths.models / "model_epoch_1.pt").write_bytes(b"theirs")
        paths.pointer.write_text(str(paths.models / "model_epoch_1.pt"))
        harness.run_cycle(3)
    assert moved_files(paths)["model_epoch_1.pt"] == b"theirs"
    assert moved_files(paths)["best_model_path.txt"].endswith(b"model_epoch_1.pt")
    assert (paths.models / "model_epoch_1.pt").read_bytes() != b"theirs"


def test_cycle_folders_of_other_programs_are_moved_and_never_taken_for_published_ones(tmp_path):
    paths = ProjectPaths(tmp_path)
    for number in (0, 3, 999):
        folder = paths.cycle_folder(number)
        folder.mkdir(parents=True)
        (folder / "model_epoch_1.json").write_bytes(model_bytes().replace(b"hotlap.model/1", b"other"))
        (folder / "video.mp4").write_bytes(b"video")
    with InstantHarness(tmp_path, keep_cycles=5) as harness:
        harness.clock.wall = 4e9  # every folder is older than an hour
        assert "W_LEDGER_REBUILT" not in harness.warnings()
        harness.run_cycle(1)
        assert [cycle.cycle for cycle in harness.ledger.history()] == [0, 1]
        (paths.models / "cycle_000500").mkdir()
        (paths.models / "cycle_000500" / "theirs.txt").write_bytes(b"theirs")
        for number in range(2, 9):
            harness.run_cycle(2 * number)
    moved = moved_files(paths)
    assert {f"cycle_{n:06d}/video.mp4" for n in (0, 3, 999)} <= set(moved)
    assert moved["cycle_000500/theirs.txt"] == b"theirs"


def test_files_that_a_user_put_into_a_cycle_folder_are_not_removed_with_it(tmp_path):
    paths = ProjectPaths(tmp_path)
    with InstantHarness(tmp_path, keep_cycles=5) as harness:
        harness.run_cycle(1)
        (paths.cycle_folder(1) / "notes.txt").write_bytes(b"notes")
        (paths.staging / "mine").mkdir()
        (paths.cache / "mine.txt").write_bytes(b"mine")
        harness.clock.wall = 4e9
        for number in range(2, 11):
            harness.run_cycle(2 * number)
    assert [path.name for path in paths.cycle_folder(1).iterdir()] == ["notes.txt"]
    assert not paths.cycle_folder(2).exists()
    assert (paths.staging / "mine").is_dir()
    assert (paths.cache / "mine.txt").read_bytes() == b"mine"


@pytest.mark.parametrize("what", ["the ledger", "the ledger and the cycles"])
def test_copies_of_hotlap_are_recognised_without_the_ledger_or_kept(tmp_path, what):
    paths = ProjectPaths(tmp_path)
    with InstantHarness(tmp_path) as harness:
        harness.run_cycle(1)
    copies = {path.name: path.read_bytes() for path in paths.models.iterdir() if path.is_file()}
    paths.ledger.unlink()
    if what == "the ledger and the cycles":
        for folder in (*paths.models.glob("cycle_*"), paths.logs):
            shutil.rmtree(folder)
    with InstantHarness(tmp_path) as harness:
        harness.until_version(0)
    if what == "the ledger":
        assert moved_files(paths) == {}
    else:
        del copies["best_model_path.txt"]  # it names a model that does not exist any more
        del copies["hotlap_project.json"]  # it still belongs to this project
        assert moved_files(paths) == copies


def test_a_file_that_is_held_open_is_copied_and_removed_later(tmp_path):
    paths = ProjectPaths(tmp_path)
    files = train_with_other_scripts(paths)

    class HeldOpen(Disk):
        is_held = True

        def rename(self, source, target):
            if self.is_held and source.name == "model_epoch_1.pt" and source.parent == paths.models:
                raise win_error(32)(source)
            super().rename(source, target)

        def unlink(self, path):
            if self.is_held and path.name == "model_epoch_1.pt" and path.parent == paths.models:
                raise win_error(32)(path)
            super().unlink(path)

        def pause(self, seconds):
            pass

    disk = HeldOpen()
    with InstantHarness(tmp_path, disk=disk) as harness:
        harness.until_version(0)
        assert moved_files(paths) == files
        assert (paths.models / "model_epoch_1.pt").read_bytes() == files["model_epoch_1.pt"]
        disk.is_held = False
        harness.run_cycle(1)
    assert moved_files(paths) == files
    assert (paths.models / "model_epoch_1.pt").read_bytes() != files["model_epoch_1.pt"]


@pytest.mark.skipif(sys.platform == "win32", reason="making links needs a right there")
def test_a_link_is_moved_itself_and_its_target_stays(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "weights.pt").write_bytes(b"theirs")
    paths = ProjectPaths(tmp_path / "project")
    paths.models.mkdir(parents=True)
    (paths.models / "model_epoch_0.pt").symlink_to(outside / "weights.pt")
    (paths.models / "best_model_path.txt").symlink_to(outside / "weights.pt")
    with InstantHarness(paths.project) as harness:
        harness.until_version(0)
    assert (outside / "weights.pt").read_bytes() == b"theirs"
    [folder] = [path for path in paths.models.iterdir() if FOLDER.fullmatch(path.name)]
    assert (folder / "model_epoch_0.pt").is_symlink()
    assert (folder / "best_model_path.txt").is_symlink()
    assert not paths.pointer.is_symlink()


def test_a_status_file_and_a_reason_of_other_programs_are_kept(tmp_path):
    paths = ProjectPaths(tmp_path)
    paths.make()
    paths.status.write_bytes(b'{"theirs": 1}')
    (paths.rejected / "rollout_1_20261121_120000.json.reason.txt").write_bytes(b"theirs")
    with InstantHarness(tmp_path, incomplete_timeout_s=0.1) as harness:
        (paths.exports / "rollout_1_20261121_120000.json").write_bytes(b'{"experiences": 1}')
        harness.until(lambda: harness.ledger.rejected_count() == 1)
    assert moved_files(paths)["status.json"] == b'{"theirs": 1}'
    assert (paths.rejected / "rollout_1_20261121_120000.json.reason.txt").read_bytes() == b"theirs"
