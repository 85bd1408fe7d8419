"""The log: one line per record, bounded files, and no waiting for the console."""

import io
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from daemon.ui.log import LINES_KEPT, Log
from tests.daemon.ui.snapshots import until
from tests.platforms import make_link, needs_posix

ROOT = Path(__file__).resolve().parents[3]
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (INFO |WARNING|ERROR) [\x20-\x7e]*")


def written(path):
    return path.read_bytes().decode("ascii").splitlines()


def test_lines_have_local_time_a_level_and_the_text(tmp_path):
    at_s = 1_795_262_401.0
    log = Log(tmp_path / "daemon.log", utc_s=lambda: at_s)
    log.info("[2/5] training: 10 rollouts")
    log.warning("look here")
    log.error("this failed")
    log.close()
    local = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))
    lines = [f"{local} INFO  [2/5] training: 10 rollouts", f"{local} WARNING look here", f"{local} ERROR this failed"]
    assert written(tmp_path / "daemon.log") == lines
    assert log.tail(2) == tuple(lines[1:])
    assert log.tail(0) == ()
    assert log.tail(99) == tuple(lines)


@pytest.mark.parametrize(
    "text",
    [
        "two\n2026-11-21 12:00:01 INFO  forged",
        "\r\u2028\x85back",
        "\x1b[2J\x9b\x07",
        "\u202egpj.elif",
        "\udcff\ud800",
        "ä賽車🚀",
        "%s %d {x}",
        "",
        "long " * 9999,
    ],
)
def test_every_text_becomes_one_ascii_line(tmp_path, text):
    log = Log(tmp_path / "daemon.log")
    log.info(text)
    log.close()
    (line,) = written(tmp_path / "daemon.log")
    assert LINE.fullmatch(line)
    assert len(line) < 15_000


def test_memory_keeps_the_last_lines(tmp_path):
    log = Log(tmp_path / "daemon.log")
    for k in range(LINES_KEPT + 50):
        log.info(str(k))
    log.close()
    lines = log.tail(10_000)
    assert (len(lines), lines[0].split()[-1], lines[-1].split()[-1]) == (LINES_KEPT, "50", str(LINES_KEPT + 49))


