"""scripts/windows without Wine and without a network: pins, wheels, stamps, DLL tables, messages, command line."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from scripts import dev
from scripts.windows import cli, dlls, host, interpreter, packages, pip_calls, prefix, program, setup
from scripts.windows.cache import Cache, cache_folder, digest_of, file_digest
from scripts.windows.cli import SHORT
from scripts.windows.progress import Progress, SetupError, Unavailable, run_program
from tests.platforms import needs_posix

ROOT = Path(__file__).resolve().parents[2]
pytestmark = needs_posix("the environment is made on Debian")


@pytest.fixture
def cache(tmp_path):
    """Return an empty cache with a space in its path."""
    cache = Cache(tmp_path / "hot lap")
    cache.create()
    return cache


@pytest.fixture
def progress():
    return Progress(io.StringIO())


def wheel(folder, name, version, files=(("{name}/__init__.py", b"1"),), info="{name}-{version}.dist-info"):
    """Write a wheel with these files and a RECORD."""
    info = info.format(name=name, version=version)
    content = {path.format(name=name, version=version): data for path, data in files}
    content[f"{info}/METADATA"] = f"Name: {name}\nVersion: {version}\n".encode()
    rows = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip('=')},{len(data)}"
        for path, data in content.items()
    ]
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        for entry, data in content.items():
            file.writestr(entry, data)
        file.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]))
    return path


@pytest.fixture
def index(cache, monkeypatch):
    """Replaces pip: writes the requested wheels, and records the requests."""
    asked = []

    def download(cache, arguments, progress):
        pins = [word for word in arguments if "==" in word]
        asked.append(pins)
        for pin in pins:
            wheel(cache.downloads, *pin.split("=="))

    monkeypatch.setattr(packages, "download", download)
    return asked


# --- pins


def test_pins_are_read_by_normal_name():
    text = "# pins\nnumpy==2.4.6\npydantic_core==2.50.4  # why\nFarama-Notifications==0.0.6 ; python_version\n\nx>=1\n"
    assert packages.read_pins(text) == {"numpy": "2.4.6", "pydantic-core": "2.50.4", "farama-notifications": "0.0.6"}


def test_every_package_of_the_list_is_pinned():
    pins = packages.wanted_pins(ROOT / "constraints.txt")
    assert len(pins) == len(packages.PACKAGES)
    assert {"torch", "numpy", "pytest"} <= set(pins)


def test_a_package_without_a_pin_is_named(tmp_path):
    (tmp_path / "constraints.txt").write_text("numpy==1\n")
    with pytest.raises(SetupError, match=r"no version for torch: add a line NAME==VERSION"):
        packages.wanted_pins(tmp_path / "constraints.txt", ["numpy", "torch"])


def test_hotlaps_own_requirements_are_in_the_list():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    [block] = re.findall(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    needed = {packages.normal_name(name) for name in re.findall(r'"([\w-]+)', block)}
    assert needed <= {packages.normal_name(name) for name in packages.PACKAGES}


# --- wheels


def test_packages_are_installed_replaced_and_removed_one_by_one(cache, index, progress):
    packages.ensure_packages(cache, {"a": "1.0", "b": "1.0"}, progress)
    assert index == [["a==1.0", "b==1.0"]]
    packages.ensure_packages(cache, {"a": "1.0", "b": "1.0"}, progress)
    assert len(index) == 1

    packages.ensure_packages(cache, {"a": "1.0", "b": "2.0", "c": "3.0"}, progress)
    assert index[1:] == [["b==2.0", "c==3.0"]]
    packages.ensure_packages(cache, {"a": "1.0"}, progress)
    assert len(index) == 2
    assert sorted(path.name for path in cache.site_packages.iterdir()) == ["a", "a-1.0.dist-info"]
    assert list(cache.downloads.glob("*.whl")) == []


def test_the_large_package_is_fetched_by_itself(cache, index, progress):
    packages.ensure_packages(cache, {"torch": "2", "a": "1"}, progress)
    assert index == [["a==1"], ["torch==2"]]


def test_a_run_that_stopped_continues_with_what_is_missing(cache, index, progress, monkeypatch):
    unpack, done = packages.unpack_wheel, []

    def stop_at_the_second(*args):
        done.append(args)
        if len(done) == 2:
            (cache.site_packages / "b").mkdir()
            (cache.site_packages / "b" / "half.py").write_text("written in part")
            raise KeyboardInterrupt
        unpack(*args)

    monkeypatch.setattr(packages, "unpack_wheel", stop_at_the_second)
    wanted = {"a": "1.0", "b": "1.0", "c": "1.0"}
    with pytest.raises(KeyboardInterrupt):
        packages.ensure_packages(cache, wanted, progress)
    monkeypatch.setattr(packages, "unpack_wheel", unpack)
    packages.ensure_packages(cache, wanted, progress)
    assert index == [["a==1.0", "b==1.0", "c==1.0"], ["b==1.0", "c==1.0"]]
    assert set(packages.installed(cache.site_packages)) == {"a", "b", "c"}


def test_a_damaged_file_in_a_wheel_is_an_error_and_the_package_does_not_count(cache, progress, tmp_path):
    good = wheel(tmp_path, "a", "1.0")
    bad = tmp_path / "bad.whl"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as target:
        for name in source.namelist():
            target.writestr(name, b"2" if name == "a/__init__.py" else source.read(name))
    cache.site_packages.mkdir(parents=True)
    with pytest.raises(SetupError, match=r"a/__init__\.py in bad\.whl is damaged"):
        packages.unpack_wheel(bad, cache.site_packages, progress)
    assert packages.installed(cache.site_packages) == {}


def test_a_wheel_with_packages_inside_and_scripts_is_unpacked_into_its_places(cache, progress, tmp_path):
    files = (
        ("a/_vendor/b-9.dist-info/RECORD", b""),
        ("a-1.0.data/purelib/a/late.py", b"x"),
        ("a-1.0.data/scripts/a.exe", b"MZ"),
        ("a-1.0.data/data/a.dll", b"MZ"),
        ("a-1.0.data/data/Scripts/b.dll", b"MZ"),
        ("../outside.py", b"x"),
    )
    packages.unpack_wheel(wheel(tmp_path, "a", "1.0", files), cache.site_packages, progress)
    names = {path.relative_to(cache.site_packages).as_posix() for path in cache.site_packages.rglob("*")}
    assert {"a/late.py", "a/_vendor/b-9.dist-info/RECORD", "a-1.0.dist-info/RECORD"} <= names
    assert not any("outside" in name or "a.exe" in name for name in names)
    assert not (cache.python / "Lib" / "outside.py").exists()
    assert [path.name for path in cache.python.glob("*.dll")] == ["a.dll"], "next to python.exe"
    packages.remove(cache.site_packages / "a-1.0.dist-info")
    assert list(cache.python.glob("*.dll")) == []
    assert list(cache.site_packages.iterdir()) == []


def test_versions_that_differ_in_zeros_are_the_same():
    assert packages.same_version("2.0", "2.0.0")
    assert not packages.same_version("2.0", "2.0.1")
    assert not packages.same_version("10", "1")


# --- the interpreter


@pytest.fixture
def archive(cache, monkeypatch):
    """Replace the real archive by a small one; return the requests to pip."""
    inner, asked = io.BytesIO(), []
    with zipfile.ZipFile(inner, "w") as file:
        for name in ("python.exe", "Lib/os.py", "DLLs/_wmi.pyd", "DLLs/_ssl.pyd"):
            file.writestr(f"cp313/{name}", name)
        for name in ("pip/__init__.py", "pip-24.3.1.dist-info/RECORD", "wheel/__init__.py", "pipx/__init__.py"):
            file.writestr(f"cp313/Lib/site-packages/{name}", name)
        file.writestr("cp312/python.exe", "other")
        file.writestr("cp313/../../outside", "x")
    path = cache.downloads / interpreter.ARCHIVE
    entry = tarfile.TarInfo(f"{path.name.removesuffix('.tar.gz')}/{interpreter.INNER}")
    entry.size = len(inner.getvalue())

    def download(cache, arguments, progress):
        asked.append(arguments)
        with tarfile.open(path, "w:gz") as file:
            file.addfile(entry, io.BytesIO(inner.getvalue()))
        monkeypatch.setattr(interpreter, "SHA256", file_digest(path))

    monkeypatch.setattr(interpreter, "download", download)
    return asked


def test_the_interpreter_is_unpacked_once_without_what_is_left_out(cache, archive, progress):
    interpreter.ensure_interpreter(cache, progress)
    interpreter.ensure_interpreter(cache, progress)
    assert len(archive) == 1
    assert "--require-hashes" in archive[0]
    files = {path.relative_to(cache.python).as_posix() for path in cache.python.rglob("*") if path.is_file()}
    pip = {"Lib/site-packages/pip/__init__.py", "Lib/site-packages/pip-24.3.1.dist-info/RECORD"}
    assert files == {"python.exe", "Lib/os.py", "DLLs/_ssl.pyd", *pip}
    assert packages.changes({}, cache.site_packages) == ([], {})
    assert cache.executable.read_text() == "python.exe"
    assert not (cache.folder / "outside").exists()


def test_a_stopped_unpacking_starts_again_and_leaves_no_half(cache, archive, progress, monkeypatch):
    def stop(source, folder, target, progress):
        (target / "Lib").mkdir(parents=True)
        raise KeyboardInterrupt

    unpack = interpreter.unpack
    monkeypatch.setattr(interpreter, "unpack", stop)
    with pytest.raises(KeyboardInterrupt):
        interpreter.ensure_interpreter(cache, progress)
    assert not cache.python.exists()
    monkeypatch.setattr(interpreter, "unpack", unpack)
    interpreter.ensure_interpreter(cache, progress)
    assert len(archive) == 1  # the archive was complete: its checksum is right
    assert cache.executable.is_file()


def test_an_archive_with_another_checksum_is_refused(cache, progress, monkeypatch):
    monkeypatch.setattr(interpreter, "download", lambda cache, *_: (cache.downloads / interpreter.ARCHIVE).touch())
    with pytest.raises(SetupError, match="does not have the checksum"):
        interpreter.ensure_interpreter(cache, progress)
    assert not cache.is_finished("interpreter", interpreter.DIGEST)


# --- stamps and locks


def test_a_step_is_finished_for_its_inputs_only(cache):
    assert not cache.is_finished("dlls", digest_of("a"))
    cache.write_stamp("dlls", digest_of("a"), 1.0)
    cache.write_stamp("prefix", digest_of("b"), 2.0)
    assert cache.is_finished("dlls", digest_of("a"))
    assert not cache.is_finished("dlls", digest_of("b"))
    assert not cache.is_finished("dlls", "")
    cache.write_stamp("dlls", None)
    assert not cache.is_finished("dlls", digest_of("a"))
    assert cache.is_finished("prefix", digest_of("b"))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"dlls": 3}', '{"dlls": {}}', "\0"])
def test_damaged_stamps_count_as_none(cache, text):
    cache.stamps.write_text(text)
    assert not cache.is_finished("dlls", digest_of("a"))
    cache.write_stamp("dlls", digest_of("a"))
    assert cache.is_finished("dlls", digest_of("a"))


def test_digests_do_not_depend_on_how_parts_are_joined():
    assert digest_of("ab", "c") != digest_of("a", "bc")
    assert file_digest(Path("missing")) == ""


def test_the_folder_comes_from_the_environment(tmp_path):
    assert cache_folder({"HOTLAP_WINDOWS_CACHE": str(tmp_path)}) == tmp_path
    assert cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "hotlap-windows"
    assert cache_folder({}) == Path.home() / ".cache" / "hotlap-windows"


def test_runs_share_the_folder_and_a_change_waits_for_them(cache):
    out, changed = io.StringIO(), threading.Event()

    def change():
        with cache.lock(shared=False, progress=Progress(out)):
            changed.set()

    with cache.lock(shared=True, progress=Progress(out)), cache.lock(shared=True, progress=Progress(out)):
        thread = threading.Thread(target=change)
        thread.start()
        assert not changed.wait(0.3)
        assert "waiting for its end" in out.getvalue()
    thread.join(10)
    assert changed.is_set()


def test_a_file_with_two_names_counts_once(cache):
    (cache.folder / "a").write_bytes(b"x" * 100_000)
    before = cache.size_bytes()
    os.link(cache.folder / "a", cache.folder / "b")
    assert cache.size_bytes() == before >= 100_000


# --- the DLLs

LISTING = """\
 ucrtbase.dll: file format pei-x86-64
