"""The protocol with the daemon, with real processes: ready, heartbeats, result, and the end of stdin."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from schemas.errors import HotlapError
from schemas.job import ExitCode, Failure, Heartbeat, Job, Ready, Result, RolloutInput, event_from_line
from schemas.rollout.reader import read_rollout
from schemas.settings.models import TrainerSettings
from schemas.storage.files import sha256_of
from tests.platforms import needs_linux
from trainer.common.exit_codes import failure_of
from trainer.common.reporting.reporter import MemoryReporter
from trainer.worker.jobs import run_job

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = sorted((ROOT / "tests" / "data" / "rollouts").glob("*.json"))


def job(folder, kind="train", **given):
    contract = read_rollout(SAMPLES[0].read_bytes()).contract
    rollouts = tuple(
        RolloutInput(name=p.name, sha256=sha256_of(p.read_bytes()), source=str(p), cache="", is_new=True)
        for p in SAMPLES
    )
    known = {"kind": kind, "policy_version": 1, "output": str(folder), "contract": contract, "hidden_sizes": (16, 16)}
    settings = TrainerSettings(**({"epochs": 2, "device": "cpu"} | given.pop("settings", {})))
    return Job(**(known | {"rollouts": rollouts, "settings": settings} | given))


@contextmanager
def trainer(cwd=ROOT):
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(process, kind):
    events = []
    while not events or not isinstance(events[-1], kind):
        line = process.stdout.readline()
        assert line, process.stderr.read().decode()
        events.append(event_from_line(line))
    return events


def serve(the_job, cwd=ROOT):
    """Run one job. Return its events, exit code and log."""
    with trainer(cwd) as process:
        process.stdin.write(the_job.to_bytes())
        process.stdin.flush()
        events = [event_from_line(line) for line in process.stdout]
        return events, process.wait(30), process.stderr.read().decode()


def test_a_job_from_ready_to_result(tmp_path):
    events, code, log = serve(job(tmp_path))
    assert code == ExitCode.OK
    assert isinstance(next(e for e in events if not isinstance(e, Heartbeat)), Ready)
    result = events[-1]
    assert isinstance(result, Result)
    assert set(result.files) == {p.name for p in tmp_path.iterdir()}
    assert "epoch 2 of 2" in log
    doing = [e for e in events if isinstance(e, Heartbeat)]
    assert [e.progress for e in doing] == sorted(e.progress for e in doing)


def test_a_warm_trainer_waits_and_sends_heartbeats(tmp_path):
    with trainer() as process:
        until(process, Ready)
        beat = until(process, Heartbeat)[-1]
        assert beat.doing == "waiting for a job"
        begin = time.monotonic()
        process.stdin.write(job(tmp_path, kind="initial").to_bytes())
        process.stdin.flush()
        assert until(process, Result)[-1].model == "model_epoch_0.json"
        assert process.wait(30) == ExitCode.OK
        assert time.monotonic() - begin < 10


@pytest.mark.parametrize("during", ["waiting", "training"])
def test_a_trainer_ends_when_its_daemon_ends(tmp_path, during):
    with trainer() as process:
        until(process, Ready)
        if during == "training":
            process.stdin.write(job(tmp_path, settings={"epochs": 1000}).to_bytes())
            process.stdin.flush()
            until(process, Heartbeat)
        process.stdin.close()
        process.stdin = None
        assert process.wait(5) == ExitCode.TEMPORARY


@needs_linux("the signal at a parent's end")
def test_the_kernel_kills_the_trainer_when_its_parent_ends():
    """The parent is killed while another process still has the other end of the trainer's stdin open."""
    read, write = os.pipe()
    script = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-m', 'trainer', 'serve'], stdin=int(sys.argv[1]), stdout=-1)\n"
        "p.stdout.readline(); print(p.pid, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(read)], pass_fds=(read,), stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.communicate()
        until_s = time.monotonic() + 5
        while Path(f"/proc/{child}/stat").exists() and " Z " not in Path(f"/proc/{child}/stat").read_text():
            assert time.monotonic() < until_s
            time.sleep(0.05)
    finally:
        parent.kill()
        os.close(write)
        os.close(read)


