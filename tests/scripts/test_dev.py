"""scripts/dev.py without a network: the stamp, the verbs, the lines it says when something is wrong."""

import ast
import io
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts import dev

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path):
    """A checkout with a space in its path and nothing installed."""
    root = tmp_path / "hot lap"
    root.mkdir()
    (root / "pyproject.toml").write_text("[project]\nname = 'hotlap'\n")
    (root / "constraints.txt").write_text("# pins\nrich==15.0.0\ntorch==2.13.0\n")
    return root


@pytest.fixture
def world(root, monkeypatch):
    """Stands in for venv, pip and the programs started: notes what is asked for, fails where told to."""
    world = SimpleNamespace(steps=[], ran=[], fail="", output="", codes={})

    def stream(argv, cwd, on_line, on_idle):
        assert cwd == root
        world.steps.append(argv[1:])
        if argv[2] == "venv":
            home = dev.Checkout(root)
            home.python.parent.mkdir(parents=True)
            home.python.touch()
            home.config.write_text("home = somewhere\nversion = 3.11.7\n")
        failed = bool(world.fail) and world.fail in argv
        well = "Installing collected packages: rich, torch, hotlap" if "-e" in argv else ""
        for line in (world.output if failed else well).splitlines():
            on_line(line)
        on_idle()
        return int(failed)

    def run(argv, cwd):
        assert cwd == root
        assert argv[0] == str(dev.Checkout(root).python)
        world.ran.append(argv[1:])
        return world.codes.get(argv[2], 0)

    monkeypatch.setattr(dev, "stream", stream)
    monkeypatch.setattr(dev, "run", run)
    monkeypatch.setattr(dev.subprocess, "call", lambda *args, **kwargs: 0)  # .venv has its pip
    return world


# --- the stamp


def test_the_first_run_installs_and_the_second_does_not(root, world, capsys):
    assert dev.main(["test"], root) == 0
    assert [step[1] for step in world.steps] == ["venv", "pip", "pip"]
    assert world.steps[1][-1] == "setuptools"
    assert world.steps[2][-3:] == ["--no-build-isolation", "-e", ".[dev]"]
    assert "constraints.txt" in world.steps[2]
    assert "installed torch 2.13.0 and 1 more" in capsys.readouterr().out

    assert dev.main(["test"], root) == 0
    assert len(world.steps) == 3
    assert capsys.readouterr().out == ""
    assert len(world.ran) == 2


def test_another_verb_adds_its_extras_and_keeps_the_others(root, world):
    dev.main(["demo"], root)
    assert world.steps[-1][-1] == "."
    dev.main(["bench"], root)
    assert world.steps[-1][-1] == ".[bench,dev]"
    asked = len(world.steps)
    for verb in ("demo", "test", "lint", "setup"):
        dev.main([verb], root)
    assert len(world.steps) == asked


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_list_installs_anew(root, world, name):
    dev.main(["setup"], root)
    (root / name).write_text((root / name).read_text() + "# changed\n")
    dev.main(["setup"], root)
    assert [step[1] for step in world.steps] == ["venv", "pip", "pip", "pip", "pip"]


def test_line_ends_alone_are_no_change(root, world):
    dev.main(["setup"], root)
    path = root / "constraints.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    dev.main(["setup"], root)
    assert len(world.steps) == 3


@pytest.mark.parametrize("stamp", ["", "{", "[]", '{"digest": 1}', '{"extras": 3, "digest": "x"}', "\0"])
def test_a_damaged_stamp_counts_as_none(root, world, stamp):
    dev.main(["setup"], root)
    dev.Checkout(root).stamp.write_text(stamp)
    assert dev.main(["setup"], root) == 0
    assert len(world.steps) == 5


def test_an_install_that_fails_leaves_no_stamp(root, world, capsys):
    dev.main(["setup"], root)
    (root / "constraints.txt").write_text("rich==1.0\n")
    world.fail, world.output = "-e", "ERROR: a wheel went missing"
    assert dev.main(["setup"], root) == 1
    assert "a wheel went missing" in capsys.readouterr().err
    assert not dev.Checkout(root).stamp.exists()
    assert dev.Checkout(root).log.read_text() == "ERROR: a wheel went missing\n"
    assert world.ran == []


def test_a_venv_whose_python_has_gone_is_made_again(root, world):
    dev.main(["setup"], root)
    dev.Checkout(root).python.unlink()
    dev.Checkout(root).python.parent.rmdir()
    assert dev.main(["setup"], root) == 0
    assert world.steps[3][:3] == ["-m", "venv", "--clear"]


def test_a_folder_that_is_no_venv_is_not_cleared(root, world):
    dev.Checkout(root).venv.mkdir()
    dev.main(["setup"], root)
    assert "--clear" not in world.steps[0]


