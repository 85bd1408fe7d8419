"""Long paths, reserved names and forward slashes. The rules for Windows are tested on every system."""

from __future__ import annotations

import sys
from pathlib import Path, PureWindowsPath

import pytest

from schemas.storage import windows_paths
from schemas.storage.files import read_with_retries, write_atomic
from schemas.storage.layout import ProjectPaths

DEEP = "\\".join(["d" * 60] * 6)


@pytest.mark.parametrize(
    ("plain", "prefixed"),
    [
        (r"C:\Games\My Game", r"\\?\C:\Games\My Game"),
        (r"C:/Games/a/../b", r"\\?\C:\Games\b"),
        (r"S:" + "\\", r"\\?\S:" + "\\"),
        (r"\\server\share\Game", r"\\?\UNC\server\share\Game"),
        ("//server/share/Game", r"\\?\UNC\server\share\Game"),
    ],
)
def test_the_prefix_is_added_and_removed(plain, prefixed):
    assert windows_paths.with_prefix(plain) == prefixed
    assert windows_paths.with_prefix(prefixed) == prefixed
    assert windows_paths.without_prefix(prefixed) == str(PureWindowsPath(plain.replace("a/../", "")))


@pytest.mark.parametrize("path", ["\\\\.\\NUL", "\\\\?\\Volume{0b4d}\\Game", "\\\\?\\GLOBALROOT\\Device"])
def test_paths_that_need_their_prefix_keep_it(path):
    assert windows_paths.with_prefix(path) == path
    assert windows_paths.without_prefix(path) == path


def test_only_a_path_that_is_too_long_gets_the_prefix():
    assert windows_paths.prefixed_if_long("C:\\" + "x" * 244) == "C:\\" + "x" * 244
    assert windows_paths.prefixed_if_long("C:\\" + "x" * 245) == "\\\\?\\C:\\" + "x" * 245
    assert windows_paths.prefixed_if_long(r"C:\Games", reserve=240) == r"\\?\C:\Games"


def test_engines_and_users_read_forward_slashes_and_no_prefix():
    assert windows_paths.with_forward_slashes(r"\\?\C:\Games\m.json") == "C:/Games/m.json"
    assert windows_paths.with_forward_slashes(r"\\?\UNC\server\share\m.json") == "//server/share/m.json"
    assert windows_paths.with_forward_slashes(r"C:\Games\m.json") == "C:/Games/m.json"


def test_the_paths_in_an_error_have_forward_slashes():
    error = PermissionError(13, "Access is denied", r"\\?\C:\Games\a.tmp", None, r"\\?\C:\Games\a.json")
    assert windows_paths.with_shown_paths(error).endswith("Access is denied: 'C:/Games/a.tmp' -> 'C:/Games/a.json'")


@pytest.mark.parametrize(
    ("path", "part"),
    [
        (r"C:\Games\aux\Game", "aux"),
        (r"C:\con.d\Game", "con.d"),
        (r"C:\Games\COM1", "COM1"),
        ("C:\\Games\\LPT\u00b2.txt", "LPT\u00b2.txt"),
        (r"C:\Games\nul .txt", "nul .txt"),
        (r"\\?\C:\Games\Game.", "Game."),
        ("\\\\?\\C:\\Games \\Game", "Games "),
        (r"C:\Games\Game.", None),  # Windows opens C:\Games\Game
        (r"C:\Games\..\.\Game", None),
        (r"C:\console\com\com10\auxiliary", None),
        (r"\\server\con-share\Game", None),
    ],
)
def test_names_that_programs_cannot_open_are_found(path, part):
    assert windows_paths.reserved_part(path) == part


def test_a_working_folder_is_short_enough():
    assert windows_paths.short_enough(f"C:\\Games\\{DEEP}") == "C:\\Games\\" + "\\".join(["d" * 60] * 3)
    assert windows_paths.short_enough(r"C:\Games") == r"C:\Games"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX: paths stay as they are")
def test_other_systems_than_windows_use_paths_as_they_are(tmp_path):
    odd = tmp_path / ("x\\y" * 60) / "aux."
    for function in (windows_paths.for_system, windows_paths.working_folder, windows_paths.plain_path):
        assert function(odd) == odd
    assert windows_paths.shown_path(odd) == windows_paths.engine_path(odd) == str(odd)


@pytest.mark.skipif(sys.platform != "win32", reason="Windows: only there a path gets the prefix")
def test_a_long_project_has_the_prefix_in_all_paths_and_none_in_what_engines_read(tmp_path):
    plain = tmp_path / DEEP
    paths = ProjectPaths(plain)
    for path in (*paths.folders(), paths.ledger, paths.pointer, paths.status, paths.lock, paths.cycle_log(1)):
        assert str(path).startswith("\\\\?\\")
        assert windows_paths.engine_path(path) == str(path)[4:].replace("\\", "/")
    paths.make()
    write_atomic(paths.status, b"{}")
    assert read_with_retries(paths.status, limit=10) == b"{}"
    assert ProjectPaths(tmp_path / "short").project == tmp_path / "short"


@pytest.mark.skipif(sys.platform != "win32", reason="Windows: only there a path gets the prefix")
def test_a_long_name_in_a_folder_with_a_short_path_can_be_used(tmp_path):
    path = tmp_path / f"rollout_{'x' * 220}.json"
    write_atomic(path.with_name("y" * 230), b"x")
    write_atomic(path, b"y")
    assert read_with_retries(path, limit=10) == b"y"


def test_text_is_accepted_as_a_path():
    assert windows_paths.shown_path("DIR") == windows_paths.shown_path(Path("DIR")) == "DIR"
