"""The end of a trainer's command on Windows, where it is a child of `hotlap`."""

from __future__ import annotations

import pytest

from daemon.trainer_programs import _result


@pytest.mark.parametrize("code", [0, 1, 2, 75, 130])
def test_the_exit_code_of_a_command_is_passed_on(capsys, code):
    assert _result(code) == code
    assert capsys.readouterr().err == ""


def test_ctrl_c_before_the_program_handles_it_is_no_crash(capsys):
    assert _result(0xC000013A) == 130
    assert capsys.readouterr().err == ""


def test_a_crash_is_one_line_with_its_name_and_the_remedy(capsys):
    assert _result(0xC0000135) == 0xC0000135 - (1 << 32)
    assert capsys.readouterr().err == (
        "hotlap: the trainer ended with exit code 0xC0000135 (DLL not found) -> install the Visual C++ Redistributable"
        " (https://aka.ms/vs/17/release/vc_redist.x64.exe) [E_CRASH]\n"
    )
