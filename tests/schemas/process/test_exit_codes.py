"""How a process ended, in words: the codes of Windows in hex with their names, and signals by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from schemas.process.exit_codes import (
    CONTROL_C,
    NO_MEMORY,
    WINDOWS_EXITS,
    exit_words,
    is_crash,
    is_final,
    remedy,
    system_code,
    unsigned,
    with_remedy,
)

#: code -> words on Windows, whether it is a crash, whether another start would fail as well, a part of the remedy
WINDOWS = {
    0: ("exit code 0", False, False, ""),
    1: ("exit code 1", False, False, ""),
    75: ("exit code 75", False, False, ""),
    -1: ("exit code -1", False, False, ""),
    0xFFFFFFFF: ("exit code -1", False, False, ""),
    0xC0000005: ("exit code 0xC0000005 (access violation)", True, False, ""),
    0xC0000017: ("exit code 0xC0000017 (no memory)", True, False, "page file"),
    0xC000001D: ("exit code 0xC000001D (illegal instruction)", True, True, "CPU"),
    0xC000007B: ("exit code 0xC000007B (invalid image)", True, True, "64-bit"),
    0xC00000FD: ("exit code 0xC00000FD (stack overflow)", True, False, ""),
    0xC0000135: ("exit code 0xC0000135 (DLL not found)", True, True, "Visual C++ Redistributable"),
    0xC0000139: ("exit code 0xC0000139 (entry point not found in a DLL)", True, True, "Visual C++ Redistributable"),
    0xC000013A: ("exit code 0xC000013A (Ctrl-C, or its console was closed)", True, False, ""),
    0xC0000142: ("exit code 0xC0000142 (DLL initialization failed)", True, False, "log in again"),
    0xC0000374: ("exit code 0xC0000374 (heap corruption)", True, False, ""),
    0xC0000409: ("exit code 0xC0000409 (stack buffer overrun, or abort)", True, False, ""),
    0xC06D007E: ("exit code 0xC06D007E (DLL not found when it was needed)", True, True, "Redistributable"),
    0xC06D007F: ("exit code 0xC06D007F (function not found in a DLL)", True, True, "Redistributable"),
    0xE06D7363: ("exit code 0xE06D7363 (C++ exception)", True, False, ""),
    0xC0001234: ("exit code 0xC0001234", True, False, ""),
    0x40010004: ("exit code 0x40010004 (ended by a debugger)", False, False, ""),
}


@pytest.mark.parametrize("code", WINDOWS)
def test_an_exit_code_of_windows(code):
    words, crashed, final, hint = WINDOWS[code]
    assert exit_words(code, windows=True) == words
    assert (is_crash(code, windows=True), is_final(code)) == (crashed, final)
    assert (hint in remedy(code)) if hint else remedy(code) == ""


@pytest.mark.parametrize("code", [code for code in WINDOWS_EXITS if code >= 0x80000000])
def test_the_signed_form_of_an_exit_code_means_the_same(code):
    signed = code - (1 << 32)
    assert unsigned(signed) == code
    assert exit_words(signed, windows=True) == exit_words(signed, windows=False) == exit_words(code)
    assert (is_crash(signed), is_final(signed), remedy(signed)) == (is_crash(code), is_final(code), remedy(code))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-9, "signal 9 (SIGKILL)"),
        (-11, "signal 11 (SIGSEGV)"),
        (-63, "signal 63"),
        (3, "exit code 3"),
        (137, "exit code 137"),
        (None, "no exit code"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_exit_of_posix(code, words):
    assert exit_words(code, windows=False) == words
    assert with_remedy("it ended", code) == "it ended"


def test_names_and_remedies_are_short_lines_of_plain_ascii():
    for code, known in WINDOWS_EXITS.items():
        assert 0 <= code < 1 << 32
        assert known.name.isascii()
        assert known.remedy.isascii()
        assert "\n" not in known.name + known.remedy
        assert len(known.name) < 60
    assert set(WINDOWS_EXITS) >= {CONTROL_C, *NO_MEMORY}


@pytest.mark.skipif(sys.platform != "win32", reason="exit codes of Windows")
@pytest.mark.parametrize("code", [0, 1, 130, 0xC0000005, 0xC000013A])
def test_windows_passes_an_exit_code_on_unchanged(code):
    for written in (code, unsigned(code)):
        program = f"import sys; sys.exit({system_code(written)})"
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == code


@pytest.mark.skipif(sys.platform != "win32", reason="exit codes of Windows")
def test_a_child_that_windows_ended_is_described():
    crash = "import ctypes; ctypes.WinDLL('kernel32').ExitProcess(0xC0000135)"
    done = subprocess.run([sys.executable, "-c", crash], check=False)
    assert exit_words(done.returncode) == "exit code 0xC0000135 (DLL not found)"
