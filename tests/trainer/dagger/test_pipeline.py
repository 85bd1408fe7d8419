"""Whole runs in a small world: every kind of action and picture, every bad input, and what a stop leaves behind."""

import csv
import io
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes.corridor import write_project
from trainer.dagger.messages import COLUMNS

ROOT = Path(__file__).parents[3]


def start(arguments, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "trainer", "dagger", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more,
    )  # fmt: skip


def run(arguments):
    """Run the command line to its end; give its exit code and what it said."""
    process = start(arguments)
    out, err = process.communicate(timeout=110)
    return process.returncode, out, err


def results_of(folder):
    return {r["milestone_id"]: r for r in json.loads((folder / "out" / "pipeline_results.json").read_text())}


def test_experts_become_policies(tmp_path):
    arguments = write_project(tmp_path)
    code, out, err = run([*arguments, "--jobs", "2"])
    assert (code, err) == (0, ""), out
    results = results_of(tmp_path)
    assert [(r["status"], r["expert_success_rate"], r["dagger_final_success_rate"]) for r in results.values()] == [
        ("completed", 1.0, 1.0)
    ] * 2
    assert results["A"]["max_episode_steps"] == -(-2 * results["A"]["expert_mean_steps"] // 1)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "pipeline_results.csv").read_text())))
    assert tuple(rows[0]) == COLUMNS
    assert [row["milestone_id"] for row in rows] == ["A", "B"]
    assert (tmp_path / "states" / "A_completed.state").is_file()
    for name in ("A", "B"):
        details = json.loads((tmp_path / "out" / "milestone_details" / f"{name}.json").read_text())
        assert len(details["rounds"]) == 3
        assert [(tmp_path / "out" / file).stat().st_size > 0 for file in details["models"]] == [True] * 3
        assert f"dagger_videos/{name}/rollout_iter0_ep0_{name}.mp4" in details["videos"]
        [first] = [v for v in details["videos"] if "expert_eval_ep1_success_steps" in v]
        assert (tmp_path / "out" / first).read_bytes()[4:8] == b"ftyp"
    report = (tmp_path / "out" / "report.html").read_text()
    assert "<svg" in report
    assert "src=http" not in report
    assert f'href="{first}"' in report
    code, out, _ = run(arguments)
    assert code == 0
    assert "0 milestones to do, 2 completed before" in out


def test_the_model_json_does_what_the_checkpoint_does(tmp_path):
    import numpy as np

    from trainer import load_policy

    arguments = write_project(tmp_path, milestones=(("A", None),), actions="continuous")
    assert run([*arguments, "--no-record-video"])[0] == 0
    models = tmp_path / "out" / "models" / "A"
    seen = np.array([[1.0, 0.1, 1.0], [5.0, 2.5, 1.0]], np.float32)
    by_json = load_policy(models / "dagger_A_best.json").mean(seen)
    by_checkpoint = load_policy(models / "dagger_A_best.pth").mean(seen)
    np.testing.assert_allclose(by_json, by_checkpoint, atol=1e-5)
    np.testing.assert_allclose(by_json, 0.5, atol=0.2)  # the expert's 2 of [-4, 4], in units
    assert not (tmp_path / "out" / "dagger_videos").exists()


def test_pictures_are_learned_from_too(tmp_path):
    arguments = write_project(tmp_path, milestones=(("A", None),), pixels=True)
    code, out, _ = run([*arguments, "--no-cuda"])
    assert code == 0, out
    assert results_of(tmp_path)["A"]["dagger_final_success_rate"] == 1.0
    assert sorted(p.name for p in (tmp_path / "out" / "models" / "A").iterdir()) == [
        "dagger_A_best.pth",
        "dagger_A_final.pth",
    ]


def test_one_bad_milestone_costs_that_milestone(tmp_path):
    """One weak, hung, killed, one whose start nobody makes, one whose start is torn: the good one is done."""
    experts = {
        "WEAK": "def run(state):\n    return 'LEFT'\n",
        "HANGS": "import time\ndef run(state):\n    time.sleep(60)\n",
        "KILLS": "import os\ndef run(state):\n    os.kill(os.getppid(), 9)\n",
    }
    names = (("GOOD", None), ("WEAK", None), ("HANGS", None), ("KILLS", None), ("AFTER", "WEAK"), ("TORN", "SAVED"))
    arguments = write_project(tmp_path, milestones=names, experts=experts)
    (tmp_path / "states").mkdir()
    (tmp_path / "states" / "SAVED_completed.state").write_bytes(b'{"x": ')
    arguments += ["--no-record-video", "--expert-timeout", "3"]
    code, _, err = run([*arguments, "--jobs", "2"])
    assert (code, err) == (1, "")
    results = results_of(tmp_path)
    assert {name: r["status"] for name, r in results.items()} == {
        "GOOD": "completed", "WEAK": "failed", "HANGS": "failed", "KILLS": "failed", "AFTER": "failed",
        "TORN": "failed",
    }  # fmt: skip

    reasons = {name: r["reason"] for name, r in results.items()}
    assert "the expert's success rate is 0.00, below 0.60" in reasons["WEAK"]
    assert results["WEAK"]["expert_success_rate"] == 0.0
    assert "no answer within 3 s" in reasons["HANGS"]
    assert "its process ended with signal 9 -> see logs/KILLS.log" in reasons["KILLS"]
    assert "is not there, and WEAK is not done" in reasons["AFTER"]
    assert "TORN" not in reasons["TORN"]
    assert "SAVED_completed.state: the start state cannot be loaded" in reasons["TORN"]
    assert all("\n" not in reason for reason in reasons.values())
    # Mended, the same command does what is left.
    (tmp_path / "policies" / "WEAK.py").write_text("def run(state):\n    return 'RIGHT'\n")
    assert run([*arguments, "--skip-milestones", "HANGS", "KILLS", "TORN"])[0] == 0
    assert [results_of(tmp_path)[n]["status"] for n in ("WEAK", "AFTER", "HANGS")] == [
        "completed", "completed", "skipped",
    ]  # fmt: skip


def test_a_start_state_that_is_gone_is_made_again_the_same(tmp_path):
    arguments = [*write_project(tmp_path), "--no-record-video"]
    assert run([*arguments, "--milestone", "A"])[0] == 0
    state = tmp_path / "states" / "A_completed.state"
    before = state.read_bytes()
    state.unlink()
    assert run([*arguments, "--resume-from", "B"])[0] == 0
    assert state.read_bytes() == before


BAD_LINES = {
    "unknown milestone": (["--milestone", "X"], "--milestone X: there is no such milestone -> one of A, B"),
    "no config": (["--milestone-config", "none.json"], "--milestone-config none.json: there is no such file"),
    "no experts": (["--expert-dir", "none"], "the folder of experts none does not exist"),
    "a bad number": (["--dagger-iterations", "0"], "--dagger-iterations 0: Input should be greater"),
    "no jobs": (["--jobs", "0"], "--jobs 0, but must be at least 1"),
}


@pytest.mark.parametrize(("more", "says"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_command_line_is_one_line(tmp_path, monkeypatch, capsys, more, says):
    from trainer.dagger.cli import main

    monkeypatch.chdir(tmp_path)
    assert main([*write_project(tmp_path), *more]) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_the_old_name_is_the_same_program(tmp_path):
    command = [sys.executable, "scripts/auto_dagger_pipeline.py", *write_project(tmp_path), "--milestone", "X"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: --milestone X: there is no such milestone -> one of A, B [E_CONFIG]\n"


def test_two_pipelines_in_one_folder_are_refused(tmp_path, capsys):
    from schemas.storage.file_lock import try_acquire
    from trainer.dagger.cli import main

    file, _ = try_acquire(tmp_path / "out" / ".lock")
    with file:
        assert main(write_project(tmp_path)) == 2
    assert f"another pipeline (pid {os.getpid()}) works in" in capsys.readouterr().err


def everything(folder):
    """What a run decided: results, curves and models, without clocks."""
    out = folder / "out"
    results = [{k: v for k, v in r.items() if k != "timestamp"} for r in results_of(folder).values()]
    details = {}
    for path in sorted((out / "milestone_details").iterdir()):
        document = json.loads(path.read_text())
        details[path.name] = [{k: v for k, v in r.items() if "seconds" not in k} for r in document["rounds"]]
    models = {path.name: json.loads(path.read_bytes()) for path in out.rglob("*_best.json")}
    states = {path.name: path.read_bytes() for path in (folder / "states").iterdir()}
    videos = sorted(str(path.relative_to(out)) for path in out.rglob("*.mp4"))
    return results, details, models, states, videos


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="kill -9 and what it leaves are tried on POSIX")
def test_killed_at_ten_moments_it_ends_as_if_it_had_not_been(tmp_path):
    """Kill -9 a moment after a line of the log, ten times; then let it end and compare everything."""
    (tmp_path / "straight").mkdir()
    (tmp_path / "killed").mkdir()
    rounds = ["--dagger-iterations", "20"]
    assert run([*write_project(tmp_path / "straight"), *rounds])[0] == 0
    arguments, rng, kills = [*write_project(tmp_path / "killed"), *rounds], random.Random(6), 0
    for _ in range(10):
        process = start(arguments)
        assert process.stdout is not None
        for _ in range(rng.randint(1, 3)):
            process.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.2))
        kills += process.poll() is None
        process.kill()  # the pipeline alone: its workers must notice by themselves
        process.communicate()
    assert kills >= 5, "it must really have been killed"
    assert run(arguments)[0] == 0
    assert everything(tmp_path / "killed") == everything(tmp_path / "straight")


def test_a_worker_in_which_nothing_happens_is_ended(tmp_path, monkeypatch, capsys):
    from trainer.dagger import pipeline
    from trainer.dagger.cli import main

    monkeypatch.setattr(pipeline, "_WORKER", ("-c", "import time; time.sleep(60)"))
    assert main([*write_project(tmp_path, milestones=(("A", None),)), "--stall-timeout", "0.2"]) == 1
    assert "nothing happened for 0.2 s: its environment hangs" in results_of(tmp_path)["A"]["reason"]
    capsys.readouterr()
