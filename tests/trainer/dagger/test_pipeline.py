"""Whole runs in a small environment: every kind of action and observation, bad inputs, and interrupted runs."""

import csv
import io
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes.corridor import write_project
from tests.faults.support.children import is_gone
from tests.platforms import make_link
from trainer.dagger.results import COLUMNS

ROOT = Path(__file__).parents[3]


def start(arguments, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "trainer", "dagger", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more,
    )  # fmt: skip


def run(arguments):
    """Run the command line to its end, and return its exit code and output."""
    process = start(arguments)
    out, err = process.communicate(timeout=110)
    return process.returncode, out, err


def results_of(folder):
    return {r["milestone_id"]: r for r in json.loads((folder / "out" / "pipeline_results.json").read_text())}


def test_experts_become_policies(tmp_path):
    pytest.importorskip("av", reason="needs the extra `video`")
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


def test_model_json_computes_what_the_checkpoint_computes(tmp_path):
    import numpy as np

    from trainer import load_policy

    arguments = write_project(tmp_path, milestones=(("A", None),), actions="continuous")
    assert run([*arguments, "--no-record-video"])[0] == 0
    models = tmp_path / "out" / "models" / "A"
    observations = np.array([[1.0, 0.1, 1.0], [5.0, 2.5, 1.0]], np.float32)
    by_json = load_policy(models / "dagger_A_best.json").mean(observations)
    by_checkpoint = load_policy(models / "dagger_A_best.pth").mean(observations)
    np.testing.assert_allclose(by_json, by_checkpoint, atol=1e-5)
    np.testing.assert_allclose(by_json, 0.5, atol=0.2)  # the expert's 2 of [-4, 4], normalised
    assert not (tmp_path / "out" / "dagger_videos").exists()


def test_policies_learn_from_images(tmp_path):
    arguments = write_project(tmp_path, milestones=(("A", None),), pixels=True)
    code, out, _ = run([*arguments, "--no-cuda"])
    assert code == 0, out
    assert results_of(tmp_path)["A"]["dagger_final_success_rate"] == 1.0
    assert sorted(p.name for p in (tmp_path / "out" / "models" / "A").iterdir()) == [
        "dagger_A_best.pth",
        "dagger_A_final.pth",
    ]


def test_a_bad_milestone_fails_and_the_others_are_trained(tmp_path):
    """A weak expert, one that hangs, one that kills its worker, a start state that is missing or damaged."""
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
    assert "run() did not return within 3 s" in reasons["HANGS"]
    assert re.search(r"ended with (signal 9 \(SIGKILL\)|exit code 9) -> see logs/KILLS.log", reasons["KILLS"])
    assert "WEAK_completed.state does not exist, and WEAK is not completed -> complete WEAK first" in reasons["AFTER"]
    assert "TORN" not in reasons["TORN"]
    assert "SAVED_completed.state: the start state cannot be loaded" in reasons["TORN"]
    assert all("\n" not in reason for reason in reasons.values())
    # After the expert is corrected, the same command trains what is left.
    (tmp_path / "policies" / "WEAK.py").write_text("def run(state):\n    return 'RIGHT'\n")
    assert run([*arguments, "--skip-milestones", "HANGS", "KILLS", "TORN"])[0] == 0
    assert [results_of(tmp_path)[n]["status"] for n in ("WEAK", "AFTER", "HANGS")] == [
        "completed", "completed", "skipped",
    ]  # fmt: skip


def test_a_removed_start_state_is_made_again_with_the_same_content(tmp_path):
    arguments = [*write_project(tmp_path), "--no-record-video"]
    assert run([*arguments, "--milestone", "A"])[0] == 0
    state = tmp_path / "states" / "A_completed.state"
    before = state.read_bytes()
    state.unlink()
    assert run([*arguments, "--resume-from", "B"])[0] == 0
    assert state.read_bytes() == before


BAD_LINES = {
    "unknown milestone": (
        ["--milestone", "X"],
        "--milestone X: the config does not have this milestone -> its ids are A, B",
    ),
    "no config": (
        ["--milestone-config", "none.json"],
        "--milestone-config none.json: neither a file nor a config of Hotlap has this name",
    ),
    "no experts": (["--expert-dir", "none"], "the folder of the experts, none, does not exist"),
    "a bad number": (
        ["--dagger-iterations", "0"],
        "--dagger-iterations is 0, but must be a whole number, at least 1 -> see --help",
    ),
    "a rate above 1": (["--beta-start", "2"], "--beta-start is 2.0, but must be a number from 0 to 1 -> see --help"),
    "no time": (["--stall-timeout", "0"], "--stall-timeout is 0, but must be above 0 -> see --help"),
    "no jobs": (["--jobs", "0"], "--jobs is 0, but must be at least 1"),
}


