"""Programs that dev.py starts: their output, signals and exit codes."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.devtools.processes import run, run_together, stream
from tests.faults.support.children import until
from tests.platforms import needs_posix

ROOT = Path(__file__).resolve().parents[3]


def test_a_program_is_streamed_line_by_line(tmp_path):
    lines: list[str] = []
    code = "print('one'); import sys; print('zw\\xf6lf', file=sys.stderr); sys.exit(3)"
    assert stream([sys.executable, "-c", code], tmp_path, lines.append, lambda: None) == 3
    assert sorted(lines) == ["one", "zw\xf6lf"]


def test_an_interrupt_ends_the_program(tmp_path):
    def stop(line):
        raise KeyboardInterrupt

    began_s = time.monotonic()
    code = "import time; print('on', flush=True); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        stream([sys.executable, "-c", code], tmp_path, stop, lambda: None)
    assert time.monotonic() - began_s < 20


@needs_posix("signals")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_child_and_we_wait_for_it(tmp_path, signum):
    child = (
        "import os, signal, sys, time\n"  # not print: the signal may come while it is still in its first call
        "def tidy(*_): time.sleep(0.3); os.write(1, b'tidy\\n'); sys.exit(7)\n"
        f"signal.signal({int(signum)}, tidy)\n"
        "os.write(1, b'up\\n'); time.sleep(60)\n"
    )
    argv = [sys.executable, "-c", child]
    program = (
        f"from pathlib import Path; from scripts.devtools.processes import run; raise SystemExit(run({argv!r}, Path()))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signum)
        out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == (b"tidy\n", b"", 7)


@needs_posix("signals")
def test_the_exit_code_of_a_killed_program_is_that_of_a_shell(tmp_path):
    assert run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], tmp_path) == 137


def test_programs_that_run_together_wait_for_each_other_and_have_their_own_output(tmp_path):
    """Check two programs that wait for each other's file: they end only if both run at the same time."""
    code = (
        "import sys, time; from pathlib import Path; mine, other, result = sys.argv[1:]; Path(mine).touch()\n"
        "while not Path(other).exists(): time.sleep(0.01)\n"
        "print('this is', mine); sys.exit(int(result))"
    )
    pairs = [("a", "b", "0"), ("b", "a", "3")]
    logs = [tmp_path / f"{mine}.log" for mine, *_ in pairs]
    assert run_together([[sys.executable, "-c", code, *words] for words in pairs], logs, tmp_path) == [0, 3]
    assert [log.read_text().strip() for log in logs] == ["this is a", "this is b"]


@needs_posix("signals")
def test_a_signal_reaches_all_programs_that_run_together(tmp_path):
    child = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "os.write(1, b'up\\n'); time.sleep(60)\n"
    )
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    ours = (
        "from pathlib import Path; from scripts.devtools.processes import run_together\n"
        f"logs = [Path(name) for name in {[str(log) for log in logs]}]\n"
        f"print(run_together([[{sys.executable!r}, '-c', {child!r}]] * 2, logs, Path()))"
    )
    with subprocess.Popen([sys.executable, "-c", ours], cwd=ROOT, stdout=subprocess.PIPE) as process:
        until(lambda: all(log.exists() and log.read_text() == "up\n" for log in logs))
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    assert out.decode().strip() == "[7, 7]"
