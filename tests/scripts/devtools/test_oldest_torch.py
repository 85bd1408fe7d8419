"""Whether the oldest torch is offered without CUDA, and what is run with it."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts import dev
from scripts.devtools import oldest_torch as module
from scripts.devtools.checkout import Checkout
from scripts.devtools.oldest_torch import TESTS, judge, oldest_torch

ROOT = Path(__file__).resolve().parents[3]
NO_BUILD = "ERROR: Could not find a version\nERROR: No matching distribution found for torch==2.4"
NO_NETWORK = f"WARNING: Retrying after connection broken by NewConnectionError\n{NO_BUILD}"


def report(*packages):
    names = (package.split() for package in packages)
    return json.dumps({"install": [{"metadata": {"name": name, "version": version}} for name, version in names]})


def test_the_oldest_torch_is_read_from_pyproject(root):
    assert oldest_torch(root) == "2.4"
    assert oldest_torch(ROOT).startswith("2.")


@pytest.mark.parametrize(
    ("code", "text", "reason"),
    [
        (0, report("torch 2.4.0+cpu", "sympy 1.14"), ""),
        (0, report("torch 2.4.0", "mkl 2021.4.0", "intel-openmp 2021.4.0"), ""),
        (0, report("torch 2.4.0", "nvidia-cublas-cu12 12.1", "triton 3.0.0"), "needs nvidia-cublas-cu12 12.1"),
        (0, report("torch 2.4.0+cu118", "sympy 1.14"), "needs torch 2.4.0+cu118"),
        (1, NO_BUILD, "has no torch 2.4 for this Python"),
        (1, "ERROR: Cannot install torch==2.4\nERROR: ResolutionImpossible: for help", "has no torch 2.4"),
    ],
)
def test_a_build_with_cuda_is_not_a_cpu_build(code, text, reason):
    offer = judge(code, text, "2.4")
    assert offer.has_cpu_build == (not reason)
    assert reason in offer.reason


@pytest.fixture
def index(monkeypatch):
    """Replace pip's question to the index and the tests' program."""
    index = SimpleNamespace(code=0, out=report("torch 2.4.0+cpu"), err="", ran=[], asked=[])

    def ask(argv, **kwargs):
        index.asked.append(argv)
        return SimpleNamespace(returncode=index.code, stdout=index.out.encode(), stderr=index.err.encode())

    def run(argv, cwd):
        index.ran.append(argv)
        return 5

    monkeypatch.setattr(module.subprocess, "run", ask)
    monkeypatch.setattr(module, "run", run)
    return index


def test_a_cpu_build_is_installed_once_and_tested(root, fakes, index):
    assert dev.main(["oldest-torch", "-x"], root) == 5
    assert index.asked[0][-1] == "torch==2.4"
    assert "--dry-run" in index.asked[0]
    assert fakes.steps[-1][-2:] == [".[dev]", "torch==2.4"]
    checkout = Checkout(root, ".venv-oldest-torch")
    assert (checkout.venv / "constraints.txt").read_text() == "# pins\nrich==15.0.0\n", "torch is not pinned"
    assert fakes.steps[-1][fakes.steps[-1].index("-c") + 1] == str(checkout.venv / "constraints.txt")
    [argv] = index.ran
    assert argv[0] == str(checkout.python)
    assert argv[-len(TESTS) - 1 :] == [*TESTS, "-x"]
    assert all((ROOT / folder).is_dir() for folder in TESTS)

    steps = len(fakes.steps)
    assert dev.main(["oldest-torch"], root) == 5
    assert (len(index.asked), len(fakes.steps)) == (1, steps)


def test_without_a_cpu_build_one_line_says_so_and_the_exit_code_is_0(root, fakes, index, capsys):
    index.out = report("torch 2.4.0", "nvidia-nccl-cu12 2.20.5")
    assert dev.main(["oldest-torch"], root) == 0
    assert "[oldest-torch] no CPU build of torch 2.4 on this index: skipped (" in capsys.readouterr().out
    assert [step[1] for step in fakes.steps] == ["venv"]
    assert index.ran == []


@pytest.mark.parametrize(
    ("err", "message"),
    [(NO_NETWORK, "the package index did not answer"), ("ERROR: {weather}", "ERROR: {weather}")],
)
def test_an_index_that_does_not_answer_is_a_failure(root, fakes, index, capsys, err, message):
    index.code, index.err = 1, err
    assert dev.main(["oldest-torch"], root) == 1
    assert message in capsys.readouterr().err
    assert index.ran == []


def test_a_range_without_an_oldest_torch_is_reported(root, fakes, index, capsys):
    (root / "pyproject.toml").write_text("[project]\ndependencies = ['torch']\n")
    assert dev.main(["oldest-torch"], root) == 1
    assert "write it as torch>=VERSION" in capsys.readouterr().err