[Ordinal/Name Pointer] Table
{prefix}[   0] _Exit
{prefix}[   1] ??2@YAPEAX_K@Z
{prefix}[2486] cabs
{prefix}[2487] cabsf
{prefix}[2488] cabsl

The Function Table
{prefix}[   9] not_a_name
"""


@pytest.mark.parametrize("prefix", ["\t", "    "])
def test_exports_are_read_from_objdump(prefix):
    names = ["_Exit", "??2@YAPEAX_K@Z", "cabs", "cabsf", "cabsl"]
    assert dlls.parse_exports(LISTING.format(prefix=prefix)) == names
    assert dlls.parse_exports("no table") == []


def test_exports_of_a_newer_objdump_are_read():
    text = "[Ordinal/Name Pointer] Table -- Ordinal Base 1\n\t[   0] +base[   1]  0000 _Exit\n\t[  1] +base[  2] abs\n"
    assert dlls.parse_exports(text) == ["_Exit", "abs"]


def test_our_functions_replace_wines_and_the_others_are_forwarded():
    text = dlls.definition(["_Exit", "??2@YAPEAX_K@Z", "cabs", "cabsf", "cabsl"], ["cabs", "cabsf"])
    assert text.splitlines() == [
        "LIBRARY ucrtbase.dll",
        "EXPORTS",
        "  _Exit = wucrt._Exit",
        '  "??2@YAPEAX_K@Z" = wucrt."??2@YAPEAX_K@Z"',
        "  cabs = own_cabs",
        "  cabsf = own_cabsf",
        "  cabsl = own_cabs",
    ]


def test_our_functions_are_found_in_the_source():
    text = "double own_cabs(Double z) { return cabs(from_double(z)); }\nFloat own_cpowf(Float a, Float b);"
    assert dlls.own_names(text) == ["cabs", "cpowf"]


def test_the_signature_of_wine_is_removed():
    data = b"MZ" + bytes(62) + b"Wine builtin DLL\0\1" + bytes(14) + b"rest"
    clean = dlls.unsigned(data)
    assert len(clean) == len(data)
    assert b"Wine" not in clean
    assert clean.endswith(b"rest")
    with pytest.raises(SetupError, match="Wine builtin DLL"):
        dlls.unsigned(clean)


def test_a_changed_source_or_runtime_builds_again(cache, monkeypatch, tmp_path):
    for name in ("a.c", "b.c"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(dlls, "SOURCES", tmp_path)
    digests = [dlls.dlls_digest(cache)]
    (tmp_path / "a.c").write_text("changed")
    digests.append(dlls.dlls_digest(cache))
    dlls.wine_runtime(cache).parent.mkdir(parents=True)
    dlls.wine_runtime(cache).write_text("another Wine")
    digests.append(dlls.dlls_digest(cache))
    cache.write_stamp("interpreter", "another")
    digests.append(dlls.dlls_digest(cache))
    assert len(set(digests)) == 4


def test_the_readme_names_every_source():
    text = (dlls.SOURCES / "README.md").read_text(encoding="utf-8")
    assert all(f"`{path.name}`" in text for path in dlls.SOURCES.glob("*.c"))
    assert dlls.SITE_FILE.name in text
    assert dlls.SITE_FILE.is_file()


# --- the machine


@pytest.mark.parametrize(
    ("system", "machine", "words"),
    [
        ("Windows", "AMD64", "this is Windows: run `python scripts/dev.py test` instead"),
        ("Darwin", "arm64", "this needs Debian or Ubuntu, and this is Darwin"),
        ("Linux", "aarch64", "this is aarch64"),
    ],
)
def test_another_system_is_refused_in_a_line(system, machine, words):
    with pytest.raises(Unavailable, match=re.escape(words)):
        host.check_system(system, machine)
    host.check_system("Linux", "x86_64")


def test_without_apt_or_without_rights_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(host.shutil, "which", lambda name: None)
    with pytest.raises(Unavailable, match=r"not installed: wine\. This system has no apt-get: install"):
        host.can_install(["wine"])
    monkeypatch.setattr(host.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(host.os, "geteuid", lambda: 1000)
    with pytest.raises(Unavailable, match=r"Run `sudo apt-get install -y --no-install-recommends wine wine64 gcc-"):
        host.can_install(["wine"])
    monkeypatch.setattr(host.os, "geteuid", lambda: 0)
    host.can_install(["wine"])


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("E: Unable to locate package wine64", "apt has no package wine, wine64, gcc-mingw-w64-x86-64-win32 here"),
        ("Err:1 http://deb\n  Temporary failure resolving 'deb'\nE: Failed to fetch", "apt does not reach its servers"),
        ("E: Could not get lock /var/lib/dpkg/lock-frontend.", "another apt is running"),
        ("E: You don't have enough free space in /var/cache/apt: not enough free space", "the disk is too full"),
        ("noise\nE: Sub-process /usr/bin/dpkg returned an error code (1)\n", "E: Sub-process /usr/bin/dpkg returned"),
        ("", "apt-get failed without output"),
    ],
)
def test_apts_failures_are_one_line(output, words):
    error = host.explain_apt(output)
    assert isinstance(error, Unavailable)
    assert words in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("Get:3 http://deb.debian.org/debian bookworm/main amd64 libwine amd64 8.0 [116 MB]", "fetching libwine"),
        ("Unpacking wine64 (8.0~repack-4) ...", "unpacking wine64"),
        ("Setting up wine64 (8.0~repack-4) ...", "setting up wine64"),
        ("Reading package lists...", ""),
    ],
)
def test_apts_lines_become_progress(line, detail):
    assert host.describe_apt(line) == detail


@pytest.mark.parametrize(
    ("output", "kind", "words"),
    [
        (
            "WARNING: Retrying (NewConnectionError)\nERROR: No matching distribution found for x==1",
            Unavailable,
            "index",
        ),
        ("ERROR: No matching distribution found for x==1", SetupError, "no x==1 for Windows: see constraints.txt"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", SetupError, "expected checksum"),
        ("OSError: [Errno 28] No space left on device", SetupError, "is full"),
        ("/usr/bin/python3: No module named pip", SetupError, "scripts/dev.py setup"),
        ("noise\nERROR: something else", SetupError, "ERROR: something else"),
        ("", SetupError, "pip failed without output"),
    ],
)
def test_pips_failures_are_one_line(cache, output, kind, words):
    error = pip_calls.explain(output, cache)
    assert type(error) is kind
    assert words in str(error)
    assert "\n" not in str(error)


def test_a_folder_that_cannot_be_created_and_a_full_disk_are_named(cache, monkeypatch):
    (cache.folder / "file").write_text("")
    with pytest.raises(SetupError, match="set HOTLAP_WINDOWS_CACHE to a folder of yours"):
        Cache(cache.folder / "file" / "inside").create()
    monkeypatch.setattr("scripts.windows.cache.NEEDED_GB", 1e9)
    with pytest.raises(SetupError, match=r"GB free at .* GB are needed"):
        cache.check_space()


# --- prefixes and programs


def test_windows_programs_get_no_variables_of_linux(cache, monkeypatch):
    for name in ("PYTHONPATH", "OPENBLAS_CORETYPE", "VIRTUAL_ENV", "HOTLAP_WINDOWS_CACHE", "WINEPREFIX", "DISPLAY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("HOTLAP_TRAINER__EPOCHS", "3")
    env = prefix.environment(cache, cache.prefix)
    assert env["WINEPREFIX"] == str(cache.prefix)
    assert env["HOME"] == str(cache.home)
    assert env["HOTLAP_TRAINER__EPOCHS"] == "3"
    assert not {"PYTHONPATH", "OPENBLAS_CORETYPE", "VIRTUAL_ENV", "HOTLAP_WINDOWS_CACHE", "DISPLAY"} & set(env)
    assert prefix.windows_path(Path("/a/b c")) == "Z:\\a\\b c"


def test_a_copied_prefix_shares_programs_and_nothing_that_programs_write(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    for name in ("system.reg", "drive_c/windows/a.dll", "drive_c/Program Files/b.exe", "drive_c/users/me/c.txt"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    (source / "dosdevices").mkdir()
    (source / "dosdevices" / "c:").symlink_to("../drive_c")
    prefix.copy_prefix(source, target)
    assert (target / "drive_c/windows/a.dll").samefile(source / "drive_c/windows/a.dll")
    assert (target / "drive_c/Program Files/b.exe").samefile(source / "drive_c/Program Files/b.exe")
    assert not (target / "system.reg").samefile(source / "system.reg")
    assert not (target / "drive_c/users/me/c.txt").samefile(source / "drive_c/users/me/c.txt")
    assert (target / "dosdevices/c:").readlink() == Path("../drive_c")


def test_links_to_the_users_folders_become_folders(tmp_path):
    users = tmp_path / "drive_c" / "users" / "me"
    users.mkdir(parents=True)
    (users / "Documents").symlink_to(tmp_path)
    prefix.replace_links(tmp_path)
    assert (users / "Documents").is_dir()
    assert not (users / "Documents").is_symlink()


@pytest.fixture
def ended(monkeypatch):
    """Return the prefixes whose processes were ended."""
    ended = []
    monkeypatch.setattr(prefix, "end_processes", lambda cache, folder: ended.append(folder.name))
    return ended


def test_a_run_ends_and_removes_its_own_prefix(cache, ended):
    (cache.prefix / "drive_c").mkdir(parents=True)
    seen = []

    def stopped():
        with prefix.prefix_of_a_run(cache) as folder:
            seen.append((folder / "drive_c").is_dir())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert seen == [True]
    assert ended == [f"run-{os.getpid()}"]
    assert list(cache.runs.iterdir()) == []
    assert cache.prefix.is_dir()


def test_what_a_killed_run_left_is_ended_and_a_live_run_is_not(cache, ended):
    for name in ("run-1", "run-2"):
        (cache.runs / name).mkdir()
        (cache.runs / f"{name}.lock").touch()
    with prefix.hold(cache.runs / "run-2.lock") as held:
        assert held
        prefix.remove_stale(cache)
    assert ended == ["run-1"]
    assert sorted(path.name for path in cache.runs.iterdir()) == ["run-2", "run-2.lock"]


@pytest.fixture
def fake_wine(cache, monkeypatch, tmp_path):
    """Linux's Python in place of `wine python.exe`."""
    script = tmp_path / "bin" / "wine"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nunset PYTHONPYCACHEPREFIX\nshift\nexec "{sys.executable}" "$@"\n')
    script.chmod(0o755)
    server = script.with_name("wineserver")
    server.write_text("#!/bin/sh\nexit 0\n")
    server.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    cache.prefix.mkdir()
    return cache


