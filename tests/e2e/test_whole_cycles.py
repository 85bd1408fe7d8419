"""Whole cycles as users run them: with real processes, the real trainer and the two folders."""

from __future__ import annotations

import codecs
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import orjson
import psutil
import pytest

from schemas.model import check_probe, read_model
from schemas.rollout.reader import read_rollout
from schemas.rollout.v2 import rollout_to_v2
from schemas.storage.layout import ProjectPaths
from tests.helpers import SAMPLES, v1_bytes, write_rollout
from tests.platforms import needs_posix

ROOT = Path(__file__).parents[2]
SAMPLE = (SAMPLES / "rollout_0_20241225_143022.json").read_bytes()
LIMIT_S = 110.0 if sys.platform != "win32" else 500.0  #: of a cycle; on Wine importing torch takes up to a minute
pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT_S + 100)]


def daemon(
    *arguments: object, timeout: float = LIMIT_S, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "daemon", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture
def running(tmp_path):
    """Return a function that starts daemons; all of them are ended afterwards."""
    started: list[subprocess.Popen] = []

    def start(*arguments: object, stdout=subprocess.DEVNULL) -> subprocess.Popen:
        command = [sys.executable, "-m", "daemon", "--no-dashboard", *map(str, arguments)]
        started.append(subprocess.Popen(command, cwd=ROOT, stdout=stdout, stderr=subprocess.STDOUT))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_until(condition, timeout_s: float = LIMIT_S / 2):
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
    return found


def status(folder: Path) -> dict:
    try:
        return orjson.loads(ProjectPaths(folder).status.read_bytes())
    except (FileNotFoundError, PermissionError):  # Windows refuses a read at the moment of a rename
        return {}


def make_exports(folder: Path) -> Path:
    paths = ProjectPaths(folder)
    paths.exports.mkdir(parents=True)
    return paths.exports


def published_model(folder: Path):
    path = Path(ProjectPaths(folder).pointer.read_text(encoding="utf-8"))
    model = read_model(path.read_bytes())
    check_probe(model)
    return model


def write_slowly(path: Path, data: bytes, began: threading.Event) -> None:
    with path.open("wb") as file:
        for start in range(0, len(data), 4000):
            file.write(data[start : start + 4000])
            file.flush()
            began.set()
            time.sleep(0.1)


def test_once_trains_on_every_rollout_format(tmp_path):
    exports = make_exports(tmp_path)
    rollout = read_rollout(SAMPLE)
    files = {
        "rollout_0_20241225_143022.json": SAMPLE,
        "rollout_1_20241225_143105.json": (SAMPLES / "rollout_1_20241225_143105.utf16.json").read_bytes(),
        "rollout_2_bom.json": codecs.BOM_UTF8 + SAMPLE,
        "rollout_3_lists.json": rollout_to_v2(rollout, rollout_id="a", base64_columns=False),
        "rollout_4_base64.json": rollout_to_v2(rollout, rollout_id="b", base64_columns=True),
        "rollout_5_nan.json": re.sub(rb'"reward": [^,]+', b'"reward": -nan(ind)', SAMPLE, count=3),
    }
    for name, data in files.items():
        (exports / name).write_bytes(data)
    began = threading.Event()
    slow = threading.Thread(target=write_slowly, args=(exports / "rollout_6_slow.json", SAMPLE + b"\n", began))
    slow.start()
    began.wait(10)
    done = daemon("--once", "--project", tmp_path)
    slow.join()
    assert done.returncode == 0, done.stdout + done.stderr
    [cycle] = [c for c in orjson.loads(daemon("history", "--json", "--project", tmp_path).stdout) if c["cycle"] == 1]
    assert set(cycle["rollouts"]) == {*files, "rollout_6_slow.json"}
    assert "reward is nan in 3 of 64 experiences: 3 experiences are left out" in done.stdout
    assert published_model(tmp_path).policy_version == 1
    assert not list(ProjectPaths(tmp_path).rejected.iterdir())


def test_the_same_rollouts_and_seed_give_the_same_weights(tmp_path):
    checksums = set()
    for name in ("one", "two"):
        exports = make_exports(tmp_path / name)
        for i in range(3):
            write_rollout(exports, i, v1_bytes(seed=i, n=256))
        assert daemon("--once", "--project", tmp_path / name, "--seed", 5).returncode == 0
        path = Path(ProjectPaths(tmp_path / name).pointer.read_text(encoding="utf-8"))
        checksums.add(orjson.loads(path.read_bytes())["checksum"])
    assert len(checksums) == 1


def is_warm(children: list[psutil.Process]) -> bool:
    """Return whether the warm trainer has done its imports, and the one that made version 0 has ended."""
    try:
        return len(children) == 1 and children[0].cpu_times().user > 0.5 and children[0].memory_info().rss > 1.5e8
    except psutil.NoSuchProcess:
        return False


def test_the_idle_daemon_is_small_quiet_and_without_torch(tmp_path, running):
    process = running("--project", tmp_path)
    wait_until(lambda: status(tmp_path).get("best_model_path") and status(tmp_path)["state"] == "idle")
    watched = psutil.Process(process.pid)
    wait_until(lambda: is_warm(watched.children()))
    if hasattr(watched, "memory_maps"):
        assert not [m.path for m in watched.memory_maps() if "torch" in m.path]
    before, began = watched.cpu_times(), time.monotonic()
    wait_until(lambda: time.monotonic() - began > 8)
    after = watched.cpu_times()
    busy_s = after.user + after.system - before.user - before.system
    assert busy_s / (time.monotonic() - began) < 0.01
    # Wine counts the pages of its libraries.
    assert watched.memory_info().rss < (130e6 if sys.platform == "win32" else 80e6)


def test_a_second_daemon_ends_with_4_and_names_the_first(tmp_path, running):
    first = running("--project", tmp_path)
    wait_until(lambda: status(tmp_path).get("pid") == first.pid)
    second = daemon("--project", tmp_path, "--no-dashboard")
    assert second.returncode == 4
    assert str(first.pid) in second.stderr
    assert len(second.stderr.splitlines()) == 1


def in_training(folder: Path, running) -> tuple[subprocess.Popen, list[psutil.Process]]:
    """Return a daemon in the middle of a long training, and its trainers."""
    exports = make_exports(folder)
    for i in range(2):
        write_rollout(exports, i, v1_bytes(seed=i, n=2048))
    first = running("--project", folder, "--after-n-rollouts", 2, "--epochs", 50)
    wait_until(lambda: status(folder).get("state") == "training" and status(folder)["cycle"] == 1)
    return first, psutil.Process(first.pid).children(recursive=True)


@needs_posix("SIGINT of another process")
def test_ctrl_c_during_training_loses_nothing_and_the_next_start_continues(tmp_path, running):
    first, trainers = in_training(tmp_path, running)
    first.send_signal(signal.SIGINT)
    assert first.wait(timeout=15) == 0
    wait_until(lambda: not any(t.is_running() and t.status() != psutil.STATUS_ZOMBIE for t in trainers))
    running("--project", tmp_path, "--after-n-rollouts", 2, "--epochs", 2)
    wait_until(lambda: status(tmp_path).get("policy_version") == 1)
    history = orjson.loads(daemon("history", "--json", "--project", tmp_path).stdout)
    assert [(c["cycle"], c["state"], len(c["rollouts"])) for c in history][1:] == [(1, "published", 2)]


def test_no_trainer_outlives_a_killed_daemon(tmp_path, running):
    first, trainers = in_training(tmp_path, running)
    assert trainers
    first.kill()
    first.wait()
    wait_until(lambda: not any(t.is_running() and t.status() != psutil.STATUS_ZOMBIE for t in trainers), 10)


@pytest.mark.timeout(LIMIT_S + 190)
def test_the_demo_learns_and_ends_with_a_summary(tmp_path):
    done = daemon("--demo", "--cycles", 3, "--project", tmp_path / "demo", "--no-dashboard", timeout=LIMIT_S + 170)
    assert done.returncode == 0, done.stdout + done.stderr
    first, last = map(float, re.search(r"reward per step  ([\d.]+) -> ([\d.]+)", done.stdout).groups())
    assert last > first
    assert "3 cycles published, 0 failed" in done.stdout
    history = orjson.loads(daemon("history", "--json", "--project", tmp_path / "demo").stdout)
    assert [c["state"] for c in history] == ["published"] * 4
    assert status(tmp_path / "demo")["policy_version"] == 3


def test_an_engine_that_starts_with_its_own_weights_is_learned_from(tmp_path, running):
    running("--project", tmp_path, "--after-n-rollouts", 2)
    engine = subprocess.run(
        [
            *(sys.executable, str(ROOT / "scripts" / "simulate_engine.py"), "--project", str(tmp_path)),
            *("--own-weights", "--rollouts", "4", "--pause-while-training", "2", "--seed", "3", "--json"),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert engine.returncode == 0, engine.stderr
    versions = [orjson.loads(line)["policy_version"] for line in engine.stdout.splitlines()]
    assert versions == [None, None, 1, 1]
    wait_until(lambda: status(tmp_path).get("policy_version") == 2)
    warnings = (ProjectPaths(tmp_path).daemon_log).read_text(encoding="utf-8")
    assert "expected until it loads a published model" in warnings
    assert "WARNING cycle" not in warnings
