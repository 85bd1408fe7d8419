"""The trainer's commands, by real processes on the sample rollouts, and the scripts with the old names."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch

from schemas import __version__
from schemas.errors import ModelError
from schemas.model import check_probe, read_model
from tests.platforms import needs_posix
from trainer import load_policy
from trainer.checkpoint_cli import find_and_export, find_best
from trainer.checkpoints.checkpoint import checkpoint_from, load_document
from trainer.cli import main
from trainer.programs import PROGRAMS
from trainer.train_cli import main as train_main

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "tests" / "data" / "rollouts"


def run(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=100, check=False
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    done = run("-m", "trainer", SAMPLES, folder, 3, "cpu")
    assert done.returncode == 0, done.stderr
    return folder, done


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_train_writes_the_files_of_the_formats_page(trained):
    folder, done = trained
    best = orjson.loads((folder / "model_analysis.json").read_bytes())["best_epoch"]
    expected = {f"model_epoch_{k}.pt" for k in (1, 2, 3)} | {f"model_epoch_{best}.json", "model_analysis.json"}
    assert set(names(folder)) == expected
    assert check_probe(read_model((folder / f"model_epoch_{best}.json").read_bytes())) < 1e-5
    assert "epoch 3/3: value_loss" in done.stdout
    assert f"best: epoch {best}" in done.stdout


def called(capsys, function, *arguments):
    """Call a program in this process; return its exit code and output."""
    code = function([str(a) for a in arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_training_continues_from_the_last_best_epoch_and_removes_old_files(tmp_path, capsys):
    runs = [called(capsys, main, SAMPLES, tmp_path, *rest) for rest in ((3, "cpu"), (2, "cpu"), (2, "cpu", "--fresh"))]
    assert [code for code, _, _ in runs] == [0, 0, 0]
    outputs = [out for _, out, _ in runs]
    assert "a new network" in outputs[0]
    assert "continuing from model_epoch_" in outputs[1]
    assert "a new network" in outputs[2]
    assert [n for n in names(tmp_path) if n.endswith(".pt")] == ["model_epoch_1.pt", "model_epoch_2.pt"]
    assert len([n for n in names(tmp_path) if n.endswith(".json")]) == 2


def test_the_script_with_the_same_seed_writes_the_same_bytes(trained, tmp_path):
    folder, _ = trained
    assert run(ROOT / "scripts" / "train_pytorch.py", SAMPLES, tmp_path, 3, "cpu", cwd=tmp_path).returncode == 0
    assert names(tmp_path) == names(folder)
    assert all((tmp_path / name).read_bytes() == (folder / name).read_bytes() for name in names(folder))


FAILURES = {
    "no folder": (["nowhere", "out"], 3, "the folder nowhere does not exist"),
    "a mistyped command with a word": (["onlin", "CartPole-v1"], 3, "did you mean the command online?"),
    "no rollouts": ([".", "out"], 3, ". does not contain a rollout"),
    "a device that is none": ([SAMPLES, "out", "1", "abacus"], 78, "use auto, cpu or cuda"),
    "no epochs": ([SAMPLES, "out", "0"], 78, "EPOCHS is 0, but must be a whole number from 1 to 1000"),
    "a config that is not there": (
        [SAMPLES, "out", "--config", "no.toml"],
        78,
        "no.toml does not exist -> correct --config",
    ),
}


@pytest.mark.parametrize(("arguments", "code", "words"), FAILURES.values(), ids=FAILURES)
def test_a_failure_is_reported_in_one_line(tmp_path, monkeypatch, capsys, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    exit_code, _, err = called(capsys, main, *arguments)
    assert exit_code == code
    assert words in err
    assert len(err.splitlines()) == 1


def test_without_arguments_the_help_is_printed(capsys):
    assert main([]) == 2
    assert "usage: python -m trainer" in capsys.readouterr().err


def exited(capsys, *arguments):
    """Call a program that raises SystemExit; return its exit code and output."""
    with pytest.raises(SystemExit) as error:
        main(arguments)
    printed = capsys.readouterr()
    return error.value.code, printed.out, printed.err


def test_help_names_every_command(capsys):
    code, out, _ = exited(capsys, "--help")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines() if line.startswith("    ")} >= set(PROGRAMS)
    assert "EXPORT_DIR MODEL_DIR [EPOCHS] [DEVICE]" in out
    assert "HOTLAP_TRAINER__GAMMA" in exited(capsys, "train", "--help")[1]


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_command_has_its_own_help_and_version(capsys, name):
    code, out, _ = exited(capsys, name, "--help")
    assert (code, out.startswith(f"usage: python -m trainer {name} ")) == (0, True)
    assert exited(capsys, "--from-hotlap", name, "--help")[1].startswith(f"usage: hotlap {name} ")
    assert exited(capsys, name, "--version")[:2] == (0, f"hotlap {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [(["onlin"], "online"), (["onlin", "--env", "CartPole-v1"], "online"), (["find_best"], "find-best")],
    ids=str,
)
def test_a_mistyped_command_is_answered_with_the_nearest_one(capsys, arguments, suggestion):
    code, _, err = exited(capsys, *arguments)
    assert (code, len(err.splitlines())) == (2, 1)
    assert (
        f"the command {arguments[0]} does not exist -> did you mean `{sys.executable} -m trainer {suggestion}`?" in err
    )


def test_flags_can_be_before_the_folders(capsys, tmp_path):
    assert called(capsys, main, "--seed", "1", SAMPLES, tmp_path, "1", "cpu")[0] == 0


def test_one_folder_is_not_a_command(capsys, tmp_path):
    assert "required: MODEL_DIR" in exited(capsys, str(tmp_path))[2]


def test_importing_the_package_does_not_import_torch():
    done = run(
        "-c",
        "import sys, trainer; assert 'torch' not in sys.modules; trainer.load_policy; print('torch' in sys.modules)",
    )
    assert done.stdout.strip() == "True"


@needs_posix("SIGINT of another process")
@pytest.mark.parametrize("program", ["train", "online", "dagger"])
def test_ctrl_c_while_modules_are_imported_ends_without_a_traceback(tmp_path, program):
    (tmp_path / "numpy.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "trainer", program, "in", "out"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (-signal.SIGINT, "")


def test_load_policy_returns_the_same_policy_for_both_files(trained):
    folder, _ = trained
    model = next(folder.glob("model_epoch_*.json"))
    x = np.random.default_rng(0).normal(size=(100, 15)).astype(np.float32)
    one, two = load_policy(model), load_policy(model.with_suffix(".pt"))
    np.testing.assert_allclose(one.mean(x), two.mean(x), atol=1e-5)
    np.testing.assert_allclose(one.value(x), two.value(x), rtol=1e-5, atol=1e-5)
    other = folder.parent / "a.txt"
    other.write_text("x")
    with pytest.raises(ModelError, match=r"neither \.pt, \.pth nor \.json"):
        load_policy(other)


def foreign(path, losses, *, name="value_loss", extra=None):
    """Return a checkpoint of another script."""
    sizes = [(15, 8), (8, 8)]
    state = {}
    for kind, outputs in (("policy", 3), ("value", 1)):
        for i, (inputs, size) in enumerate(sizes):
            state[f"{kind}_layers.{2 * i}.weight"], state[f"{kind}_layers.{2 * i}.bias"] = (
                torch.randn(size, inputs),
                torch.randn(size),
            )
        state[f"{kind}_head.weight"], state[f"{kind}_head.bias"] = torch.randn(outputs, 8), torch.randn(outputs)
    document = {"policy_state_dict": state, "optimizer_state_dict": {}, "training_history": {name: losses}}
    torch.save(document | (extra or {}), path)


def test_files_of_other_programs_are_moved_and_not_replaced(tmp_path):
    foreign(tmp_path / "model_epoch_2.pt", [0.9, 0.3])
    theirs = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    theirs |= {"model_epoch_2.json": b"theirs", "model_analysis.json": b'{"theirs": 1}', "model_best.pt": b"best"}
    for name, data in theirs.items():
        (tmp_path / name).write_bytes(data)
    assert find_and_export([str(tmp_path), str(SAMPLES)]) == 0
    kept = {path.name: path.read_bytes() for folder in tmp_path.glob("before_hotlap_*") for path in folder.iterdir()}
    assert kept == {name: theirs[name] for name in ("model_epoch_2.json", "model_analysis.json")}
    assert train_main([str(SAMPLES), str(tmp_path), "1", "cpu", "--fresh"]) == 0
    kept = {path.name: path.read_bytes() for folder in tmp_path.glob("before_hotlap_*") for path in folder.iterdir()}
    assert kept == {name: data for name, data in theirs.items() if name != "model_best.pt"}
    assert (tmp_path / "model_best.pt").read_bytes() == b"best"
    assert train_main([str(SAMPLES), str(tmp_path), "1", "cpu"]) == 0  # Hotlap's own files are replaced as before
    assert len(list(tmp_path.glob("before_hotlap_*"))) == 3


def test_checkpoints_of_other_scripts_are_ranked_and_exported(tmp_path):
    foreign(tmp_path / "model_epoch_1.pt", [0.9])
    foreign(tmp_path / "model_epoch_2.pt", [0.9, 0.3], name="critic_loss")
    foreign(tmp_path / "model_epoch_3.pt", [0.9, 0.3, float("nan")])
    (tmp_path / "model_epoch_4.pt").write_bytes(b"torn")
    done = run(ROOT / "scripts" / "find_and_export_best_model.py", tmp_path, SAMPLES)
    assert done.returncode == 0, done.stderr
    expected = (tmp_path / "model_epoch_2.json").resolve().as_posix()
    assert done.stdout == expected + "\n"
    assert (tmp_path / "best_model_path.txt").read_bytes() == expected.encode()
    model = read_model(Path(expected).read_bytes())
    assert model.hidden_sizes == (8, 8)
    assert check_probe(model) < 1e-4
    assert "model_epoch_4.pt cannot be loaded" in done.stderr


def test_ranking_by_history_and_by_evaluation(trained, capsys):
    folder, _ = trained
    code, by_history, _ = called(capsys, find_best, "--model-dir", folder)
    assert (code, len(by_history.splitlines())) == (0, 3)
    test_set = ("--export-dir", SAMPLES, "--evaluate", "--test-split", "0.5")
    code, measured, _ = called(capsys, find_best, "--model-dir", folder, *test_set)
    assert (code, len(measured.splitlines())) == (0, 3)
    assert by_history != measured
    code, _, err = called(capsys, find_best, "--model-dir", folder / "no")
    assert (code, len(err.splitlines())) == (65, 1)


def test_the_script_ranks_too(trained):
    assert run(ROOT / "scripts" / "find_best_model.py", "--model-dir", trained[0]).returncode == 0


def test_one_checkpoint_is_converted(trained, tmp_path):
    folder, _ = trained
    target = tmp_path / "x.json"
    assert run(ROOT / "scripts" / "export_model_for_unreal.py", folder / "model_epoch_2.pt", target).returncode == 0
    assert read_model(target.read_bytes()).lineage.epoch == 2


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_code_in_a_checkpoint_is_not_executed(tmp_path, capsys):
    path = tmp_path / "model_epoch_1.pt"
    torch.save({"policy_state_dict": {}, "optimizer_state_dict": {}, "training_history": Evil()}, path)
    with pytest.raises(ModelError, match="cannot be loaded") as error:
        load_document(path.read_bytes())
    assert error.value.code == "E_CHECKPOINT"
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [{}, [1, 2], {"policy_state_dict": {}}], ids=str)
def test_a_dict_without_the_keys_is_not_a_checkpoint(tmp_path, content):
    path = tmp_path / "x.pt"
    torch.save(content, path)
    with pytest.raises(ModelError, match=r"does not contain (policy|optimizer)_state_dict"):
        checkpoint_from(load_document(path.read_bytes()))


def test_a_checkpoint_that_does_not_exist_is_not_a_bug(capsys):
    code, _, err = called(capsys, main, "export", "none.pt", "out.json")
    assert (code, "the checkpoint none.pt does not exist" in err, "E_MODEL" in err) == (65, True, True)
