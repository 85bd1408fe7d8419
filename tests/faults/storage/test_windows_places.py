"""Projects on long paths, drives of `subst` and network shares, and files that an engine on Windows holds open."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest

from daemon.cli import main
from daemon.diagnostics.invariants import fingerprints_of
from daemon.publishing.pointer import read_pointer
from daemon.rollouts.scan import scan_folder
from daemon.runtime.project_folder import describe_long_path, project_paths
from schemas.errors import HotlapError
from schemas.storage import files
from schemas.storage.files import Disk, read_regular
from schemas.storage.layout import ProjectPaths
from tests.faults.support.harness import InstantHarness, violations
from tests.helpers import write_rollout

windows = pytest.mark.skipif(sys.platform != "win32", reason="Windows: its paths, and files that programs do not share")
if sys.platform == "win32":
    from tests.faults.support.windows import SHARE_READ_AND_WRITE, drive_letter, held_open, network_share


def run_two_cycles(project: Path) -> ProjectPaths:
    """Run a daemon on a project, and check what an engine reads."""
    paths = project_paths(project)
    with InstantHarness(paths.project) as harness:
        before = fingerprints_of(paths.exports)
        harness.run_cycle(1)
        long_name = paths.exports / f"rollout_{'x' * 180}.json"
        write_rollout(paths.exports, 3).replace(long_name)
        harness.write_rollouts(4)
        harness.until_version(2)
        assert harness.warnings() == set()
        assert harness.failures == []
    assert violations(paths.project, before=before) == ()
    pointer = paths.pointer.read_text(encoding="utf-8")
    status = orjson.loads(paths.status.read_bytes())
    assert status["best_model_path"] == pointer
    assert "\\" not in pointer + paths.status.read_text(encoding="utf-8")
    assert read_pointer(paths) == "cycle_000002/model_epoch_2.json"
    return paths


def output_of(*arguments: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main([*arguments]) in {0, 1}
    return out.getvalue()


@pytest.mark.fault(72)
@windows
@pytest.mark.parametrize("folders", [3, 5], ids=["long files", "long folder"])
def test_a_project_whose_paths_are_too_long_for_windows(tmp_path, monkeypatch, folders):
    monkeypatch.setattr("daemon.diagnostics.doctor._python", lambda *_: ())  # it starts a Python with torch
    project = tmp_path / Path(*["d" * 60] * folders)
    Path(f"\\\\?\\{project}").mkdir(parents=True)
    paths = run_two_cycles(project)
    assert paths.pointer.read_text(encoding="utf-8").startswith(project.as_posix())
    for command in (("status",), ("history",)):
        assert "\\" not in output_of(*command, "--project", str(project))
    report = output_of("doctor", "--project", str(project), "--json")
    found = {item["topic"]: item for item in orjson.loads(report)}
    assert "[W_LONG_PATH]" in " ".join(item["text"] for item in orjson.loads(report))
    assert found["model"]["level"] == "ok"
    assert found["invariants"]["level"] == "ok"
    assert "\\\\?" not in report


@pytest.mark.fault(72)
@windows
def test_a_project_on_a_drive_of_subst_keeps_its_drive_letter(tmp_path):
    """Resolved, the drive would be another path, for a network drive one that the engine may be unable to open."""
    (tmp_path / "game").mkdir()
    with drive_letter(tmp_path) as drive:
        paths = run_two_cycles(drive / "game")
        pointer = paths.pointer.read_text(encoding="utf-8")
        assert pointer == "S:/game/Saved/Training/Models/cycle_000002/model_epoch_2.json"
        same = project_paths(tmp_path / "game")  # the same folder by its other name
        assert read_pointer(same) == "cycle_000002/model_epoch_2.json"
        assert violations(same.project) == ()


@pytest.mark.fault(72)
@windows
def test_a_project_on_a_network_share(tmp_path):
    share = network_share(tmp_path)
    paths = run_two_cycles(share)
    pointer = paths.pointer.read_text(encoding="utf-8")
    assert pointer.startswith("//")
    assert Path(pointer).is_file()


@windows
def test_the_case_of_a_projects_path_does_not_matter(tmp_path):
    with InstantHarness(tmp_path) as harness:
        harness.until_version(0)
        assert read_pointer(ProjectPaths(Path(str(tmp_path).upper()))) == "cycle_000000/model_epoch_0.json"


def test_a_pointer_file_that_names_a_server_is_not_opened(tmp_path, monkeypatch):
    paths = ProjectPaths(tmp_path)
    paths.make()
    paths.pointer.write_text("//server/share/Saved/Training/Models/cycle_000001/model_epoch_1.json")
    monkeypatch.setattr(os.path, "samestat", lambda *_: pytest.fail("the server was asked"))
    assert read_pointer(paths) is None


@pytest.mark.parametrize(("characters", "is_reported"), [(198, False), (199, True), (300, True)])
def test_a_projects_path_that_is_too_long_for_engines_is_reported(characters, is_reported):
    message = describe_long_path(characters)
    assert (message is not None) == is_reported
    if message is not None:
        assert f"has {characters} characters" in message
        assert "at most 198 characters" in message


@windows
@pytest.mark.parametrize("name", ["aux", "CON.game", "nul"])
def test_a_project_with_the_name_of_a_device_is_refused(tmp_path, name):
    with pytest.raises(HotlapError) as caught:
        project_paths(tmp_path / name / "game")
    assert caught.value.code == "E_PROJECT"
    assert f"contains {name!r}" in caught.value.message


@pytest.mark.fault(23)
@pytest.mark.parametrize("name", ["rollout_2.json ", "rollout_2.json.", "rollout_2.json. ."])
def test_a_rollouts_name_that_windows_would_change_is_skipped_with_a_reason(tmp_path, name):
    path = tmp_path / name
    if sys.platform == "win32":
        path = Path(f"\\\\?\\{path}")
    path.write_bytes(b"{}")
    assert scan_folder(tmp_path).skipped == {name: "E_NAME"}


@pytest.mark.fault(23)
def test_names_that_differ_only_in_case_are_one_rollout_on_windows_and_two_elsewhere(fresh_project):
    with InstantHarness(fresh_project(), auto_train_after_n_rollouts=9) as harness:
        first = write_rollout(harness.paths.exports, 1, seed=1)
        harness.until(lambda: harness.ledger.pending_count() == 1)
        other = first.with_name(first.name.upper())
        if sys.platform == "win32":
            first.replace(first.with_suffix(".tmp")).replace(
                other
            )  # in two steps, because Wine ignores a change of case
            harness.inbox.request_scan()
            harness.until(lambda: set(harness.ledger.files()) == {other.name})
            assert harness.ledger.pending_count() == 1
        else:
            write_rollout(harness.paths.exports, 2, seed=2).replace(other)
            harness.until(lambda: harness.ledger.pending_count() == 2)


@pytest.mark.fault(24)
@windows
def test_a_rollout_that_unreal_is_writing_is_taken_when_it_is_closed(fresh_project):
    """Unreal's writer shares nothing: no other program can open the file meanwhile."""
    with InstantHarness(fresh_project()) as harness:
        path = write_rollout(harness.paths.exports, 1)
        with held_open(path):
            harness.until(lambda: harness.inbox.incomplete.get(path.name, "").startswith("another program"))
            assert not any("rollout_1" in line for line in harness.log.lines)
        harness.until(lambda: harness.ledger.pending_count() == 1)
        assert not any("rollout_1" in line for line in harness.log.lines)