def test_a_venv_without_pip_gets_one(root, world, monkeypatch):
    dev.main(["setup"], root)
    dev.Checkout(root).stamp.unlink()
    monkeypatch.setattr(dev.subprocess, "call", lambda *args, **kwargs: 1)
    dev.main(["setup"], root)
    assert world.steps[3][:2] == ["-m", "ensurepip"]


# --- the verbs


def test_demo_runs_twelve_cycles_in_a_folder_of_its_own(root, world):
    dev.main(["demo", "--epochs", "3"], root)
    (argv,) = world.ran
    assert argv[:6] == ["-m", "daemon", "--demo", "--cycles", "12", "--project"]
    assert re.fullmatch(r"demo/run_\d{8}_\d{6}", argv[6])
    assert (root / argv[6]).is_dir()
    assert argv[7:] == ["--epochs", "3"]


@pytest.mark.parametrize("words", [["--project", "x"], ["--project=x"]])
def test_demo_makes_no_folder_where_it_is_told_one(root, world, words):
    dev.main(["demo", *words], root)
    assert world.ran == [["-m", "daemon", "--demo", "--cycles", "12", *words]]
    assert not (root / "demo").exists()


@pytest.mark.parametrize(
    ("words", "argv"),
    [
        ([], ["-m", "not slow"]),
        (["--all"], []),
        (["-k", "gae", "-x", "tests/trainer"], ["-m", "not slow", "-k", "gae", "-x", "tests/trainer"]),
        (["tests/e2e", "--all", "-q"], ["tests/e2e", "-q"]),
        (["--", "--help"], ["-m", "not slow", "--help"]),
    ],
)
def test_test_passes_on_what_is_not_its_own(root, world, words, argv):
    dev.main(["test", *words], root)
    assert world.ran == [["-m", "pytest", *argv]]


def test_lint_runs_every_check_and_gives_the_first_failure(root, world, capsys):
    world.codes = {"mypy": 2, "ruff": 1}
    assert dev.main(["lint"], root) == 1
    assert [argv[1] for argv in world.ran[:3]] == ["ruff", "ruff", "mypy"]
    assert world.ran[1] == ["-m", "ruff", "format", "--check", "."]
    assert "lint_imports_command" in world.ran[3][1]
    assert "mypy: exit 2" in capsys.readouterr().out


def test_lint_stops_where_a_person_stops_it(root, world):
    world.codes = {"ruff": 130}
    assert dev.main(["lint"], root) == 130
    assert len(world.ran) == 1


def test_the_exit_code_of_the_child_is_ours(root, world):
    world.codes = {"daemon": 4}
    assert dev.main(["demo"], root) == 4


@pytest.mark.parametrize("words", [["lint", "-x"], ["setup", "tests"], ["paint"], []])
def test_what_makes_no_sense_is_refused_before_anything_is_installed(root, world, words, capsys):
    with pytest.raises(SystemExit) as end:
        dev.main(words, root)
    assert end.value.code == 2
    assert "dev.py: error:" in capsys.readouterr().err
    assert world.steps == []


@pytest.mark.parametrize("words", [["--help"], *([verb, "--help"] for verb in dev.VERBS)])
def test_help_teaches(words, capsys):
    with pytest.raises(SystemExit) as end:
        dev.main(words)
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in dev.VERBS) if words == ["--help"] else dev.VERBS[words[0]].epilog[:20] in shown


# --- the lines it says when something is wrong

SAID = {
    "no network": (
        "WARNING: Retrying after 'NewConnectionError(...)'\nERROR: No matching distribution found for torch==2.13.0",
        "no network",
    ),
    "disk": ("ERROR: Could not install packages: [Errno 28] No space left on device", "no room left"),
    "no venv module": ("The virtual environment was not created because ensurepip is not available.", "python3."),
    "proxy": ("SSLError(SSLCertVerificationError(1, 'certificate verify failed'))", "PIP_CERT"),
    "in use": ("ERROR: [WinError 32] The process cannot access the file", "in use or not yours"),
    "no build": ("ERROR: No matching distribution found for torch==2.13.0", "no torch==2.13.0 for Python 3."),
    "no such pin": ("The user requested (constraint) rich==1.0\nResolutionImpossible", "no rich==1.0 for Python 3."),
    "something else": ("Collecting rich\nERROR: {weather} in the data centre\nbye", "ERROR: {weather}"),
    "silence": ("", "it said nothing"),
}


@pytest.mark.parametrize(("output", "told"), SAID.values(), ids=SAID)
def test_trouble_is_told_in_one_line(root, output, told):
    line = dev.explain(output, dev.Checkout(root))
    assert told in line
    assert "\n" not in line


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_half_a_checkout_is_said_to_be_one(root, world, name, capsys):
    (root / name).unlink()
    assert dev.main(["test"], root) == 1
    assert capsys.readouterr().err == f"[test] {name} is missing in {root}: run this from a whole checkout of Hotlap\n"


def test_too_little_room_is_said_before_anything_is_written(root, world, monkeypatch, capsys):
    monkeypatch.setattr(dev.shutil, "disk_usage", lambda path: SimpleNamespace(free=0.3e9))
    assert dev.main(["test"], root) == 1
    assert "0.3 GB free" in capsys.readouterr().err
    assert not (root / ".venv").exists()