def test_a_programs_lines_and_exit_code_arrive(fake_wine, capfd):
    code = "import sys; print('out \\u00e9', sys.stdin.read()); sys.stderr.write('err'); exit(3)"
    assert program.run_python(fake_wine, ["-c", code], ROOT) == 3
    out, err = capfd.readouterr()
    assert out == "out \u00e9 \n"
    assert err == "err"
    assert list(fake_wine.runs.iterdir()) == []


def test_lines_of_both_encodings_are_read():
    assert program.decode("é\r\n".encode()) == "é\n"
    assert program.decode("é\r\n".encode("cp1252")) == "é\n"


def test_ctrl_c_ends_the_program(fake_wine, tmp_path):
    code = (
        "import sys; from scripts.windows import cli, program; from scripts.windows.cache import Cache\n"
        "import signal, pathlib; signal.signal(signal.SIGINT, cli.stop)\n"
        "program.run_python(Cache(pathlib.Path(sys.argv[1])), ['-c', 'import os, time; print(os.getpid(), flush=True); "
        "time.sleep(600)'], pathlib.Path.cwd())"
    )
    argv = [sys.executable, "-c", code, str(fake_wine.folder)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None
        pid = int(child.stdout.readline())
        child.send_signal(signal.SIGINT)
        assert child.wait(30) != 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert list(fake_wine.runs.iterdir()) == []


def test_a_steps_program_shows_progress_and_returns_its_output():
    out = io.StringIO()
    now = iter(range(0, 10_000, 11))
    progress = Progress(out, now=lambda: next(now))
    argv = [sys.executable, "-c", "import time; print('fetching x', flush=True); time.sleep(0.6); exit(4)"]
    with progress.step("packages", "packages"):
        assert run_program(argv, progress, describe=lambda line: line) == (4, "fetching x")
    assert "[windows] packages (fetching x) ... " in out.getvalue()
    assert re.search(r"\[windows\] packages: \d+\.\d s\n$", out.getvalue())
    assert progress.durations_s["packages"] > 0


# --- the command line


@pytest.mark.parametrize(
    ("argv", "arguments"),
    [
        ([], ["-m", "not slow", *SHORT]),
        (["--short", "-x"], ["-m", "not slow", *SHORT, "-x"]),
        (["tests/schemas", "-k", "rollout"], ["-m", "not slow", "tests/schemas", "-k", "rollout"]),
        (["--", "tests/schemas"], ["-m", "not slow", "tests/schemas"]),
        (["-m", "slow", "tests/schemas"], ["-m", "slow", "tests/schemas"]),
    ],
)
def test_other_arguments_go_to_pytest(argv, arguments):
    assert cli.parse(argv)[1] == ["-m", "pytest", "-o", "cache_dir=.pytest_cache/windows", *arguments]


def test_dev_py_passes_its_arguments_on():
    for rest in (["run", "--", "-m", "daemon", "--once"], ["--short", "--optional"], ["tests/schemas", "-x"], []):
        args, given = dev.parse(["windows", *rest])
        assert dev.windows(args, given) == [["-m", "scripts.windows", *rest]]


def test_run_passes_everything_after_it_to_python():
    for argv in (["run", "--", "-m", "daemon", "--short", "--"], ["run", "-m", "daemon", "--short", "--"]):
        args, arguments = cli.parse(argv)
        assert arguments == ["-m", "daemon", "--short", "--"]
        assert not args.short
    with pytest.raises(SystemExit):
        cli.parse(["run"])
    assert cli.parse(["-k", "run"])[1][-3:] == [SHORT[-1], "-k", "run"]
    args, arguments = cli.parse(["--optional", "run", "-V"])
    assert args.optional
    assert arguments == ["-V"]


@pytest.mark.parametrize(("argv", "code"), [(["--optional"], 0), ([], 1)])
def test_a_machine_that_cannot_make_it_is_one_line(cache, argv, code, monkeypatch, capsys):
    def make(*args):
        raise Unavailable("not installed: wine. Run `sudo apt-get`, then run this again")

    monkeypatch.setattr(cli, "is_complete", lambda *args: False)
    monkeypatch.setattr(cli, "make", make)
    monkeypatch.setenv("HOTLAP_WINDOWS_CACHE", str(cache.folder))
    monkeypatch.setattr(cli.signal, "signal", lambda *args: None)
    assert cli.main(argv) == code
    err = capsys.readouterr().err
    assert (
        err
        == f"[windows] {'skipped: ' if not code else ''}not installed: wine. Run `sudo apt-get`, then run this again\n"
    )


def test_a_failure_that_can_be_fixed_is_not_skipped(cache, monkeypatch, capsys):
    def make(*args):
        raise SetupError("a download does not have the expected checksum")

    monkeypatch.setattr(cli, "is_complete", lambda *args: False)
    monkeypatch.setattr(cli, "make", make)
    monkeypatch.setenv("HOTLAP_WINDOWS_CACHE", str(cache.folder))
    monkeypatch.setattr(cli.signal, "signal", lambda *args: None)
    assert cli.main(["--optional"]) == 1
    assert "[windows] a download does not have the expected checksum" in capsys.readouterr().err


def test_an_incomplete_environment_is_made_before_the_run_and_a_complete_one_is_not(cache, monkeypatch, capsys):
    complete, calls = iter([False, True, True]), []

    def make(cache, root, progress):
        calls.append("make")
        progress.durations_s["packages"] = 2.0

    def run_python(cache, arguments, cwd, console=False):
        calls.append(arguments)
        return 5

    monkeypatch.setattr(cli, "is_complete", lambda *args: next(complete))
    monkeypatch.setattr(cli, "make", make)
    monkeypatch.setattr(cli, "run_python", run_python)
    monkeypatch.setenv("HOTLAP_WINDOWS_CACHE", str(cache.folder))
    monkeypatch.setattr(cli.signal, "signal", lambda *args: None)
    assert cli.main(["run", "--", "-V"]) == 5
    assert re.search(r"environment ready: \d+\.\d GB in .*, made in 2 s\n", capsys.readouterr().out)
    assert cli.main(["run", "--", "-V"]) == 5
    assert calls == ["make", ["-V"], ["-V"]]
    assert "environment ready" not in capsys.readouterr().out


def test_clean_removes_the_cache_and_nothing_else(cache, tmp_path, progress):
    (cache.folder / "lock").touch()
    cli.clean(cache, progress)
    assert not cache.folder.exists()
    cli.clean(cache, progress)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "photo.jpg").touch()
    with pytest.raises(SetupError, match="was not made by this command"):
        cli.clean(Cache(mine), progress)
    assert (mine / "photo.jpg").exists()


def test_the_short_part_exists():
    assert all((ROOT / place.removeprefix("--deselect=")).exists() for place in SHORT)


def test_the_check_of_the_environment_names_modules_of_the_list():
    text = setup.check_script(ROOT).read_text(encoding="utf-8")
    assert '"torch"' in text
    assert "import hotlap" not in text


def test_all_modules_use_the_standard_library_only():
    known = {*sys.stdlib_module_names, "scripts", "packaging", "numpy", "_winapi"}  # the last three: on Windows Python
    for path in (ROOT / "scripts" / "windows").rglob("*.py"):
        names = re.findall(r"^\s*(?:import|from) (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(names) <= known, path.name
