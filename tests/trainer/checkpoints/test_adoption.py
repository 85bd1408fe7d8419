"""Trained models of any program are read as what they compute, or refused with one line that names the file."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from schemas.contract import ContinuousActions, DiscreteActions, PolicyContract
from schemas.errors import HotlapError
from schemas.job import Adoption, Job
from schemas.model import LOG_STD_MAX, LOG_STD_MIN, model_to_bytes, read_model
from schemas.settings.models import TrainerSettings
from schemas.storage.files import sha256_of
from tests.helpers import make_model
from tests.trainer.toy import Bandit, loop_for
from trainer.checkpoints.adoption import adopt
from trainer.checkpoints.checkpoint import checkpoint_from, load_document
from trainer.checkpoints.export import model_of
from trainer.common.reporting.reporter import MemoryReporter
from trainer.worker.jobs import run_job

CONTRACT = PolicyContract(observation_size=15, action_space=ContinuousActions.named(("steer", "throttle", "brake")))
X = np.random.default_rng(0).normal(size=(32, 15)).astype(np.float32)


class PublicNetwork(nn.Module):
    """The network of the public Unreal scripts: shared hidden layers; `policy_std` is the log of the deviation."""

    def __init__(self, *, hidden: int = 16, std: float = 0.5) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.shared = nn.Sequential(nn.Linear(15, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.policy_mean, self.value = nn.Linear(hidden, 3), nn.Linear(hidden, 1)
        self.policy_std = nn.Parameter(torch.full((3,), std))

    @torch.no_grad()
    def outputs(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features = self.shared(torch.from_numpy(x))
        return self.policy_mean(features).tanh().numpy(), self.value(features).squeeze(1).numpy()


def public_json(network: PublicNetwork, **changes: object) -> bytes:
    """Return what the public export script writes: also nan, and the log of the log of the deviation."""
    state = network.state_dict()

    def layer(name: str) -> dict[str, object]:
        return {"weights": state[f"{name}.weight"].flatten().tolist(), "biases": state[f"{name}.bias"].tolist()}

    hidden = [layer("shared.0"), layer("shared.2")]
    sizes = [len(state["shared.0.bias"])] * 2
    config = {"input_size": 15, "hidden_layers": sizes, "policy_output_size": 3, "value_output_size": 1}
    with np.errstate(all="ignore"):
        log_std = np.log(state["policy_std"].numpy()).tolist()
    document = {"network_config": config, "policy_layers": hidden, "value_layers": hidden}
    document |= {"policy_head": layer("policy_mean"), "value_head": layer("value"), "action_log_std": log_std}
    return json.dumps(document | changes, indent=2).encode()


def public_checkpoint(path, network: nn.Module, **extra: object) -> bytes:
    document = {"policy_state_dict": network.state_dict(), "optimizer_state_dict": {}, "training_history": {}}
    torch.save(document | extra, path)
    return path.read_bytes()


def adopted(data: bytes, name: str = "model_epoch_7.json", *, sizes=(16, 16), contract=CONTRACT, fixed=True, **how):
    """Adopt and return the model that engines will load, and the lines."""
    adoption = Adoption(
        file=f"/somewhere/{name}", sha256="0" * 64, is_contract_fixed=fixed, are_hidden_sizes_fixed=True, **how
    )
    job = Job(
        kind="adopt",
        policy_version=3,
        output="",
        contract=contract,
        hidden_sizes=sizes,
        settings=TrainerSettings(),
        adoption=adoption,
    )
    checkpoint, lines = adopt(adoption, data, job)
    assert checkpoint.lineage.epoch == (7 if "7" in name else 1)
    return model_of(checkpoint, policy_version=3), "\n".join(lines)


def test_the_json_of_the_public_scripts_is_recognised_and_computes_the_same():
    network = PublicNetwork()
    model, lines = adopted(public_json(network))
    mean, value = network.outputs(X)
    np.testing.assert_allclose(model.mean(X), mean, atol=1e-6)
    np.testing.assert_allclose(model.value(X), value, atol=1e-5)
    assert "action_log_std is the log of the log" in lines
    np.testing.assert_allclose(model.action_log_std, 0.5, atol=1e-6)
    natural, lines = adopted(public_json(network), log_std="natural")
    np.testing.assert_allclose(natural.action_log_std, math.log(0.5), atol=1e-6)
    assert "log of the log" not in lines


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ([math.nan] * 3, math.log(0.5)),
        ([-math.inf] * 3, 0.0),
        ([-9.0] * 3, math.exp(-9.0)),
        ([0.5] * 3, math.log(0.5)),
        ([1.5] * 3, LOG_STD_MAX),
        (None, math.log(0.5)),
    ],
)
def test_every_number_that_the_public_scripts_may_write_becomes_a_usable_deviation(written, expected):
    model, _ = adopted(public_json(PublicNetwork(), action_log_std=written))
    np.testing.assert_allclose(model.action_log_std, expected, atol=1e-6)


def test_separate_layers_mean_the_natural_log_unless_it_is_impossible():
    own = json.loads(model_to_bytes(make_model(hidden=16)))
    plain = {key: own[key] for key in list(own)[:6]}  # an engine's file: without Hotlap's keys
    model, lines = adopted(json.dumps(plain).encode())
    np.testing.assert_allclose(model.action_log_std, math.log(0.5), atol=1e-6)
    assert "log of the log" not in lines
    model, lines = adopted(json.dumps(plain | {"action_log_std": [3.0, -5.0, 0.0]}).encode())
    assert "log of the log" in lines
    assert model.action_log_std.max() <= LOG_STD_MAX + 1e-6
    model, lines = adopted(json.dumps(plain | {"action_log_std": [3.0, -4.0, 0.0]}).encode())
    assert "log of the log" not in lines
    np.testing.assert_allclose(model.action_log_std, [LOG_STD_MAX, -4.0, 0.0], atol=1e-6)
    forced, _ = adopted(json.dumps(plain).encode(), log_std="log-of-log")
    np.testing.assert_allclose(forced.action_log_std, 0.5, atol=1e-6)


def test_a_checkpoint_of_the_public_scripts_computes_the_same(tmp_path):
    network = PublicNetwork(std=-0.4)
    data = public_checkpoint(tmp_path / "a.pt", network)
    model, lines = adopted(data, "a.pt")
    mean, value = network.outputs(X)
    np.testing.assert_allclose(model.mean(X), mean, atol=1e-6)
    np.testing.assert_allclose(model.value(X), value, atol=1e-5)
    np.testing.assert_allclose(model.action_log_std, -0.4, atol=1e-6)
    assert "ReLU is assumed" in lines
    torch.save(network.state_dict(), tmp_path / "bare.pt")
    model, _ = adopted((tmp_path / "bare.pt").read_bytes(), "bare.pt")
    np.testing.assert_allclose(model.mean(X), mean, atol=1e-6)


def test_own_models_are_adopted_unchanged_with_optimizer_and_normaliser(tmp_path):
    game = Bandit()
    loop = loop_for(game, tmp_path)
    loop.train(game.play(loop.start(), 64))
    path = loop.output / loop.result.checkpoint
    before = checkpoint_from(load_document(path.read_bytes()))
    output = tmp_path / "adopted"
    output.mkdir()
    adoption = Adoption(file=str(path), sha256=sha256_of(path.read_bytes()), is_contract_fixed=True)
    job = Job(
        kind="adopt",
        policy_version=9,
        output=str(output),
        contract=before.contract,
        hidden_sizes=before.hidden_sizes,
        settings=TrainerSettings(),
        adoption=adoption,
    )
    result = run_job(job, MemoryReporter())
    assert any("optimizer and normaliser continue" in note for note in result.notes)
    after = checkpoint_from(load_document((output / result.checkpoint).read_bytes()))
    assert after.normalisers.observations.count == before.normalisers.observations.count > 0
    for index, state in before.optimizer_state_dict["state"].items():
        assert torch.equal(after.optimizer_state_dict["state"][index]["exp_avg"], state["exp_avg"])
    old, new = model_of(before, policy_version=9), read_model((output / result.model).read_bytes())
    x = np.random.default_rng(0).normal(size=(16, before.contract.observation_size)).astype(np.float32)
    np.testing.assert_array_equal(old.mean(x), new.mean(x))
    assert new.policy_version == 9
    assert new.lineage.adopted == f"{path.name} {adoption.sha256}"
    from_json, _ = adopted((output / result.model).read_bytes(), sizes=before.hidden_sizes, contract=before.contract)
    np.testing.assert_allclose(from_json.mean(x), old.mean(x), atol=1e-6)


def test_without_a_contract_the_file_decides_the_shape():
    other = PolicyContract(observation_size=4, action_space=DiscreteActions(n=2))
    model, lines = adopted(public_json(PublicNetwork()), contract=other, fixed=False)
    assert model.contract == CONTRACT
    assert "it does not name its actions" in lines


class WithNorm(PublicNetwork):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)


def broken(document: bytes, edit) -> bytes:
    loaded = json.loads(document)
    edit(loaded)
    return json.dumps(loaded).encode()


PUBLIC = public_json(PublicNetwork())
OTHER_ORDER = ContinuousActions.named(("throttle", "steer", "brake"))
REFUSED = {
    "text": (b"notes", "neither a model JSON nor a checkpoint"),
    "empty": (b"", "neither a model JSON nor a checkpoint"),
    "torn JSON": (PUBLIC[:-900], "it is not JSON"),
    "another JSON": (b'{"a": 1}', "the key network_config is missing"),
    "a rollout": (b'{"experiences": []}', "it is a rollout, not a model"),
    "a list": (b'{"network_config": []}', "has the wrong type"),
    "not finite": (broken(PUBLIC, lambda d: d["policy_head"]["weights"].__setitem__(0, math.nan)), "not finite"),
    "missing weights": (broken(PUBLIC, lambda d: d["value_head"]["weights"].pop()), "a layer has 15 weights"),
    "two values": (
        broken(PUBLIC, lambda d: d["network_config"].__setitem__("value_output_size", 2)),
        "a layer has 16 weights",
    ),
    "tanh": (broken(PUBLIC, lambda d: d["network_config"].__setitem__("activation", "tanh")), "use tanh"),
    "tanh in a layer": (broken(PUBLIC, lambda d: d["policy_layers"][0].__setitem__("activation", "Tanh")), "use Tanh"),
    "other sizes": (public_json(PublicNetwork(hidden=8)), "has hidden layers [8, 8], the project [16, 16]"),
    "a zip file": (b"PK\x03\x04 and more", "cannot be loaded"),
}


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_cannot_be_adopted_is_refused_with_one_line_that_names_it(data, message):
    with pytest.raises(HotlapError) as refusal:
        adopted(data)
    line = str(refusal.value)
    assert line.startswith("model_epoch_7.json ")
    assert message in line
    assert "\n" not in line
    assert len(line) < 500


def test_a_network_that_engines_cannot_run_is_refused(tmp_path):
    for network, extra, message in (
        (WithNorm(), {}, "contains norm.weight, which is not a part of two plain stacks"),
        (PublicNetwork(), {"config": {"activation": "nn.Tanh"}}, "use nn.Tanh"),
        (PublicNetwork(), {"format": "hotlap.dagger_pixels/1"}, "a policy for images"),
        (PublicNetwork(), {"objects": WithNorm()}, "contains Python objects, and loading them could run code"),
        (nn.Linear(3, 4), {}, "contains weight, which is not a part"),
    ):
        with pytest.raises(HotlapError, match=message):
            adopted(public_checkpoint(tmp_path / "a.pt", network, **extra), "a.pt")


def test_a_model_of_another_contract_is_refused_with_both(tmp_path):
    own = model_to_bytes(make_model(hidden=16))
    for contract, message in (
        (PolicyContract(observation_size=16, action_space=CONTRACT.action_space), "15 observations instead of 16"),
        (PolicyContract(observation_size=15, action_space=OTHER_ORDER), "steer .* instead of throttle"),
        (PolicyContract(observation_size=15, action_space=DiscreteActions(n=5)), "instead of one of 5 choices"),
    ):
        with pytest.raises(HotlapError, match=message) as refusal:
            adopted(own, contract=contract)
        assert refusal.value.code == "E_CONTRACT"
    with pytest.raises(HotlapError, match="15 observations and 3 actions instead of 16 and 3"):
        adopted(PUBLIC, contract=PolicyContract(observation_size=16, action_space=CONTRACT.action_space))


def test_the_deviation_stays_in_the_engines_range():
    for std in (-9.0, 5.0):
        network = PublicNetwork(std=std)
        model, _ = adopted(public_json(network), log_std="natural") if std > 0 else adopted(public_json(network))
        assert LOG_STD_MIN - 1e-6 <= model.action_log_std.min() <= model.action_log_std.max() <= LOG_STD_MAX + 1e-6
