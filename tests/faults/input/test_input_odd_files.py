"""Links, pipes, folders and huge files with a rollout's name: skipped with a warning (rows 15, 20, 21 and 23)."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import sys
import time
from pathlib import Path

import pytest

from daemon.rollouts.scan import scan_folder
from schemas.rollout.rollout import MAX_ROLLOUT_BYTES
from tests.faults.support.inputs import needs_strace, reasons, run_inbox
from tests.helpers import v1_bytes, write_rollout
from tests.platforms import make_link, needs_linux, peak_bytes

GOOD = v1_bytes(seed=1)


def make_skipped_files(folder: Path) -> dict[str, str]:
    """Create a file of each kind that is skipped; return their names with the expected codes."""
    os.mkfifo(folder / "rollout_fifo.json")
    (folder / "rollout_folder.json").mkdir()
    (folder / "rollout_device.json").symlink_to("/dev/zero")
    (folder / "rollout_dangling.json").symlink_to("nowhere")
    (folder / "rollout_loop.json").symlink_to("rollout_loop.json")
    found = dict.fromkeys(("rollout_fifo.json", "rollout_folder.json"), "E_NOT_REGULAR")
    found |= dict.fromkeys(("rollout_device.json", "rollout_dangling.json", "rollout_loop.json"), "E_SYMLINK")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(folder):
        listener.bind("rollout_socket.json")
    found["rollout_socket.json"] = "E_NOT_REGULAR"
    with contextlib.suppress(OSError):  # needs the right to make devices
        os.mknod(folder / "rollout_zero.json", stat.S_IFCHR | 0o600, os.makedev(1, 5))
        found["rollout_zero.json"] = "E_NOT_REGULAR"
    return found


@pytest.mark.fault(20)
@pytest.mark.fault(21)
@needs_linux("FIFOs, sockets and devices")
def test_skipped_files_are_warned_about_with_their_codes(make_input_harness):
    harness = make_input_harness()
    skipped_files = make_skipped_files(harness.paths.exports)
    harness.write_rollouts(1, 2)
    harness.until_version(1)
    assert scan_folder(harness.paths.exports).skipped == skipped_files
    [warning] = [w for w in harness.context.warnings() if w.code == "W_ODD_FILES"]
    shown = dict(re.findall(r"(rollout_\w+\.json) [^;]*\[(E_\w+)\]", warning.message))
    assert len(shown) == 5
    assert shown.items() <= skipped_files.items()
    assert f"and {len(skipped_files) - 5} more" in warning.message
    assert sum("skipped in Exports" in line for line in harness.log.lines) == 1
    for name in skipped_files:
        path = harness.paths.exports / name
        path.rmdir() if name == "rollout_folder.json" else path.unlink()
    harness.until(lambda: "W_ODD_FILES" not in harness.warnings())


@pytest.mark.fault(20)
@needs_linux("FIFOs, sockets and devices")
def test_a_scan_of_skipped_files_is_fast(tmp_path):
    make_skipped_files(tmp_path)
    for number in range(300):
        os.mkfifo(tmp_path / f"rollout_{number}.json")
    began = time.monotonic()
    assert len(scan_folder(tmp_path).skipped) > 300
    assert time.monotonic() - began < 1.0


@pytest.mark.fault(20)
@pytest.mark.fault(23)
@pytest.mark.fault(15)
@needs_strace
def test_skipped_incomplete_and_huge_files_are_never_opened(tmp_path):
    exports = tmp_path / "Saved" / "Training" / "Exports"
    exports.mkdir(parents=True)
    skipped_files = make_skipped_files(exports)
    never = [
        *skipped_files,
        "rollout_1_x.json.tmp",
        "~$rollout_2.json",
        ".rollout_3.json",
        "rollout_4.json.bak",
        "rollout_5.jso",
    ]
    for name in never[len(skipped_files) :]:
        (exports / name).write_bytes(GOOD)
    with (exports / "rollout_huge.json").open("wb") as file:
        file.truncate(1 << 40)
    write_rollout(exports, 1, GOOD)
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-e", "trace=open,openat,openat2,creat", "-o", str(trace)]
    done = run_inbox(tmp_path, 1, 1, before=command)
    assert (done["pending"], done["rejected"]) == (1, 1)
    assert "[E_TOO_BIG]" in " ".join(done["log"])
    opened = re.findall(r'"([^"]*Exports[^"]*)"', trace.read_text(errors="replace"))
    assert {Path(path).name for path in opened} == {"Exports", "rollout_1_20261121_120000.json"}
    assert (tmp_path / "Saved" / "Training" / "Rejected" / "rollout_huge.json").stat().st_size == 1 << 40


@pytest.mark.fault(15)
def test_a_real_file_over_the_limit_is_refused_unread_and_costs_no_memory(make_input_harness):
    harness = make_input_harness()
    path = harness.paths.exports / "rollout_9_x.json"
    with path.open("wb") as file:
        try:
            if sys.platform == "linux":
                os.posix_fallocate(file.fileno(), 0, 200_000_000)
            else:
                file.truncate(200_000_000)
        except OSError as error:
            pytest.skip(f"no room for 200 MB here: {error}")
    assert path.stat().st_size > MAX_ROLLOUT_BYTES
    before = peak_bytes()
    harness.until(lambda: harness.ledger.rejected_count() == 1)
    assert list(reasons(harness).values()) == ["E_TOO_BIG"]
    assert peak_bytes() - before < 50_000_000


@pytest.mark.fault(21)
@pytest.mark.parametrize("content", [b"MARKER-4711 secret", b'{"MARKER-4711": 1}', b'{"experiences": ["MARKER-4711"]}'])
def test_the_target_of_a_link_is_never_copied(make_input_harness, tmp_path, content):
    harness = make_input_harness(incomplete_timeout_s=0.5)
    secret = tmp_path / "secret"
    secret.write_bytes(content)
    make_link(harness.paths.exports / "rollout_link.json", secret)
    os.link(secret, harness.paths.exports / "rollout_hard.json")
    harness.until(lambda: harness.ledger.rejected_count() == 1 and "W_ODD_FILES" in harness.warnings())
    assert (harness.paths.exports / "rollout_link.json").is_symlink()
    assert (secret.read_bytes(), (harness.paths.rejected / "rollout_hard.json").samefile(secret)) == (content, True)
    harness.service.report_end()
    for path in harness.paths.project.rglob("*"):
        if path.is_file() and not path.samefile(secret):
            assert b"MARKER-4711" not in path.read_bytes(), path
    assert not any("MARKER-4711" in line for line in harness.log.lines)