def test_a_restart_shows_the_last_lines_of_the_daemon_before(tmp_path):
    path = tmp_path / "daemon.log"
    first = Log(path)
    for k in range(3000):
        first.info(f"line {k}")
    first.close()
    with path.open("ab") as file:
        file.write(b"a line that a crash cut o")
    second = Log(path)
    assert [line.split()[-1] for line in second.tail(3)] == ["2997", "2998", "2999"]
    assert len(second.tail(9999)) == LINES_KEPT
    second.info("new")
    assert second.tail(2)[1].endswith("new")
    second.close()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x1b[2J\n", b"x" * 200_000, b"\n" * 9])
def test_whatever_is_in_the_file_a_restart_shows_only_safe_lines(tmp_path, content):
    path = tmp_path / "daemon.log"
    path.write_bytes(content)
    log = Log(path)
    assert all(line.isprintable() for line in log.tail(9999))
    log.close()


def test_many_threads_write_whole_lines(tmp_path):
    log = Log(tmp_path / "daemon.log", limit_bytes=10_000)

    def write(name):
        for k in range(300):
            log.info(f"{name} {k}")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    for path in tmp_path.iterdir():
        assert all(LINE.fullmatch(line) for line in written(path))


# --- the file -----------------------------------------------------------------------------------------


def test_a_full_log_is_copied_and_truncated_in_place(tmp_path):
    path = tmp_path / "daemon.log"
    path.touch()
    log = Log(path, limit_bytes=1000)
    with path.open() as viewer:  # on Windows this would forbid a rename
        inode = os.fstat(viewer.fileno()).st_ino
        for k in range(200):
            log.info(f"line {k:04}")
        log.close()
        assert path.stat().st_ino == inode
    names = ["daemon.3.log", "daemon.2.log", "daemon.1.log", "daemon.log"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)
    numbers = [int(line.split()[-1]) for name in names for line in written(tmp_path / name)]
    assert numbers == list(range(numbers[0], 200)), "the newest lines, each once, in order"
    assert all((tmp_path / name).stat().st_size < 1100 for name in names)


def test_an_existing_log_is_continued(tmp_path):
    for text in ("first", "second"):
        log = Log(tmp_path / "daemon.log")
        log.info(text)
        log.close()
    assert [line.split()[-1] for line in written(tmp_path / "daemon.log")] == ["first", "second"]


def test_a_copy_that_fails_does_not_let_the_log_grow_without_limit(tmp_path):
    (tmp_path / "daemon.1.log").mkdir()
    log = Log(tmp_path / "daemon.log", limit_bytes=1000)
    sizes = []
    for k in range(200):
        log.info(f"line {k:04}")
        sizes.append((tmp_path / "daemon.log").stat().st_size)
    log.close()
    assert 1900 < max(sizes) < 2100
    assert written(tmp_path / "daemon.log")[-1].endswith("line 0199")


@needs_posix("an open file can be removed")
def test_a_removed_log_is_created_again(tmp_path):
    folder = tmp_path / "Logs"
    folder.mkdir()
    log = Log(folder / "daemon.log")
    log.info("one")
    (folder / "daemon.log").unlink()
    log.info("two")
    assert len(written(folder / "daemon.log")) == 1
    (folder / "daemon.log").unlink()
    folder.rmdir()
    log.info("three")  # the folder is missing: the line is lost
    folder.mkdir()
    log.info("four")
    log.close()
    assert written(folder / "daemon.log")[-1].endswith("four")
    assert [line.split()[-1] for line in log.tail(9)] == ["one", "two", "three", "four"]


@pytest.mark.parametrize("kind", [pytest.param("fifo", marks=needs_posix("FIFOs")), "folder", "link"])
def test_a_log_that_is_not_a_regular_file_is_not_written(tmp_path, kind):
    path, target = tmp_path / "daemon.log", tmp_path / "victim"
    target.write_text("mine")
    {"fifo": lambda: os.mkfifo(path), "folder": path.mkdir, "link": lambda: make_link(path, target)}[kind]()
    log = Log(path)
    log.info("said")
    log.close()
    assert log.tail(1)[0].endswith("said")
    assert target.read_text() == "mine"


@needs_posix("FIFOs")
def test_a_fifo_with_a_reader_is_left_alone(tmp_path):
    os.mkfifo(tmp_path / "daemon.log")
    reader = os.open(tmp_path / "daemon.log", os.O_RDONLY | os.O_NONBLOCK)
    log = Log(tmp_path / "daemon.log")
    log.info("said")
    log.close()
    assert os.read(reader, 100) == b""
    os.close(reader)


def test_a_closed_log_keeps_lines_in_memory_only(tmp_path):
    log = Log(tmp_path / "daemon.log", console=io.StringIO())
    log.close()
    log.info("late")
    log.close()
    assert log.tail(1)[0].endswith("late")
    assert not (tmp_path / "daemon.log").exists()


# --- the console --------------------------------------------------------------------------------------


def test_the_console_gets_the_same_lines(tmp_path):
    console = io.StringIO()
    log = Log(tmp_path / "daemon.log", console=console)
    log.info("one")
    log.mute_console()
    log.info("two")
    log.unmute_console()
    log.info("three")
    log.close()
    lines = written(tmp_path / "daemon.log")
    assert console.getvalue().splitlines() == [lines[0], lines[2]]


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8", "utf-16"])
def test_lines_are_printed_on_a_console_of_any_encoding(tmp_path, encoding):
    file = (tmp_path / "out.txt").open("w", encoding=encoding, newline="")
    log = Log(tmp_path / "daemon.log", console=file)
    log.info("賽車 \udcff ä")
    log.close()
    file.close()
    line = written(tmp_path / "daemon.log")[0]
    assert line.endswith(r"\u8cfd\u8eca \udcff \xe4")
    assert (tmp_path / "out.txt").read_bytes().decode(encoding).rstrip("\n") == line


def test_a_closed_console_does_not_stop_the_log(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as console:
        log = Log(tmp_path / "daemon.log", console=console)
        for k in range(2000):
            log.info(str(k))
        log.close()
    assert len(written(tmp_path / "daemon.log")) == 2000


def test_a_console_that_hangs_does_not_stop_the_log(tmp_path):
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as console:
        log = Log(tmp_path / "daemon.log", console=console)
        for k in range(3000):  # a pipe holds 64 KB, these are more
            log.info(f"{k} ".ljust(100, "."))
        started = time.monotonic()
        log.close()
        assert time.monotonic() - started < 2.0
        assert len(written(tmp_path / "daemon.log")) == 3000
        os.close(reading)  # the thread that hangs in a write now ends with an error
        until(lambda: not [thread for thread in threading.enumerate() if thread.name == "log console"])


HANG = """
import select, sys, time
from pathlib import Path
from daemon.ui.log import Log
log = Log(Path(sys.argv[1]), console=sys.stdout)
while select.select([], [sys.stdout.fileno()], [], 0)[1]:
    log.info("." * 100)
log.info("." * 100)
log.close()
sys.exit(7)
"""


@needs_posix("select on pipes")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_program_whose_console_hangs_still_ends(tmp_path, unbuffered):
    """Check that the interpreter can exit: the blocked thread must not have locked stdout's buffer."""
    child = subprocess.Popen(
        [sys.executable, "-c", HANG, str(tmp_path / "daemon.log")],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert child.wait(30) == 7
    finally:
        child.kill()
    printed, errors = child.communicate()
    assert printed.count(b"\n") > 100
    assert errors == b""
