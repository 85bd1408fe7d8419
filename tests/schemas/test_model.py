"""The model JSON: writing and reading agree, the computation is the engine's, and damaged models are rejected."""

from __future__ import annotations

import dataclasses

import numpy as np
import orjson
import pytest

from schemas.errors import ModelError
from schemas.model import check_probe, model_to_bytes, read_model
from tests.helpers import make_model


def test_a_model_is_read_as_it_was_written():
    model = make_model(version=12)
    again = read_model(model_to_bytes(model))
    observations = np.random.default_rng(1).normal(size=(100, 15)).astype(np.float32)
    np.testing.assert_array_equal(model.mean(observations), again.mean(observations))
    np.testing.assert_array_equal(model.value(observations), again.value(observations))
    assert (again.policy_version, again.contract) == (12, model.contract)
    assert check_probe(again) == 0.0


def test_the_mean_is_what_the_formats_page_describes():
    document = orjson.loads(model_to_bytes(make_model()))
    x = np.random.default_rng(2).normal(size=15)
    h = x
    for layer in document["policy_layers"]:
        w = np.array(layer["weights"]).reshape(len(layer["biases"]), len(h))
        h = np.maximum(w @ h + layer["biases"], 0.0)
    head = document["policy_head"]
    mean = np.tanh(np.array(head["weights"]).reshape(3, -1) @ h + head["biases"])
    np.testing.assert_allclose(make_model().mean(np.float32(x)[None])[0], mean, rtol=1e-5, atol=1e-6)


def test_the_fixed_keys_have_the_sizes_that_the_engine_expects():
    document = orjson.loads(model_to_bytes(make_model(hidden=8)))
    assert document["network_config"] == {
        "input_size": 15,
        "hidden_layers": [8, 8],
        "policy_output_size": 3,
        "value_output_size": 1,
    }
    assert [len(layer["weights"]) for layer in document["policy_layers"]] == [120, 64]
    assert len(document["action_log_std"]) == 3


def test_a_model_without_hotlaps_own_keys_is_read():
    document = orjson.loads(model_to_bytes(make_model()))
    hotlap_keys = ("schema", "policy_version", "action_space", "contract", "checksum", "lineage", "probe")
    model = read_model(orjson.dumps({k: v for k, v in document.items() if k not in hotlap_keys}))
    assert model.contract.action_space.names == ("steer", "throttle", "brake")
    assert model.probe is None


def test_a_model_with_an_edited_weight_is_rejected():
    document = orjson.loads(model_to_bytes(make_model()))
    document["policy_head"]["weights"][0] += 0.5
    with pytest.raises(ModelError, match="do not match its checksum"):
        read_model(orjson.dumps(document))


def test_a_model_that_differs_from_its_probe_is_rejected():
    model = make_model()
    wrong = dataclasses.replace(model, probe=dataclasses.replace(model.probe, values=model.probe.values + 1))
    with pytest.raises(ModelError) as caught:
        check_probe(read_model(model_to_bytes(wrong)))
    assert caught.value.code == "E_PROBE"


def test_a_model_with_a_weight_that_is_not_finite_is_not_written():
    model = make_model()
    model.policy.head.weights[0, 0] = np.nan
    with pytest.raises(ModelError) as caught:
        model_to_bytes(model)
    assert caught.value.code == "E_NONFINITE"


@pytest.mark.parametrize("cut", [0, 10, 1000])
def test_a_cut_model_is_rejected(cut):
    with pytest.raises(ModelError):
        read_model(model_to_bytes(make_model())[:cut])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("policy_head"), "the key policy_head is missing"),
        (lambda d: d["policy_layers"].pop(), "it has 1 hidden layers, but network_config names 2"),
        (lambda d: d["policy_head"]["biases"].pop(), "a layer has 24 weights and 2 biases, not 8x3 and 3"),
        (lambda d: d.update(action_log_std=[0.0]), "`action_log_std` has 1 numbers, but the policy has 3 actions"),
        (lambda d: d.update(network_config=[]), "a value has the wrong type"),
        (lambda d: d["value_head"]["weights"].__setitem__(0, None), "a weight is not finite"),
        (lambda d: d["action_space"].update(low="x"), "action_space.continuous.low is wrong"),
    ],
)
def test_the_reason_why_a_model_is_rejected_is_named(change, words):
    document = orjson.loads(model_to_bytes(make_model()))
    change(document)
    with pytest.raises(ModelError) as caught:
        read_model(orjson.dumps(document))
    assert words in caught.value.message
    assert caught.value.line().endswith("[E_MODEL]")
