"""Doctor explains a project in plain words: each thing that may be wrong, with its remedy."""

from __future__ import annotations

import orjson
import pytest

from daemon.cli import main
from daemon.diagnostics import doctor as doctor_module
from daemon.diagnostics.exporter_health import CHECKS, judge
from daemon.ledger.ledger import Ledger
from daemon.runtime.instance_lock import ProjectLock
from daemon.training.notices import remember_notice, remembered_notices
from schemas.job import ExitCode, Failure, Notice, Ready
from schemas.storage.layout import ProjectPaths
from tests.faults.support.site import Site, train
from tests.helpers import open_project


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The torch of this Python is not what these tests are about."""
    monkeypatch.setattr(doctor_module, "torch_in", lambda python: ("2.13.0", "cpu"))


@pytest.fixture
def project(tmp_path) -> ProjectPaths:
    """Three cycles, the daemon has ended."""
    with Site(tmp_path) as site:
        for number in (1, 2, 3):
            site.cycle(10 * number)
    return ProjectPaths(tmp_path)


def findings(capsys, paths: ProjectPaths, *flags: str) -> tuple[int, dict[str, list[tuple[str, str]]]]:
    code = main(["doctor", "--json", *flags, "--project", str(paths.project)])
    told: dict[str, list[tuple[str, str]]] = {}
    for finding in orjson.loads(capsys.readouterr().out):
        told.setdefault(finding["topic"], []).append((finding["level"], finding["text"]))
    return code, told


def test_a_healthy_project_is_told_so(project, capsys):
    code, told = findings(capsys, project)
    assert code == 0
    assert {level for several in told.values() for level, _ in several} == {"ok"}
    assert {
        "settings",
        "folders",
        "disk",
        "daemon",
        "ledger",
        "last cycle",
        "model",
        "promises",
        "torch",
        "device",
    } <= set(told)
    assert {f"exporter, {check.topic}" for check in CHECKS} <= set(told)
    assert main(["doctor", "--project", str(project.project)]) == 0
    out = capsys.readouterr().out
    assert out.endswith("nothing is wrong\n")
    assert out.isascii()


def test_the_holder_of_the_lock_is_named_and_since_when(project, capsys):
    lock = ProjectLock(project.lock)
    lock.acquire()
    try:
        _, told = findings(capsys, project)
    finally:
        lock.release()
    assert told["daemon"][0][1].startswith("runs: pid ")
    assert ", since 2" in told["daemon"][0][1]
    assert told["daemon"][1][0] == "wrong", "its heartbeat is of the tests' clock: long ago"
    assert "no sign of life" in told["daemon"][1][1]


def test_a_broken_promise_is_wrong_and_has_a_remedy(project, capsys):
    project.pointer.unlink()
    code, told = findings(capsys, project)
    assert code == 1
    [(level, text)] = told["the engine's view is whole"]
    assert level == "wrong"
    assert "it is gone" in text
    assert "-> start the daemon" in text


def test_settings_that_cannot_be_used_are_one_finding_among_the_others(project, capsys):
    (project.project / "daemon.toml").write_text("[trainer]\nepoch = 1\n")
    code, told = findings(capsys, project)
    assert code == 1
    assert (
        "daemon.toml, line 2: unknown setting trainer.epoch -> did you mean trainer.epochs?" in told["settings"][0][1]
    )
    assert told["ledger"] == [("ok", "sound")]


def test_a_gpu_that_is_asked_for_and_not_there_is_wrong(project, capsys, monkeypatch):
    monkeypatch.setenv("HOTLAP_TRAINER__DEVICE", "cuda")
    code, told = findings(capsys, project)
    assert (code, told["device"][0][0]) == (1, "wrong")


def test_a_disk_with_little_room_is_wrong(project, capsys, monkeypatch):
    monkeypatch.setattr(doctor_module, "LOW_DISK_BYTES", 1 << 62)
    code, told = findings(capsys, project)
    assert (code, told["disk"][0][0]) == (1, "wrong")
    assert "make room" in told["disk"][0][1]


def test_a_failed_cycle_is_told_with_its_log_and_what_comes_next(project, capsys):
    with Site(project.project, failures_before_parking=1) as site:
        ready = Ready(versions={"fake": "1"})
        site.launcher.answer = lambda job: [ready, Failure(code="E_DATA", message="these rollouts are no good")]
        site.drop(91, 92)
        site.until(lambda: site.runner.busy and site.launcher.started)
        site.launcher.started[-1].end(ExitCode.BAD_DATA)
        site.until(lambda: not site.runner.busy)
    code, told = findings(capsys, project)
    [(level, text)] = told["last cycle"]
    assert (code, level) == (1, "wrong")
    assert "these rollouts are no good" in text
    assert "cycle_4.log" in text
    assert "`python -m daemon trigger` tries again" in text


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.topic)
def test_what_the_trainers_saw_is_told_until_it_is_over(project, capsys, check):
    ledger = Ledger.open(project.ledger)
    remember_notice(ledger, 3, check.codes[0], "so it was")
    ledger.close()
    code, told = findings(capsys, project)
    [(level, text)] = told[f"exporter, {check.topic}"]
    assert (code, level) == (1, "wrong")
    assert "cycle 3: so it was" in text
    assert f"-> {check.remedy}" in text
    with Site(project.project) as site:
        site.cycle(80)
    code, told = findings(capsys, project)
    assert (code, told[f"exporter, {check.topic}"][0][0]) == (0, "note")
    assert "not seen since" in told[f"exporter, {check.topic}"][0][1]


def test_the_notices_of_a_cycle_are_kept_by_the_daemon(project):
    """What the fake trainer says of its data is found in the ledger afterwards."""
    with Site(project.project) as site:
        said = Notice(code="W_DEAD_OBSERVATION", message="2 of 15 \x1b[2J")
        site.launcher.answer = lambda job: [*(events := train(job))[:1], said, *events[1:]]
        site.cycle(70)
        assert remembered_notices(site.ledger)[4] == {"W_DEAD_OBSERVATION": "2 of 15 \\x1b[2J"}


def test_only_the_last_cycles_notices_are_kept(tmp_path):
    ledger = open_project(tmp_path).ledger
    ledger._db.execute("PRAGMA synchronous = OFF")
    for cycle in range(1, 12):
        for i in range(40):
            remember_notice(ledger, cycle, f"W_{i}", "x" * 5000)
    kept = remembered_notices(ledger)
    assert sorted(kept) == [7, 8, 9, 10, 11]
    assert {len(codes) for codes in kept.values()} == {20}
    assert len(ledger.meta("notices")) < 100_000
    ledger.close()


def test_an_engine_with_weights_of_its_own_is_no_fault():
    check = next(check for check in CHECKS if check.expected)
    level, text = judge(check, [1], {1: {check.expected[0]: "as expected"}})
    assert (level, "->" in text) == ("note", False)
    assert judge(check, [], {}) is None