@pytest.mark.parametrize(("more", "message"), BAD_LINES.values(), ids=BAD_LINES)
def test_bad_command_line_is_reported_in_one_line(tmp_path, monkeypatch, capsys, more, message):
    from trainer.dagger.cli import main

    monkeypatch.chdir(tmp_path)
    assert main([*write_project(tmp_path), "--no-record-video", *more]) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert output.err.count("\n") == 1
    assert output.out == ""


def test_older_script_name_runs_the_same_program(tmp_path):
    command = [sys.executable, "scripts/auto_dagger_pipeline.py", *write_project(tmp_path), "--no-record-video"]
    command += ["--milestone", "X"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert (
        done.stderr == "error: --milestone X: the config does not have this milestone -> its ids are A, B [E_CONFIG]\n"
    )


def test_a_second_pipeline_in_the_same_folder_is_rejected(tmp_path, capsys):
    from schemas.storage.file_lock import try_acquire
    from trainer.dagger.cli import main

    file, _ = try_acquire(tmp_path / "out" / ".lock")
    with file:
        assert main(write_project(tmp_path)) == 2
    assert f"another pipeline (pid {os.getpid()}) uses" in capsys.readouterr().err


def outcome(folder):
    """Return what a run decided, without times: results, rounds, models, states, names of videos."""
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
def test_a_run_that_is_killed_ten_times_ends_with_the_same_outcome(tmp_path):
    """Kill -9 shortly after a line of output, ten times; then let it end, and compare all of it."""
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
    assert kills >= 5, "most of the ten must have been killed while they ran"
    assert run(arguments)[0] == 0
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "straight")


def test_a_worker_without_progress_is_ended(tmp_path, monkeypatch, capsys):
    from trainer.dagger import pipeline
    from trainer.dagger.cli import main

    monkeypatch.setattr(pipeline, "_WORKER", ("-c", "import time; time.sleep(60)"))
    assert main([*write_project(tmp_path, milestones=(("A", None),)), "--stall-timeout", "0.2"]) == 1
    assert "it made no progress for 0.2 s: its environment hangs" in results_of(tmp_path)["A"]["reason"]
    capsys.readouterr()


FAILS = """
import sys
from pathlib import Path
tries = Path(sys.argv[1])
tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
sys.exit(7)
"""


def with_keys(folder, milestone=None, **keys):
    """Add keys to the config that `write_project` wrote, and to its first milestone."""
    config = json.loads((folder / "config.json").read_text())
    config["milestones"][0].update(milestone or {})
    (folder / "config.json").write_text(json.dumps({**config, **keys}))


def test_a_failed_milestone_is_tried_again_and_then_the_run_stops_if_the_config_says_so(tmp_path, monkeypatch, capsys):
    from trainer.dagger import pipeline
    from trainer.dagger.cli import main

    monkeypatch.setattr(pipeline, "_WORKER", ("-c", FAILS, str(tmp_path / "tries")))
    arguments = write_project(tmp_path, milestones=(("A", None), ("B", None), ("C", "B")))
    with_keys(tmp_path, {"max_retries": 2}, stop_on_failure=True)
    assert main(arguments) == 1
    assert (tmp_path / "tries").read_text() == "xxx", "one try and two more"
    shown = capsys.readouterr().out
    assert "A: try 1 of 3 failed: its process ended with exit code 7" in shown
    assert "A: try 2 of 3 failed: " in shown
    results = results_of(tmp_path)
    assert [results[name]["status"] for name in "ABC"] == ["failed", "skipped", "skipped"]
    assert results["C"]["reason"] == "not started, because A failed and the config has stop_on_failure"


def test_a_milestone_that_takes_longer_than_its_timeout_is_ended(tmp_path, monkeypatch, capsys):
    from trainer.dagger import pipeline
    from trainer.dagger.cli import main

    sends = 'import time\nwhile True: print(\'{"event":"activity"}\', flush=True); time.sleep(0.05)'
    monkeypatch.setattr(pipeline, "_WORKER", ("-c", sends))
    arguments = write_project(tmp_path, milestones=(("A", None),))
    with_keys(tmp_path, {"timeout": 1})
    assert main(arguments) == 1
    reason = results_of(tmp_path)["A"]["reason"]
    assert reason == "it took longer than its timeout in the config, 1 s -> raise it; see logs/A.log"
    capsys.readouterr()


