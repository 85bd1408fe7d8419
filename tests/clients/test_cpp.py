"""clients/cpp: it compiles without warnings, computes what the trainer computes, and learns with the real daemon."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import orjson
import pytest
from scipy import stats

from daemon.conformance.models import random_model, with_wrong_probe
from daemon.conformance.suite import conformance
from daemon.errors import Exit
from schemas.contract import ContinuousActions, DiscreteActions, PolicyContract
from schemas.model import model_to_bytes, read_model, weights_checksum
from schemas.rollout.meaning.rules import ReadingRules
from schemas.rollout.reader import read_rollout
from schemas.settings.models import AgentSettings
from schemas.status import Receipt
from schemas.storage.layout import ProjectPaths

ROOT = Path(__file__).parents[2]
COMPILERS = [name for name in ("g++", "clang++") if shutil.which(name)]
STRICT = ("-std=c++17", "-fno-exceptions", "-fno-rtti", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror")
#: loops and number reading as for compilers without vector types and without from_chars of floats
PLAIN = ("-O1", "-DHOTLAP_PLAIN_LOOPS", "-DHOTLAP_NO_FLOAT_CHARS")
pytestmark = [
    pytest.mark.skipif(not COMPILERS, reason="needs g++ or clang++"),
    pytest.mark.timeout(180),
]
PUSHES = ContinuousActions(names=("push_x", "push_y"), low=(-1.0, -1.0), high=(1.0, 1.0))
AGENT = AgentSettings(observation_size=4, actions=PUSHES.names, hidden_sizes=(16, 16))


def compiled(source: Path, target: Path, *flags: str, compiler: str = "") -> Path:
    command = [compiler or COMPILERS[0], *STRICT, *flags, str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("cpp")
    probe = Path(__file__).parent / "cpp" / "probe.cpp"
    example = ROOT / "clients" / "cpp" / "example" / "point_mass.cpp"
    return {
        "fast": compiled(probe, folder / "probe", "-O2"),
        "plain": compiled(probe, folder / "probe_plain", *PLAIN, compiler=COMPILERS[-1]),
        "game": compiled(example, folder / "point_mass", "-O2"),
    }


def contract_of(inputs: int, outputs: int, *, is_discrete: bool = False) -> PolicyContract:
    names = tuple(f"a{i}" for i in range(outputs))
    continuous = ContinuousActions(names=names, low=(-1.0,) * outputs, high=(1.0,) * outputs)
    space = DiscreteActions(n=outputs) if is_discrete else continuous
    return PolicyContract(observation_size=inputs, action_space=space)


@pytest.mark.parametrize("program", ["fast", "plain"])
@pytest.mark.parametrize(
    ("inputs", "hidden", "outputs", "is_discrete"),
    [
        (15, (128, 128), 3, False),
        (1, (), 1, False),
        (7, (5, 33, 2), 6, False),
        (9, (31,), 5, True),
        (40, (65,), 2, True),
    ],
)
def test_numbers_agree_with_the_trainer(programs, program, inputs, hidden, outputs, is_discrete, tmp_path):
    model = random_model(contract_of(inputs, outputs, is_discrete=is_discrete), hidden, 5)
    observations = np.random.default_rng(1).normal(0.0, 3.0, size=(71, inputs)).astype(np.float32)
    (tmp_path / "model.json").write_bytes(model_to_bytes(model))
    observations.tofile(tmp_path / "in")
    words = ["evaluate", tmp_path / "model.json", tmp_path / "in", "71", tmp_path / "out"]
    done = subprocess.run([programs[program], *words], capture_output=True, text=True, check=True)
    computed = np.fromfile(tmp_path / "out", np.float32)
    np.testing.assert_allclose(computed[: 71 * outputs].reshape(71, -1), model.mean(observations), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(computed[71 * outputs :], model.value(observations), rtol=1e-5, atol=1e-5)
    checksum, probe_error = done.stdout.split()
    assert checksum == weights_checksum(model)
    assert float(probe_error) < 1e-5


def edited(data: bytes, **changes: object) -> bytes:
    return orjson.dumps(orjson.loads(data) | changes)


def test_a_model_that_must_not_be_run_is_refused_with_a_reason(programs, tmp_path):
    model = random_model(contract_of(3, 2), (4,), 1)
    data = model_to_bytes(model)
    number = re.compile(rb"-?\d\.\d+")
    refused = {
        "does not compute the outputs of its probe": model_to_bytes(with_wrong_probe(model)),
        "do not match its checksum": edited(data, value_head={"weights": [1, 2, 3, 4], "biases": [0]}),
        "it is not a model JSON": data[: len(data) // 2],
        "layer 1 has 3 weights": edited(data, policy_head={"weights": [1, 2, 3], "biases": [0, 0]}),
        "has 1 hidden layers, but network_config names 2": edited(
            data, network_config={"input_size": 3, "hidden_layers": [4, 4], "policy_output_size": 2}
        ),
        "network_config is not complete": b"{}",
        "a number is not finite": number.sub(b"1e39", data, count=1),
        "a number is expected": number.sub(b"NaN", data, count=1),
        "nested too deeply": b'{"x": ' + b"[" * 1000,
        "something follows the end": data + b"{}",
        "a whole number is out of its range": edited(data, network_config={"input_size": 1e9}),
        "action_log_std": edited(data, action_log_std=[0.0]),
        "its kind of actions, hybrid": edited(data, action_space={"type": "hybrid"}),
        "an object is expected": b"",
    }
    (tmp_path / "in").write_bytes(b"\0" * 12)
    for reason, content in refused.items():
        (tmp_path / "model.json").write_bytes(content)
        for program in ("fast", "plain"):
            words = [programs[program], "evaluate", tmp_path / "model.json", tmp_path / "in", "1", tmp_path / "out"]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            assert done.returncode == 1, (reason, done)
            assert reason in done.stdout


def publish(project: Path, model) -> ProjectPaths:
    paths = ProjectPaths(project)
    path = paths.cycle_folder(model.policy_version) / "model_epoch_1.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(model_to_bytes(model))
    paths.pointer.write_text(paths.for_engine(path), encoding="utf-8")
    return paths


def test_a_frame_allocates_nothing(programs, tmp_path):
    """Check a frame, including its looks at the pointer file and at status.json."""
    paths = publish(tmp_path, random_model(contract_of(15, 3), (128, 128), 3))
    paths.status.write_text(
        '{"state": "training", "a_key_that_is_longer_than_fifteen": [{"b": "\\u00e4"}], '
        f'"heartbeat": {time.time() + 60}, "heartbeat_interval_s": 5.0}}'
    )
    words = [programs["fast"], "frames", tmp_path, "64", "15", "3"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    allocations, milliseconds, state = done.stdout.split()
    assert (int(allocations), int(state)) == (0, 2)
    assert float(milliseconds) < 5.0  # 0.1 on an idle core; this only finds loops that are not compiled as meant


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_choices_are_drawn_and_recorded_as_the_contract_says(programs, version, tmp_path):
    model = random_model(contract_of(6, 4, is_discrete=True), (12,), 2)
    paths = publish(tmp_path, model)
    subprocess.run([programs["fast"], "choices", tmp_path, "6", "4", version], check=True)
    [path] = paths.exports.iterdir()
    rollout = read_rollout(path.read_bytes(), ReadingRules(choices=4))
    chosen = rollout.actions[:, 0].astype(int)
    probabilities = np.exp(model.mean(rollout.observations).astype(float))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    expected = stats.multinomial.logpmf(np.eye(4)[chosen], 1, probabilities)
    np.testing.assert_allclose(rollout.log_probs, expected, atol=1e-5)
    np.testing.assert_array_equal(rollout.rewards, chosen)
    assert abs(np.mean(expected) - np.mean(np.sum(probabilities * np.log(probabilities), axis=1))) < 0.15
    assert rollout.size == 299, "the step without a result is left out"
    ended = (rollout.terminated | rollout.truncated)[rollout.agents == 2]
    assert ended[49], "the step before it is the last one that can be followed"


def start_game(programs, project: Path, *words: object) -> subprocess.Popen[str]:
    return subprocess.Popen([programs["game"], project, *map(str, words)], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_rollouts_agree_with_scipy_and_are_read_in_both_versions(programs, version, tmp_path):
    project = tmp_path / "Spiel für alle, 遊び"
    model = random_model(AGENT.contract(), (16, 16), 4)
    paths = publish(project, model)
    game = start_game(programs, project, 2, version)
    assert game.communicate(timeout=60)[0].count("model 4") == 2
    first, second = sorted(paths.exports.iterdir())
    assert re.fullmatch(r"rollout_0_\d{8}_\d{6}_point-mass\.json", first.name)
    rollout = read_rollout(second.read_bytes(), ReadingRules.of(AGENT, AGENT.contract()))
    assert (rollout.size, rollout.contract) == (2048, AGENT.contract())
    std = np.exp(model.action_log_std.astype(float))
    expected = stats.norm.logpdf(rollout.actions, model.mean(rollout.observations), std).sum(axis=1)
    np.testing.assert_allclose(rollout.log_probs, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(rollout.values, model.value(rollout.observations), rtol=1e-5, atol=1e-5)
    below, above, drawn = (stats.norm.cdf(x, model.mean(rollout.observations), std) for x in (-1, 1, rollout.actions))
    inside = np.abs(rollout.actions) < 1
    assert abs(np.mean(inside) - np.mean(above - below)) < 0.03
    assert stats.kstest(((drawn - below) / (above - below))[inside], "uniform").statistic < 0.05
    assert set(rollout.agents.tolist()) == set(range(16))
    if version == "v2":
        assert (rollout.policy_version, rollout.noise_std) == (4, 1.0)
        continuing = [a for a in range(16) if not (rollout.terminated | rollout.truncated)[rollout.agents == a][-1]]
        assert set(continuing) <= set(rollout.final_agents.tolist())
    receipt = Receipt.model_validate(orjson.loads((paths.receipts / "point-mass.json").read_bytes()))
    assert (receipt.client, receipt.checksum, receipt.policy_version) == ("point-mass", weights_checksum(model), 4)
    assert 0 <= receipt.probe_error < 1e-5
    assert receipt.refused is None


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL")
def test_a_killed_client_leaves_only_whole_rollouts(programs, tmp_path):
    paths = publish(tmp_path, random_model(AGENT.contract(), (16, 16), 0))
    known: set[str] = set()
    for moment in range(5):
        game = start_game(programs, tmp_path, 0, ("v1", "v2")[moment % 2])
        for _ in range(moment + 1):
            assert game.stdout.readline().startswith("rollout ")
        game.send_signal(signal.SIGKILL)
        game.wait()
        game.stdout.close()
        names = {path.name for path in paths.exports.glob("rollout_*.json")}
        assert len(names - known) >= moment + 1
        assert known <= names
        known = names
    for name in known:
        assert read_rollout((paths.exports / name).read_bytes()).size == 2048


@pytest.mark.slow
def test_the_client_passes_the_conformance_suite(programs):
    lines: list[str] = []
    command = [str(programs["game"]), "{project}", "0", "v2", "0.002"]
    code = conformance(command, AGENT, timeout_s=30.0, settle_s=0.4, show=lines.append)
    assert code == Exit.DONE, lines


@pytest.mark.slow
@pytest.mark.torch
def test_the_client_and_the_real_daemon_close_the_loop(programs, tmp_path):
    """Train three cycles: the game loads each model, and the daemon knows which model played."""
    (tmp_path / "daemon.toml").write_text(
        '[agent]\nobservation_size = 4\nactions = ["push_x", "push_y"]\n[trainer]\nepochs = 3\n'
    )
    paths = ProjectPaths(tmp_path)
    daemon = subprocess.Popen(
        [sys.executable, "-m", "daemon", "--project", tmp_path, "--after-n-rollouts", "2", "--no-dashboard"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOTLAP_DAEMON__ALLOW_SHARED": "true"},
    )
    game = start_game(programs, tmp_path, 0, "v2", 0.004)
    try:
        versions: list[int] = []
        while (versions or [0])[-1] < 3:
            line = game.stdout.readline()
            assert line, "the game ended"
            versions.append(int(re.search(r"model (\d+)", line)[1]))
        history = orjson.loads(
            subprocess.run(
                [sys.executable, "-m", "daemon", "history", "--json", "--project", tmp_path],
                cwd=ROOT, stdout=subprocess.PIPE, check=True,
            ).stdout
        )  # fmt: skip
    finally:
        for process in (game, daemon):
            process.kill()
            process.wait()
        game.stdout.close()
    assert versions == sorted(versions)
    assert [cycle["state"] for cycle in history[:4]] == ["published"] * 4
    assert not list(paths.rejected.glob("*.reason.txt"))
    assert "do not fit" not in paths.daemon_log.read_text(encoding="utf-8")
    assert read_model(Path(paths.pointer.read_text(encoding="utf-8")).read_bytes()).contract == AGENT.contract()


def test_every_compiler_accepts_the_header_alone(tmp_path):
    source = tmp_path / "two.cpp"
    source.write_text(f'#include "{ROOT / "clients" / "cpp" / "hotlap.hpp"}"\nint other() {{ return 0; }}\n')
    for compiler in COMPILERS:
        command = [compiler, *STRICT, "-std=c++20", "-fsyntax-only", "-Wconversion", str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
