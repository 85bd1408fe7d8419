"""Jumps of the wall clock, sleep of the machine and signals: nothing ends too early, too late or incomplete."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import psutil
import pytest

from daemon.ledger.cycle import Cycle, Phase, RetryPolicy
from daemon.training.timers import LONGEST_GAP_S, AwakeClock, RetryTimer
from schemas.job import Event, Failure, Heartbeat, Job, Ready
from schemas.storage.layout import ProjectPaths
from tests.faults.support.harness import InstantHarness, train, violations
from tests.helpers import FakeClock, write_rollout
from tests.platforms import PATIENCE, needs_posix

ROOT = Path(__file__).parents[3]
HOUR, YEAR = 3600.0, 365.25 * 86400.0
JUMPS = {"an hour back": -HOUR, "ten years on": 10 * YEAR, "ten years back": -10 * YEAR, "a second back": -1.0}


def fails(job: Job) -> list[Event]:
    return [Ready(versions={}), Failure(code="E_DISK", message="no room")]


@pytest.mark.fault(47)
@pytest.mark.parametrize("jump_s", JUMPS.values(), ids=JUMPS)
def test_jumps_of_the_wall_clock_do_not_change_the_delay_of_a_retry(fresh_project, jump_s):
    with InstantHarness(fresh_project(), retry_delay_s=40.0) as harness:
        harness.launcher.answer = fails
        harness.write_rollouts(1, 2)
        harness.until(lambda: harness.runner.cycle is not None and harness.runner.cycle.phase is Phase.TRAINING)
        harness.launcher.started[-1].end(75)
        harness.until(lambda: harness.runner.cycle.phase is Phase.CLAIMED)
        harness.launcher.answer = train
        failed_at = harness.clock.now
        harness.tick()
        harness.clock.wall += jump_s
        harness.until_version(1)
        assert 39.0 < harness.clock.now - failed_at < 45.0


@pytest.mark.fault(47)
@pytest.mark.parametrize("jump_s", JUMPS.values(), ids=JUMPS)
def test_a_delay_that_an_earlier_daemon_set_is_never_longer_than_the_retry_policys(jump_s):
    clock = FakeClock()
    timer, retry_policy = RetryTimer(clock), RetryPolicy(attempts=3, failures_before_parking=3, retry_delay_s=40.0)
    cycle = Cycle(1, "train", Phase.CLAIMED, attempt=1, due_s=clock.wall + 30.0)
    clock.wall += jump_s
    left = timer.left_s(cycle, 0.0, retry_policy)
    assert 0.0 <= left <= 40.0
    clock.wall += jump_s
    assert timer.left_s(cycle, 10.0, retry_policy) == left - 10.0


@pytest.mark.fault(47)
def test_cycles_keep_their_order_and_folders_when_the_wall_clock_jumps(fresh_project):
    folder = fresh_project()
    with InstantHarness(folder, keep_cycles=5) as harness:
        for number, jump_s in enumerate([-HOUR, 2 * HOUR, -10 * YEAR, 20 * YEAR, -3 * HOUR], start=1):
            harness.clock.wall += jump_s
            harness.run_cycle(10 * number)
        assert [p.policy_version for p in harness.ledger.publications()] == [0, 1, 2, 3, 4, 5]
        assert [cycle.cycle for cycle in harness.ledger.history()] == [0, 1, 2, 3, 4, 5]
        newest = {f"cycle_{number:06d}" for number in range(1, 6)}
        assert newest <= {path.name for path in harness.paths.models.glob("cycle_*")}
    assert violations(folder) == ()


@pytest.mark.fault(47)
def test_failures_in_a_row_are_counted_by_cycle_number_not_by_time(fresh_project):
    with InstantHarness(fresh_project(), failures_before_parking=3) as harness:
        for number, answer in enumerate([fails, train, fails], start=1):
            harness.clock.wall -= HOUR
            harness.launcher.answer = answer
            harness.write_rollouts(10 * number, 10 * number + 1)

            def is_over(number=number) -> bool:
                if harness.launcher.answer is fails and harness.runner.trainer_pid is not None:
                    harness.launcher.started[-1].end(65)
                last = harness.ledger.history(1)[-1]
                return last.cycle == number and not harness.runner.busy

            harness.until(is_over)
        assert [cycle.state for cycle in harness.ledger.history()] == ["published", "failed", "published", "failed"]
        assert harness.ledger.failures_in_a_row() == 1


@pytest.mark.fault(48)
def test_the_awake_clock_does_not_count_time_asleep():
    clock = FakeClock()
    awake = AwakeClock(clock)
    clock.pass_s(1.0)
    assert (awake.read(), awake.resumed) == (1.0, False)
    clock.pass_s(8 * HOUR)
    assert (awake.read(), awake.resumed) == (1.0, True)
    clock.pass_s(LONGEST_GAP_S)
    assert (awake.read(), awake.resumed) == (1.0 + LONGEST_GAP_S, False)


@pytest.mark.fault(48)
@pytest.mark.parametrize("when", ["before it is ready", "while it works"])
def test_a_trainer_is_not_ended_because_the_machine_slept(fresh_project, when):
    limits = {"startup_timeout_s": 20.0, "silence_timeout_s": 20.0, "progress_timeout_s": 20.0}
    with InstantHarness(fresh_project(), **limits, training_timeout_s=60.0) as harness:
        late: list[Event] = []

        def answer(job: Job) -> list[Event]:
            late.extend(train(job))
            return [] if when == "before it is ready" else [Ready(versions={}), Heartbeat(doing="work", progress=0.1)]

        harness.launcher.answer = answer
        harness.write_rollouts(1, 2)
        harness.until(lambda: bool(late))
        for _ in range(10):
            harness.tick()
        harness.clock.pass_s(8 * HOUR)
        for _ in range(10):
            harness.tick()
        assert harness.runner.cycle.phase is Phase.TRAINING
        harness.launcher.started[-1]._events += late
        harness.until_version(1)
        assert len(harness.launcher.started) == 1


@pytest.mark.fault(48)
def test_a_silent_trainer_is_ended_if_the_machine_did_not_sleep(fresh_project):
    """Check the control of the test above: the same limits end the trainer."""
    with InstantHarness(fresh_project(), silence_timeout_s=20.0) as harness:
        harness.launcher.answer = lambda job: [Ready(versions={})]
        harness.write_rollouts(1, 2)
        harness.until(lambda: any("sent no event" in line for line in harness.log.lines))


SET_SIGHUP = (
    "import os, signal, sys; signal.signal(signal.SIGHUP, int(sys.argv[1])); os.execv(sys.argv[2], sys.argv[2:])"
)


@contextlib.contextmanager
def whole_daemon(folder: Path, *, hangup: int = signal.SIG_DFL, **settings: object):
    """Run a real daemon with the fake trainer; `hangup` is how it treats SIGHUP at its start."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    values = {"auto_train_after_n_rollouts": 2, "scan_interval_s": 0.2, "settle_s": 0.05, **settings}
    environment |= {f"HOTLAP_DAEMON__{name.upper()}": str(value) for name, value in values.items()}
    command = [sys.executable, str(ROOT / "tests" / "fakes" / "whole_daemon.py"), "--no-dashboard"]
    prefix = [] if sys.platform == "win32" else [sys.executable, "-c", SET_SIGHUP, str(int(hangup))]
    process = subprocess.Popen(
        [*prefix, *command, "--project", str(folder)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def status(folder: Path) -> dict[str, object]:
    try:
        return orjson.loads(ProjectPaths(folder).status.read_bytes())
    except FileNotFoundError:
        return {}


def wait_until(condition, timeout_s: float = 40.0) -> None:
    end = time.monotonic() + timeout_s * PATIENCE
    while not condition():
        assert time.monotonic() < end, "the condition did not become true in time"
        time.sleep(0.02)


posix_only = needs_posix("SIGTERM, SIGINT and SIGHUP of another process, SIGSTOP")


@pytest.mark.fault(49)
@pytest.mark.slow
@posix_only
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_at_any_time_ends_the_daemon_soon_and_loses_nothing(tmp_path, name):
    number = signal.Signals[name]
    chance = random.Random(int(number))
    for attempt in range(2):
        with whole_daemon(tmp_path) as process:
            if attempt:  # the first attempt may be before the daemon has started
                wait_until(lambda: status(tmp_path).get("pid") == process.pid)
            for index in (1, 2):
                ProjectPaths(tmp_path).make()
                write_rollout(ProjectPaths(tmp_path).exports, 10 * attempt + index)
            time.sleep(chance.uniform(0.0, 1.5))
            process.send_signal(number)
            if attempt % 2:
                time.sleep(chance.uniform(0.0, 0.3))
                process.send_signal(number)
            began = time.monotonic()
            code = process.wait(timeout=10.0)
            assert time.monotonic() - began < 10.0
            assert code in {0, 130, -number}, process.communicate()
        wait_until(lambda: not violations(tmp_path), 5.0)
    with InstantHarness(tmp_path, hidden_sizes=(128, 128)) as harness:
        harness.until(lambda: harness.version > 0 and harness.ledger.pending_count() < 2 and not harness.runner.busy)
    assert violations(tmp_path) == ()


@pytest.mark.slow
@posix_only
def test_under_nohup_a_closed_terminal_does_not_end_the_daemon(tmp_path):
    with whole_daemon(tmp_path, hangup=signal.SIG_IGN) as process:
        wait_until(lambda: status(tmp_path).get("pid") == process.pid)
        process.send_signal(signal.SIGHUP)
        for index in (1, 2):
            write_rollout(ProjectPaths(tmp_path).exports, index)
        wait_until(lambda: status(tmp_path)["policy_version"] == 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10.0) == 0
    assert violations(tmp_path) == ()


@pytest.mark.fault(48)
@pytest.mark.slow
@posix_only
def test_a_daemon_and_its_trainer_continue_after_both_were_stopped(tmp_path):
    """Stop both for longer than any limit, as when the machine sleeps."""
    paths = ProjectPaths(tmp_path)
    paths.make()
    (tmp_path / "slow.py").write_text(
        "import sys, time\nfrom pathlib import Path\nPath(sys.argv[0]).with_suffix('.pid').touch()\ntime.sleep(4)\n"
    )
    with whole_daemon(tmp_path, training_script="slow.py", training_timeout_s=5) as process:
        wait_until(lambda: status(tmp_path).get("policy_version") == 0 and status(tmp_path).get("best_model_path"))
        for index in (1, 2):
            write_rollout(paths.exports, index)
        wait_until((tmp_path / "slow.pid").exists)
        processes = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for each in processes:
            each.suspend()
        time.sleep(LONGEST_GAP_S + 1.0)
        for each in processes:
            each.resume()
        wait_until(lambda: "[3/5]" in paths.daemon_log.read_text())
    assert "took longer" not in paths.daemon_log.read_text()