@pytest.mark.fault(43)
@windows
def test_a_publish_waits_for_an_engine_that_reads_the_pointer_file(fresh_project):
    """Python's `open`, like most engines, does not share the replacing of the file."""
    closing, closed = threading.Event(), threading.Event()

    class Patient(Disk):
        waited = 0

        def pause(self, seconds):
            self.waited += 1
            closing.set()
            closed.wait(5.0)

    disk = Patient()
    with InstantHarness(fresh_project(), disk=disk) as harness:
        opened = threading.Event()

        def read_slowly():
            with held_open(harness.paths.pointer, share=SHARE_READ_AND_WRITE):
                opened.set()
                closing.wait(10.0)
            closed.set()

        engine = threading.Thread(target=read_slowly)
        engine.start()
        assert opened.wait(5.0)
        harness.run_cycle(1)
        engine.join(5.0)
        assert disk.waited >= 1
        assert harness.warnings() == set()


@windows
@pytest.mark.parametrize("name", ["status", "ledger"])
def test_status_and_history_wait_for_a_file_that_is_not_shared(tmp_path, name):
    with InstantHarness(tmp_path) as harness:
        harness.run_cycle(1)
        path = getattr(harness.paths, name)
    opened, started = threading.Event(), threading.Event()

    def hold():
        with held_open(path):
            opened.set()
            started.wait(5.0)
            threading.Event().wait(0.2)  # the command meets the open file

    thread = threading.Thread(target=hold)
    thread.start()
    assert opened.wait(5.0)
    started.set()
    command = "status" if name == "status" else "history"
    assert "1" in output_of(command, "--project", str(tmp_path))
    thread.join(5.0)


CLOUD_FILE = 0x9000001A
"""IO_REPARSE_TAG_CLOUD: a file of OneDrive of which only the name and the size are on the disk."""
OFFLINE, RECALL_ON_OPEN, RECALL_ON_DATA_ACCESS, REPARSE_POINT = 0x1000, 0x40000, 0x400000, 0x400


@pytest.mark.parametrize("attributes", [OFFLINE, RECALL_ON_OPEN, RECALL_ON_DATA_ACCESS, REPARSE_POINT | OFFLINE])
def test_a_placeholder_of_onedrive_is_opened_like_any_file(tmp_path, monkeypatch, attributes):
    """Opening it fetches its content. Wine cannot create such a file, so only its attributes are shown here."""
    path = write_rollout(tmp_path, 1)
    real, fields = os.lstat, [name for name in dir(os.lstat(path)) if name.startswith("st_")]

    def lstat(name, **kwargs):
        found = {field: getattr(real(name, **kwargs), field) for field in fields}
        return SimpleNamespace(**{**found, "st_file_attributes": attributes, "st_reparse_tag": CLOUD_FILE})

    monkeypatch.setattr(files.os, "lstat", lstat)
    assert read_regular(path, limit=1 << 20) == path.read_bytes()
    listing = scan_folder(tmp_path)
    assert (list(listing.files), listing.skipped) == ([path.name], {})
