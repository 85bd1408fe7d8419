"""`hotlap doctor`: each check finds its problems and names a remedy."""

from __future__ import annotations

import orjson
import pytest

from daemon.cli import main
from daemon.diagnostics import doctor as doctor_module
from daemon.diagnostics import folder_checks
from daemon.diagnostics.exporter_health import CHECKS, judge_exporter
from daemon.ledger.ledger import Ledger
from daemon.process.interpreter import TorchBuild
from daemon.runtime.instance_lock import ProjectLock
from daemon.training.notices import remember_notice, remembered_notices
from schemas.job import ExitCode, Failure, Notice, Ready
from schemas.storage.layout import ProjectPaths
from tests.faults.support.harness import InstantHarness, train
from tests.helpers import open_context


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Replace the import of torch in another process, which takes seconds."""
    monkeypatch.setattr(folder_checks, "other_path_note", lambda project: None)  # tests may run in a container
    monkeypatch.setattr(doctor_module, "torch_in", lambda python: TorchBuild("2.13.0", "cpu", 0))


@pytest.fixture
def paths(tmp_path) -> ProjectPaths:
    """Make a project with three cycles; the daemon has ended."""
    with InstantHarness(tmp_path) as harness:
        for number in (1, 2, 3):
            harness.run_cycle(10 * number)
    (tmp_path / "Game.uproject").touch()
    return ProjectPaths(tmp_path)


def findings(capsys, paths: ProjectPaths, *flags: str) -> tuple[int, dict[str, list[tuple[str, str]]]]:
    code = main(["doctor", "--json", *flags, "--project", str(paths.project)])
    found: dict[str, list[tuple[str, str]]] = {}
    for finding in orjson.loads(capsys.readouterr().out):
        found.setdefault(finding["topic"], []).append((finding["level"], finding["text"]))
    return code, found


def test_a_healthy_project_has_no_problems(paths, capsys):
    code, found = findings(capsys, paths)
    assert code == 0
    assert {level for several in found.values() for level, _ in several} == {"ok"}
    assert {
        "settings",
        "folders",
        "disk",
        "daemon",
        "ledger",
        "last cycle",
        "model",
        "invariants",
        "torch",
        "device",
    } <= set(found)
    assert {f"exporter, {check.topic}" for check in CHECKS} <= set(found)
    assert main(["doctor", "--project", str(paths.project)]) == 0
    out = capsys.readouterr().out
    assert out.endswith("no problems found\n")
    assert out.isascii()


def test_the_holder_of_the_lock_is_named_with_its_start(paths, capsys):
    lock = ProjectLock(paths.lock)
    lock.acquire()
    try:
        _, found = findings(capsys, paths)
    finally:
        lock.release()
    assert found["daemon"][0][1].startswith("running: pid ")
    assert ", since 2" in found["daemon"][0][1]
    assert found["daemon"][1][0] == "wrong", "the heartbeat is from the tests' clock, which is far in the past"
    assert "s old -> the daemon or its disk may hang" in found["daemon"][1][1]


def test_a_violation_is_wrong_and_has_a_remedy(paths, capsys):
    paths.pointer.unlink()
    code, found = findings(capsys, paths)
    assert code == 1
    [(level, text)] = found["the engine's view is whole"]
    assert level == "wrong"
    assert "it is missing" in text
    assert "-> start the daemon" in text


def test_invalid_settings_are_one_finding_among_the_others(paths, capsys):
    (paths.project / "daemon.toml").write_text("[trainer]\nepoch = 1\n")
    code, found = findings(capsys, paths)
    assert code == 1
    assert (
        "daemon.toml, line 2: unknown setting trainer.epoch -> did you mean trainer.epochs?" in found["settings"][0][1]
    )
    assert found["ledger"] == [("ok", "not damaged")]


def test_a_configured_gpu_that_does_not_exist_is_wrong(paths, capsys, monkeypatch):
    monkeypatch.setenv("HOTLAP_TRAINER__DEVICE", "cuda")
    code, found = findings(capsys, paths)
    assert (code, found["device"][0][0]) == (1, "wrong")


def test_a_nearly_full_disk_is_wrong(paths, capsys, monkeypatch):
    monkeypatch.setattr(folder_checks, "LOW_DISK_BYTES", 1 << 62)
    code, found = findings(capsys, paths)
    assert (code, found["disk"][0][0]) == (1, "wrong")
    assert "free some space" in found["disk"][0][1]


def test_a_failed_cycle_is_shown_with_its_log_and_the_next_step(paths, capsys):
    with InstantHarness(paths.project, failures_before_parking=1) as harness:
        ready = Ready(versions={"fake": "1"})
        harness.launcher.answer = lambda job: [ready, Failure(code="E_DATA", message="these rollouts are no good")]
        harness.write_rollouts(91, 92)
        harness.until(lambda: harness.runner.busy and harness.launcher.started)
        harness.launcher.started[-1].end(ExitCode.BAD_DATA)
        harness.until(lambda: not harness.runner.busy)
    code, found = findings(capsys, paths)
    [(level, text)] = found["last cycle"]
    assert (code, level) == (1, "wrong")
    assert "these rollouts are no good" in text
    assert "cycle_4.log" in text
    assert "`hotlap trigger` tries again" in text


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.topic)
def test_a_notice_is_shown_until_a_cycle_without_it(paths, capsys, check):
    ledger = Ledger.open(paths.ledger)
    remember_notice(ledger, 3, check.codes[0], "the message")
    ledger.close()
    code, found = findings(capsys, paths)
    [(level, text)] = found[f"exporter, {check.topic}"]
    assert (code, level) == (1, "wrong")
    assert "cycle 3: the message" in text
    assert f"-> {check.remedy}" in text
    with InstantHarness(paths.project) as harness:
        harness.run_cycle(80)
    code, found = findings(capsys, paths)
    assert (code, found[f"exporter, {check.topic}"][0][0]) == (0, "note")
    assert "not reported since" in found[f"exporter, {check.topic}"][0][1]


def test_the_daemon_keeps_the_notices_of_a_cycle(paths):
    """Check that a notice of a trainer is stored in the ledger, with control characters escaped."""
    with InstantHarness(paths.project) as harness:
        notice = Notice(code="W_DEAD_OBSERVATION", message="2 of 15 \x1b[2J")
        harness.launcher.answer = lambda job: [*(events := train(job))[:1], notice, *events[1:]]
        harness.run_cycle(70)
        assert remembered_notices(harness.ledger)[4] == {"W_DEAD_OBSERVATION": "2 of 15 \\x1b[2J"}


def test_only_the_last_cycles_notices_are_kept(tmp_path):
    ledger = open_context(tmp_path).ledger
    ledger._db.execute("PRAGMA synchronous = OFF")
    for cycle in range(1, 12):
        for i in range(40):
            remember_notice(ledger, cycle, f"W_{i}", "x" * 5000)
    kept = remembered_notices(ledger)
    assert sorted(kept) == [7, 8, 9, 10, 11]
    assert {len(codes) for codes in kept.values()} == {20}
    assert len(ledger.meta("notices")) < 100_000
    ledger.close()


def test_an_engine_with_its_own_weights_is_not_a_fault():
    check = next(check for check in CHECKS if check.expected)
    level, text = judge_exporter(check, [1], {1: {check.expected[0]: "as expected"}})
    assert (level, "->" in text) == ("note", False)
    assert judge_exporter(check, [], {}) is None


MIRRORS = {
    "action_signs = ['steer']": ("ok", "fits the game and is its own inverse: of 15 observations none changes, of 3"),
    "observation_signs = [15]": ("wrong", "agent.mirror.observation_signs names observation 15, but they are 0 to 14"),
    "action_signs = ['yaw']": ("wrong", 'names "yaw", but the actions are steer, throttle, brake'),
}


@pytest.mark.parametrize("text", MIRRORS)
def test_a_mirror_is_checked_against_the_published_model(paths, capsys, text):
    (paths.project / "daemon.toml").write_text(f"[agent.mirror]\n{text}\n", encoding="utf-8")
    code, found = findings(capsys, paths)
    [(level, words)] = found["mirror"]
    assert level == MIRRORS[text][0]
    assert MIRRORS[text][1] in words
    assert (code == 0) == (level == "ok")


def test_a_mirror_without_a_model_is_checked_later(tmp_path, capsys):
    (tmp_path / "daemon.toml").write_text("[agent.mirror]\nobservation_signs = [40]\n", encoding="utf-8")
    _, found = findings(capsys, ProjectPaths(tmp_path))
    [(level, words)] = found["mirror"]
    assert level == "note"
    assert "checked when the first rollouts show" in words
