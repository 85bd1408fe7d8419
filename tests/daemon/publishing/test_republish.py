"""Publishing an earlier epoch: the same result through the running daemon and, if none runs, under its lock."""

from __future__ import annotations

import errno
import threading
from contextlib import closing

import pytest

from daemon.cli import main
from daemon.ledger.ledger import Ledger
from daemon.publishing import republish
from daemon.runtime.instance_lock import ProjectLock, is_held
from schemas.program.commands import usable
from schemas.storage.layout import ProjectPaths
from tests.faults.support.harness import InstantHarness, violations

MODEL = "cycle_000001/model_epoch_2.json"


@pytest.fixture
def paths(tmp_path) -> ProjectPaths:
    """Make a project in which cycles 1 and 2 were published; return its paths."""
    with InstantHarness(tmp_path) as harness:
        harness.until_version(0)
        harness.run_cycle(1)
        harness.run_cycle(3)
    return harness.paths


def publish(paths: ProjectPaths, *arguments: str) -> int:
    return main(["--project", str(paths.project), "publish", *arguments])


def assert_published(paths: ProjectPaths) -> None:
    assert paths.pointer.read_text().endswith(MODEL)
    with closing(Ledger.open(paths.ledger, read_only=True)) as ledger:
        assert ledger.last_publication().model == MODEL
        assert len(ledger.publications()) == 4
    assert violations(paths.project) == ()


def test_without_a_daemon_the_epoch_is_published_under_the_lock(paths, capsys):
    assert publish(paths, "--epoch", "2", "--cycle", "1") == 0
    assert capsys.readouterr().out == f"published {MODEL}; the next cycle continues from it\n"
    assert f"published on request: {MODEL}" in paths.daemon_log.read_text()
    assert not is_held(paths.lock)
    assert_published(paths)


def test_a_running_daemon_publishes_the_epoch(paths, capsys):
    codes: list[int] = []
    lock = ProjectLock(paths.lock)
    lock.acquire()
    with InstantHarness(paths.project) as harness:
        thread = threading.Thread(target=lambda: codes.append(publish(paths, "--epoch", "2", "--cycle", "1")))
        thread.start()
        while thread.is_alive():
            harness.tick()
            thread.join(0.01)
        assert any(f"published on request: {MODEL}" in line for line in harness.log.lines)
    lock.release()
    assert codes == [0]
    assert capsys.readouterr().out == f"published {MODEL}; the next cycle continues from it\n"
    assert_published(paths)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epoch", "2", "--cycle", "7"], "cycle 7 has not published a model -> `hotlap history` lists the cycles"),
        (["--epoch", "9"], "cycle 2 does not have epoch 9 -> its epochs are in Saved/Training/Models/cycle_000002"),
    ],
)
def test_a_missing_cycle_or_epoch_is_named(paths, arguments, message, capsys):
    before = paths.pointer.read_bytes()
    assert publish(paths, *arguments) == 2
    assert f"{usable(message)} [E_NO_MODEL]" in capsys.readouterr().err
    assert paths.pointer.read_bytes() == before


def test_a_pointer_file_that_cannot_be_written_is_reported(paths, capsys, monkeypatch):
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(paths.pointer))

    monkeypatch.setattr(republish, "set_pointer", refuse)
    assert publish(paths, "--epoch", "2", "--cycle", "1") == 1
    assert "best_model_path.txt cannot be written" in capsys.readouterr().err
    assert not is_held(paths.lock)