def test_an_old_venv_is_said_to_be_one(root, world, capsys):
    dev.main(["setup"], root)
    dev.Checkout(root).config.write_text("version = 3.9.2\n")
    assert dev.main(["setup"], root) == 1
    assert "too old: delete that folder" in capsys.readouterr().err


def test_an_old_python_is_told_of_a_newer_one():
    dev.check_python((3, 11))
    with pytest.raises(dev.Problem, match=r"^Python 3\.8 is too old, Hotlap needs 3\.11: run this with python3\.12$"):
        dev.check_python((3, 8), which=lambda name: name if name in {"python3.11", "python3.12"} else None)
    with pytest.raises(dev.Problem, match=r"install a newer one"):
        dev.check_python((3, 8), which=lambda name: None)


def test_an_old_python_can_read_the_script():
    ast.parse(Path(dev.__file__).read_text(encoding="utf-8"), feature_version=(3, 7))


def test_it_needs_the_standard_library_only():
    tree = ast.parse(Path(dev.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


# --- saying how far it is


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Collecting torch==2.13.0 (from hotlap==0.1.0)", "looking up torch"),
        ("  Downloading torch-2.13.0-cp311-none-win_amd64.whl (122.1 MB)", "fetching torch 2.13.0 (122.1 MB)"),
        ("Processing /a b/torch-2.13.0+cpu-cp311.whl (from hotlap==0.1.0)", ""),
        ("Processing ./wheels/torch-2.13.0+cpu-cp311.whl (from hotlap==0.1.0)", "fetching torch 2.13.0"),
        ("Installing collected packages: rich, torch, hotlap", "installing torch 2.13.0 and 1 more"),
        ("Installing collected packages: hotlap", "installing nothing but hotlap itself"),
        ("Requirement already satisfied: rich", ""),
    ],
)
def test_pip_in_a_few_words(root, line, said):
    assert dev.condense(line, dev.Checkout(root).pins()) == said


def test_progress_rewrites_one_line_on_a_terminal_and_is_sparing_elsewhere():
    class Screen(io.StringIO):
        def isatty(self):
            return True

    for out, shown in ((Screen(), 16), (io.StringIO(), 1)):
        clock = iter(x / 10 for x in range(100_000))
        progress = dev.SetupProgress(out, now=lambda clock=clock: next(clock))
        progress.doing = "fetching torch"
        for _ in range(100):
            progress.tick()
        said = out.getvalue()
        assert said.count("fetching torch") >= shown
        assert said.count("\n") == (0 if out.isatty() else said.count("fetching torch"))
    assert said.startswith("[setup] fetching torch ... ")


# --- running for real


def test_a_program_is_streamed_line_by_line(tmp_path):
    lines: list[str] = []
    code = "print('one'); import sys; print('zw\\xf6lf', file=sys.stderr); sys.exit(3)"
    assert dev.stream([sys.executable, "-c", code], tmp_path, lines.append, lambda: None) == 3
    assert sorted(lines) == ["one", "zw\xf6lf"]


def test_a_program_that_is_streamed_ends_with_us(tmp_path):
    def stop(line):
        raise KeyboardInterrupt

    began_s = time.monotonic()
    code = "import time; print('on', flush=True); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        dev.stream([sys.executable, "-c", code], tmp_path, stop, lambda: None)
    assert time.monotonic() - began_s < 20


@pytest.mark.skipif(os.name != "posix", reason="signals to one process alone are a POSIX matter")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_child_and_we_wait_for_it(tmp_path, signum):
    child = (
        "import signal, sys, time\n"
        "def tidy(*_): time.sleep(0.3); print('tidy', flush=True); sys.exit(7)\n"
        f"signal.signal({int(signum)}, tidy)\n"
        "print('up', flush=True); time.sleep(60)\n"
    )
    argv = [sys.executable, "-c", child]
    ours = f"from pathlib import Path; from scripts import dev; raise SystemExit(dev.run({argv!r}, Path()))"
    with subprocess.Popen(
        [sys.executable, "-c", ours], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signum)
        out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == (b"tidy\n", b"", 7)


@pytest.mark.skipif(os.name != "posix", reason="death by signal is a POSIX matter")
def test_death_by_signal_is_said_as_a_shell_says_it(tmp_path):
    assert dev.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], tmp_path) == 137


# --- the lists themselves


def test_every_requirement_is_pinned_within_its_range():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = {canonicalize_name(name): version for name, version in dev.Checkout(ROOT).pins().items()}
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    for requirement in map(Requirement, wanted):
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin), f"{requirement} does not admit {pin}"
    assert pins["torch"] == "2.13.0"


def test_every_extra_a_verb_asks_for_exists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {extra for verb in dev.VERBS.values() for extra in verb.extras} <= set(project["optional-dependencies"])
