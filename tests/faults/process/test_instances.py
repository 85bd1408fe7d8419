"""One daemon for each project, whatever is started, deleted or mounted twice: row 67."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

from daemon.errors import Exit
from daemon.runtime.instance_lock import ProjectLock, holder_of, is_held
from schemas.storage.layout import ProjectPaths
from tests.faults.support.harness import InstantHarness, violations
from tests.platforms import make_link, needs_linux, needs_posix

ROOT = Path(__file__).parents[3]
STARTERS = 20
HOLD = """
import sys
from pathlib import Path
from daemon.runtime.instance_lock import ProjectLock
lock = ProjectLock(Path(sys.argv[1]))
try:
    lock.acquire()
except Exception as error:
    print(error)
    raise SystemExit(4)
print("held", flush=True)
sys.stdin.readline()
"""


def start_holder(lock: Path, **kwargs) -> subprocess.Popen:
    """Start a process that takes the lock and releases it when its input ends."""
    command = [sys.executable, "-c", HOLD, str(lock)]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kwargs
    )


def try_acquire(lock: Path, **kwargs) -> tuple[int, str]:
    process = start_holder(lock, **kwargs)
    output, _ = process.communicate("\n", timeout=30)
    return process.returncode, output


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.fault(67)
def test_of_twenty_daemons_started_at_once_one_runs_and_the_others_exit_4_and_name_it(tmp_path):
    command = [sys.executable, "-m", "daemon", "--no-dashboard", "--project", str(tmp_path)]
    started = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(STARTERS)
    ]
    try:
        end = time.monotonic() + 200
        while sum(process.poll() is not None for process in started) < STARTERS - 1:
            assert time.monotonic() < end, "more than one runs"
            time.sleep(0.05)
        [winner] = [process for process in started if process.poll() is None]
        holder = psutil.Process(int(ProjectPaths(tmp_path).lock.read_text().split()[0]))
        assert winner.pid in {holder.pid, holder.ppid()}, "the python.exe of an environment on Windows starts another"
        for loser in (process for process in started if process is not winner):
            output = loser.stderr.read()
            assert loser.returncode == Exit.OTHER_DAEMON, output
            assert f"pid {holder.pid}," in output
            assert ProjectPaths(tmp_path).lock.as_posix() in output
            assert len(output.splitlines()) == 1
        assert holder_of(ProjectPaths(tmp_path).lock).startswith(f"pid {holder.pid}, since ")
        winner.terminate()
        assert winner.wait(20) == (1 if sys.platform == "win32" else 0), "Windows kills it"
    finally:
        for process in started:
            process.kill()
            process.wait()
            process.stderr.close()
    assert violations(tmp_path) == ()


@pytest.mark.fault(67)
def test_checking_whether_the_lock_is_held_prevents_no_daemon_from_starting(tmp_path):
    path = ProjectPaths(tmp_path).lock
    done = threading.Event()

    def check() -> None:
        while not done.is_set():
            is_held(path)

    checker = threading.Thread(target=check)
    checker.start()
    try:
        for _ in range(100):
            lock = ProjectLock(path)
            lock.acquire()
            assert is_held(path)
            lock.release()
    finally:
        done.set()
        checker.join()
    assert not is_held(path)


@needs_posix("an open file can be removed")
@pytest.mark.fault(67)
@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
def test_if_the_lock_file_is_deleted_no_second_daemon_starts_and_the_file_is_restored(tmp_path, replaced):
    path = ProjectPaths(tmp_path).lock
    lock = ProjectLock(path)
    lock.acquire()
    try:
        path.unlink()
        if replaced:
            path.write_text("4711")
        assert is_held(path)
        code, output = try_acquire(path)
        assert code == 4, output
        assert lock.renew() is None
        assert holder_of(path).startswith(f"pid {os.getpid()}, since ")
        code, output = try_acquire(path)
        assert code == 4
        assert f"pid {os.getpid()}," in output
    finally:
        lock.release()
    assert try_acquire(path)[0] == 0


@needs_posix("an open file can be removed")
@pytest.mark.fault(67)
def test_a_new_lock_file_that_another_process_holds_is_reported(tmp_path):
    import fcntl

    path = ProjectPaths(tmp_path).lock
    lock = ProjectLock(path)
    lock.acquire()
    path.unlink()
    with path.open("w+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert "was replaced" in (lock.renew() or "")
    lock.release()


@pytest.mark.fault(67)
def test_a_killed_process_no_longer_holds_the_lock(tmp_path):
    path = ProjectPaths(tmp_path).lock
    process = start_holder(path)
    assert process.stdout.readline() == "held\n"
    assert is_held(path)
    process.kill()
    process.communicate()
    assert not is_held(path)
    assert try_acquire(path)[0] == 0


@needs_posix("os.setuid")
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() != 0, reason="only root can start another user's process")
@pytest.mark.fault(67)
def test_the_lock_file_of_another_user_is_reported_in_one_line():
    folder = Path(tempfile.mkdtemp(prefix="hotlap-lock-"))
    try:
        folder.chmod(0o755)
        path = folder / "daemon.lock"
        path.touch(0o600)
        code = (
            "import os, sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path;"
            "from daemon.runtime.instance_lock import ProjectLock; lock = ProjectLock(Path(sys.argv[2]));"
            "os.setgid(65534); os.setuid(65534); lock.acquire()"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(ROOT), str(path)], capture_output=True, text=True, timeout=60, check=False
        )
        assert "belongs to another user" in done.stderr
        assert "[E_LOCK]" in done.stderr
    finally:
        shutil.rmtree(folder)


@pytest.mark.fault(67)
def test_a_folder_in_place_of_the_lock_file_is_moved_away(tmp_path):
    path = tmp_path / "daemon.lock"
    path.mkdir()
    (path / "mine.txt").write_text("mine")
    lock = ProjectLock(path)
    [moved] = lock.acquire()
    assert is_held(path)
    assert moved.name.startswith("daemon.lock.set_aside_")
    assert (moved / "mine.txt").read_text() == "mine"
    lock.release()


@needs_linux("bind mounts")
@pytest.mark.fault(67)
def test_a_project_that_is_mounted_twice_has_one_lock(tmp_path):
    first, second = tmp_path / "one", tmp_path / "two"
    first.mkdir()
    second.mkdir()
    unshare = shutil.which("unshare")
    script = (
        'mount --bind "$1" "$2" || exit 77; "$3" -c "$4" "$1/daemon.lock" <"$5" & sleep 0; '
        'while [ ! -s "$1/daemon.lock" ]; do sleep 0.02; done; "$3" -c "$4" "$2/daemon.lock" </dev/null; '
        'code=$?; echo >"$5"; wait; exit $code'
    )
    if unshare is None:
        pytest.skip("unshare is not here")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    keeper = os.open(pipe, os.O_RDWR)
    try:
        done = subprocess.run(
            [unshare, "-Urm", "sh", "-c", script, "sh", str(first), str(second), sys.executable, HOLD, str(pipe)],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(keeper)
    if done.returncode in {1, 77} and "another daemon" not in done.stdout:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "another daemon runs on this project: pid" in done.stdout


@pytest.mark.fault(67)
def test_a_project_reached_through_a_link_has_one_lock(tmp_path):
    (tmp_path / "real").mkdir()
    make_link(tmp_path / "link", tmp_path / "real")
    lock = ProjectLock(tmp_path / "real" / "daemon.lock")
    lock.acquire()
    assert try_acquire(tmp_path / "link" / "daemon.lock")[0] == 4
    lock.release()


@pytest.mark.fault(67)
def test_only_one_daemon_ever_wrote_to_the_ledger(fresh_project):
    """Check that no cycle is in an unexpected phase, as after writes of a second daemon."""
    with InstantHarness(fresh_project()) as harness:
        lock = ProjectLock(harness.paths.lock)
        lock.acquire()
        code, output = try_acquire(harness.paths.lock)
        assert (code, "another daemon runs" in output) == (4, True)
        harness.run_cycle(1)
        lock.release()
    assert violations(harness.paths.project) == ()
