"""The model JSON: what is written is what is read, the arithmetic is the engine's, and damage is noticed."""

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


def test_the_arithmetic_is_the_one_the_contract_spells_out():
    document = orjson.loads(model_to_bytes(make_model()))
    x = np.random.default_rng(2).normal(size=15)
    h = x
    for layer in document["policy_layers"]:
        w = np.array(layer["weights"]).reshape(len(layer["biases"]), len(h))
        h = np.maximum(w @ h + layer["biases"], 0.0)
    head = document["policy_head"]
    mean = np.tanh(np.array(head["weights"]).reshape(3, -1) @ h + head["biases"])
    np.testing.assert_allclose(make_model().mean(np.float32(x)[None])[0], mean, rtol=1e-5, atol=1e-6)


def test_the_fixed_keys_stand_as_the_engine_expects_them():
    document = orjson.loads(model_to_bytes(make_model(hidden=8)))
    assert document["network_config"] == {
        "input_size": 15,
        "hidden_layers": [8, 8],
        "policy_output_size": 3,
        "value_output_size": 1,
    }
    assert [len(layer["weights"]) for layer in document["policy_layers"]] == [120, 64]
    assert len(document["action_log_std"]) == 3


def test_a_model_of_the_field_without_our_keys_is_read():
    document = orjson.loads(model_to_bytes(make_model()))
    ours = ("schema", "policy_version", "action_space", "contract", "checksum", "lineage", "probe")
    model = read_model(orjson.dumps({k: v for k, v in document.items() if k not in ours}))
    assert model.contract.action_space.names == ("steer", "throttle", "brake")
    assert model.probe is None


def test_an_edited_weight_is_noticed():
    document = orjson.loads(model_to_bytes(make_model()))
    document["policy_head"]["weights"][0] += 0.5
    with pytest.raises(ModelError, match="not those it was written with"):
        read_model(orjson.dumps(document))


def test_a_model_that_computes_something_else_than_its_probe_is_refused():
    model = make_model()
    wrong = dataclasses.replace(model, probe=dataclasses.replace(model.probe, values=model.probe.values + 1))
    with pytest.raises(ModelError) as caught:
        check_probe(read_model(model_to_bytes(wrong)))
    assert caught.value.code == "E_PROBE"


def test_a_weight_that_is_not_finite_is_never_written():
    model = make_model()
    model.policy.head.weights[0, 0] = np.nan
    with pytest.raises(ModelError) as caught:
        model_to_bytes(model)
    assert caught.value.code == "E_NONFINITE"


@pytest.mark.parametrize("cut", [0, 10, 1000])
def test_a_torn_model_is_refused(cut):
    with pytest.raises(ModelError):
        read_model(model_to_bytes(make_model())[:cut])