def test_a_config_without_env_needs_the_flag(tmp_path, capsys):
    from trainer.dagger import cli

    arguments = write_project(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    name = config.pop("env")
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-16")
    assert cli.main(arguments) == 2
    assert 'does not name the environment -> use --env NAME, or add it to the file: "env": ' in capsys.readouterr().err
    assert cli._options(cli.parser("hotlap dagger").parse_args([*arguments, "--env", name])).config.env == name


def test_milestones_in_a_circle_are_refused_before_anything_starts(tmp_path, capsys):
    from trainer.dagger.cli import main

    assert main(write_project(tmp_path, milestones=(("A", "B"), ("B", "A")))) == 2
    shown = capsys.readouterr()
    assert "milestones wait for each other: A starts from the end of B starts from the end of A" in shown.err
    assert shown.out == ""


def test_milestones_that_nothing_makes_possible_fail_with_that_reason(tmp_path, monkeypatch, capsys):
    from trainer.dagger import pipeline
    from trainer.dagger.cli import main

    monkeypatch.setattr(pipeline, "can_start", lambda *_: False)
    assert main(write_project(tmp_path, milestones=(("A", None), ("B", "A")))) == 1
    reasons = {name: result["reason"] for name, result in results_of(tmp_path).items()}
    assert reasons["B"] == "it cannot start: nothing that runs will make A_completed.state -> save it in --state-dir"
    assert len(reasons) == 2
    capsys.readouterr()


STARTS_PROCESSES = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from tests.fakes.trainer import start_descendants
start_descendants(Path(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("last_line", "stall_timeout_s", "reason"),
    [
        ("import time; time.sleep(3600)", "2", "it made no progress for 2 s"),
        ("sys.exit(7)", "3600", "its process ended with exit code 7"),
    ],
    ids=["stalled", "ended by itself"],
)
def test_processes_of_a_failed_milestones_environment_are_ended(
    tmp_path, monkeypatch, capsys, last_line, stall_timeout_s, reason
):
    """A child in the same session, one in its own, and a double fork: each keeps the worker's output open."""
    from trainer.dagger import pipeline
    from trainer.dagger.cli import main

    pids = tmp_path / "pids"
    pids.touch()
    monkeypatch.setattr(pipeline, "_WORKER", ("-c", STARTS_PROCESSES + last_line, str(pids)))
    arguments = write_project(tmp_path, milestones=(("A", None),))
    assert main([*arguments, "--stall-timeout", stall_timeout_s]) == 1
    assert reason in results_of(tmp_path)["A"]["reason"]
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == 4
    assert [pid for pid in started if not is_gone(pid)] == []
    capsys.readouterr()


def test_a_changed_flag_asks_for_fresh_which_keeps_the_labels(tmp_path):
    arguments = [*write_project(tmp_path, milestones=(("A", None),)), "--no-record-video"]
    assert run(arguments)[0] == 0
    out = tmp_path / "out"
    labels = sorted(path.read_bytes() for path in (out / "work" / "A" / "data").rglob("*.npy"))
    code, shown, _ = run([*arguments, "--batch-size", "8"])
    assert code == 0
    assert (
        "A: completed before with other settings: now --batch-size 8 instead of 16 -> --fresh trains it again" in shown
    )
    (out / "pipeline_state.json").unlink()  # so that the completed milestone is started
    assert run([*arguments, "--batch-size", "8"])[0] == 1
    reason = results_of(tmp_path)["A"]["reason"]
    assert reason.startswith("its 3 rounds so far had other flags: now --batch-size 8 instead of 16 -> ")
    assert "--fresh to train from scratch (its labels are kept)" in reason
    model = (out / "models" / "A" / "dagger_A_best.json").read_bytes()
    code, shown, _ = run([*arguments, "--batch-size", "8", "--fresh"])
    assert code == 0
    [kept] = (out / "work").glob("A.old-*")
    assert f"A: starts from scratch; the earlier work is kept in {kept}" in shown
    assert sorted(path.read_bytes() for path in (kept / "data").rglob("*.npy")) == labels
    assert (kept / "models" / "dagger_A_best.json").read_bytes() == model
    assert results_of(tmp_path)["A"]["status"] == "completed"


def test_progress_that_is_not_a_file_fails_the_milestone_and_no_file_is_removed(tmp_path):
    arguments = [*write_project(tmp_path, milestones=(("A", None),)), "--no-record-video"]
    assert run(arguments)[0] == 0
    progress = tmp_path / "out" / "work" / "A" / "progress.pt"
    progress.rename(tmp_path / "elsewhere")
    make_link(progress, Path(progress.name))
    (tmp_path / "out" / "pipeline_state.json").unlink()
    assert run(arguments)[0] == 1
    assert "progress.pt is a symbolic link" in results_of(tmp_path)["A"]["reason"]
    assert len(list((tmp_path / "out" / "work" / "A" / "data").rglob("labels_*.npy"))) == 6
    progress.unlink()
    (tmp_path / "elsewhere").rename(progress)
    assert run(arguments)[0] == 0, "it continues from the same labels"
    assert [path.name for path in (tmp_path / "out" / "work").iterdir()] == ["A"]