def test_output_of_user_code_goes_to_the_log(tmp_path):
    (tmp_path / "chatty.py").write_text(
        "import os, sys\n"
        "from trainer.ppo.loss import ppo_loss\n"
        'print(\'{"event": "result"}\')\n'
        "def loss(batch, new, config):\n"
        "    print('hello'); os.write(1, b'raw\\n'); sys.stdout.flush()\n"
        "    return ppo_loss(batch, new, config)\n"
    )
    output = tmp_path / "out"
    output.mkdir()
    events, code, log = serve(job(output, settings={"loss": "chatty:loss"}), cwd=tmp_path)
    assert code == ExitCode.OK
    assert isinstance(events[-1], Result)
    assert "hello" in log
    assert "raw" in log


def test_a_bug_in_user_code_names_its_file_and_line(tmp_path):
    (tmp_path / "losses.py").write_text(
        "def loss(batch, new, config):\n    raise ValueError('operands do not match')\n"
    )
    output = tmp_path / "out"
    output.mkdir()
    events, code, log = serve(job(output, settings={"loss": "losses:loss"}), cwd=tmp_path)
    assert code == ExitCode.BUG
    assert events[-1].message == (
        "ValueError: operands do not match (losses.py, line 2) -> correct losses.py; the log has the traceback [E_BUG]"
    )
    assert "Traceback" in log


def test_a_failure_is_one_line_and_a_code(tmp_path):
    events, exit_code, _ = serve(job(tmp_path, rollouts=()))
    assert exit_code == ExitCode.BAD_DATA
    failure = events[-1]
    assert isinstance(failure, Failure)
    assert (failure.code, "\n" in failure.message, " -> " in failure.message) == ("E_NO_ROLLOUTS", False, True)


FAILURES = {
    "no such loss": ({"settings": {"loss": "nowhere:loss"}}, ExitCode.BAD_CONFIG, "E_CONFIG"),
    "no such device": ({"settings": {"device": "abacus"}}, ExitCode.BAD_CONFIG, "E_CONFIG"),
    "another kind of device": ({"settings": {"device": "meta"}}, ExitCode.BAD_CONFIG, "E_CONFIG"),
    "no such folder": ({"output": "/nowhere/at/all"}, ExitCode.BAD_DATA, "E_OUTPUT"),
    "nothing to select from": ({"kind": "select"}, ExitCode.BAD_DATA, "E_NO_MODEL"),
    "no such epoch": ({"kind": "export", "export_epoch": 7}, ExitCode.BAD_DATA, "E_NO_EPOCH"),
}


@pytest.mark.parametrize(("given", "code", "name"), FAILURES.values(), ids=FAILURES)
def test_a_job_that_cannot_be_done_has_its_exit_code_and_error_code(tmp_path, given, code, name):
    with pytest.raises(HotlapError) as error:
        run_job(job(tmp_path, **given), MemoryReporter())
    exit_code, failure = failure_of(error.value)
    assert (exit_code, failure.code) == (code, name)


def test_an_epoch_can_be_exported_later_and_a_folder_of_checkpoints_ranked(tmp_path):
    run_job(job(tmp_path), MemoryReporter())
    exported = run_job(job(tmp_path, kind="export", export_epoch=1), MemoryReporter())
    assert (exported.model, set(exported.files)) == ("model_epoch_1.json", {"model_epoch_1.json", "model_epoch_1.pt"})
    selected = run_job(job(tmp_path, kind="select", use_epoch=2), MemoryReporter())
    assert selected.model == "model_epoch_2.json"
    assert len(selected.ranking) == 2


def test_a_line_that_is_not_a_job_is_an_error(tmp_path):
    with trainer() as process:
        process.stdin.write(b'{"kind": "dance"}\n')
        process.stdin.flush()
        assert until(process, Failure)[-1].code == "E_JOB"
        assert process.wait(30) == ExitCode.USAGE
