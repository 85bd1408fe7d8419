"""What learns: every kind of action, units that move under it, and a state from which it goes on bit by bit."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch

from schemas.model import read_model
from trainer.checkpoints.checkpoint import checkpoint_from, load_document
from trainer.checkpoints.export import export
from trainer.dagger.actions import Actions
from trainer.dagger.environment import ObservationSpec
from trainer.dagger.training.dataset import Dataset, write_round
from trainer.dagger.training.learner import INPUT_DAMPING_LABELS, DaggerLearner, LearnerConfig, damp_inputs
from trainer.networks.normaliser import ObservationNormaliser

VECTOR = ObservationSpec((2,), pixels=False)
KINDS = {
    "discrete": Actions("discrete", ("LEFT", "STAY", "RIGHT")),
    "multi_binary": Actions("multi_binary", ("A", "B")),
    "continuous": Actions("continuous", ("steer", "brake"), (-1.0, 0.0), (1.0, 1.0)),
}


@pytest.fixture(autouse=True)
def _one_thread():
    """As the worker sets it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def recipe(**changes):
    return LearnerConfig(
        **{"milestone_id": "A", "hidden": 32, "learning_rate": 3e-3, "seed": 0, "device": "cpu", **changes}
    )


def expert(kind, x):
    """What to do at `x` [n, 2]: something of both columns."""
    if kind == "discrete":
        return np.digitize(x[:, 0] / 100.0, (-0.4, 0.4)).astype(np.int64)
    if kind == "multi_binary":
        return np.stack([x[:, 0] > 0, x[:, 1] > 5.0], axis=1).astype(np.uint8)
    return np.stack([np.clip(x[:, 0] / 100.0, -1, 1), np.clip(x[:, 1] - 5.0, 0, 1)], axis=1).astype(np.float32)


def data_of(folder, kind, n=600):
    """Columns of very different units: [-150, 150] and [4, 6]."""
    rng = np.random.default_rng(1)
    x = np.stack([rng.uniform(-150, 150, n), rng.uniform(4, 6, n)], axis=1).astype(np.float32)
    write_round(folder, 0, [(x, expert(kind, x))])
    return x, Dataset(folder, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_what_the_labels_say(tmp_path, kind):
    x, data = data_of(tmp_path, kind)
    learner = DaggerLearner(VECTOR, KINDS[kind], recipe())
    learner.absorb(x)
    learner.train(data, steps=400, batch_size=64, round_number=0)
    wrong = np.abs(learner.act(x).astype(np.float64) - expert(kind, x))
    assert wrong.mean() < 0.05
    assert learner.act(x).dtype == KINDS[kind].dtype


@pytest.mark.parametrize("kind", KINDS)
def test_going_on_from_its_state_gives_the_same_bits(tmp_path, kind):
    x, data = data_of(tmp_path, kind)
    straight = DaggerLearner(VECTOR, KINDS[kind], recipe())
    straight.absorb(x)
    straight.train(data, steps=30, batch_size=16, round_number=0)
    buffer = io.BytesIO()
    torch.save(straight.state(), buffer)
    resumed = DaggerLearner(VECTOR, KINDS[kind], recipe(seed=5))
    resumed.load(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))
    for learner in (straight, resumed):
        learner._config = recipe()
        learner.absorb(x[:50] * 2)
        learner.train(data, steps=30, batch_size=16, round_number=1)
    for a, b in zip(straight.state()["network"].values(), resumed.state()["network"].values(), strict=True):
        assert torch.equal(a, b)


def test_new_units_leave_the_policy_what_it_is(tmp_path):
    x, data = data_of(tmp_path, "continuous")
    learner = DaggerLearner(VECTOR, KINDS["continuous"], recipe())
    learner.absorb(x)
    learner.train(data, steps=50, batch_size=64, round_number=0)
    before = learner.act(x)
    learner.absorb(x * 3 + 1)
    np.testing.assert_allclose(learner.act(x), before, atol=1e-5)


def test_a_mean_beyond_a_bound_that_the_label_lies_at_is_no_error():
    """A brake of -0.5 will be clamped to 0: right where the label is 0, wrong by what is missing where it is not."""
    learner = DaggerLearner(VECTOR, KINDS["continuous"], recipe())
    output = torch.atanh(torch.tensor([[0.2, -0.5]] * 3))
    labels = np.array([[0.2, 0.0], [0.2, 0.5], [-1.0, 1.0]], np.float32)
    errors = learner._errors(output, learner._packed(labels))
    torch.testing.assert_close(errors, torch.tensor([[0.0, 0.0], [0.0, -1.0], [1.2, -1.5]]))


def test_the_model_goes_out_with_the_error_that_is_left(tmp_path):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2000, 2)).astype(np.float32)
    labels = np.clip(rng.normal(0.3, (0.2, 0.05), (2000, 2)), (-1, 0), 1).astype(np.float32)  # nothing to be seen in x
    write_round(tmp_path, 0, [(x, labels)])
    learner = DaggerLearner(VECTOR, KINDS["continuous"], recipe(hidden=8))
    learner.absorb(x)
    learner.train(Dataset(tmp_path, 1), steps=400, batch_size=64, round_number=0)
    document = load_document(learner.checkpoint(round_number=0, history={}, probe=x[:8]))
    assert document["action_log_std"].exp().numpy() == pytest.approx((0.2, 0.05), rel=0.15)
    checkpoint = checkpoint_from(document)
    assert checkpoint.hidden_sizes == (8, 8)
    assert checkpoint.lineage.epoch == 1


def test_buttons_go_out_as_numbers_that_are_pressed_above_zero(tmp_path):
    x, data = data_of(tmp_path, "multi_binary")
    learner = DaggerLearner(VECTOR, KINDS["multi_binary"], recipe())
    learner.absorb(x)
    learner.train(data, steps=100, batch_size=64, round_number=0)
    model = read_model(export(learner.vector_checkpoint(round_number=0, history={}, probe=x[:8]), policy_version=0))
    np.testing.assert_array_equal(model.mean(x) > 0, learner.act(x) == 1)
    assert model.contract.action_space.names == ("A", "B")
    assert np.exp(model.action_log_std) == pytest.approx(0.01), "noise presses nothing by chance"


def test_a_checkpoint_for_pictures_has_the_three_keys(tmp_path):
    learner = DaggerLearner(ObservationSpec((24, 24, 2), pixels=True), KINDS["discrete"], recipe())
    document = load_document(learner.checkpoint(round_number=0, history={"policy_loss": [1.0]}, probe=np.zeros(0)))
    assert document["format"] == "hotlap.dagger_pixels/1"
    pictures = np.random.default_rng(0).integers(0, 256, (40, 24, 24, 2), np.uint8)
    labels = np.arange(40) % 3
    pictures[np.arange(40), labels * 8] = 255
    write_round(tmp_path, 0, [(pictures, labels)])
    learner.train(Dataset(tmp_path, 1), steps=60, batch_size=16, round_number=0)
    assert (learner.act(pictures) == labels).mean() > 0.9


def test_with_few_labels_small_inputs_do_better_between_them(tmp_path):
    """Fifteen columns, 300 labels; the error on new states beside that in units of one deviation a column."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1300, 15)).astype(np.float32)
    steer = np.tanh(x[:, 0] + x[:, 1] * x[:, 2])
    labels = np.stack([steer, np.clip(x[:, 4] - x[:, 5], 0, 1)], axis=1).astype(np.float32)
    write_round(tmp_path, 0, [(x[:300], labels[:300])])
    errors = []
    for calm_labels in (INPUT_DAMPING_LABELS, 0.0):
        small_or_not = recipe(hidden=64, calm_labels=calm_labels)
        learner = DaggerLearner(ObservationSpec((15,), pixels=False), KINDS["continuous"], small_or_not)
        learner.absorb(x[:300])
        learner.train(Dataset(tmp_path, 1), steps=2500, batch_size=64, round_number=0)
        errors.append(np.sqrt(np.square(learner.act(x[300:]) - labels[300:]).mean()))
    assert errors[0] < 0.85 * errors[1]


def test_units_become_the_usual_ones_with_many_labels():
    rng = np.random.default_rng(0)
    usual = ObservationNormaliser.identity(2).updated(rng.normal(size=(8000, 2)) * (30.0, 0.01) + (100.0, 0.0))
    assert damp_inputs(usual).scale_O == pytest.approx(2 * usual.scale_O)
    many = replace(usual, count=1e6)
    assert damp_inputs(many).scale_O == pytest.approx(many.scale_O, rel=0.01)
    assert damp_inputs(usual).mean_O is usual.mean_O
    nothing = ObservationNormaliser.identity(2)
    assert damp_inputs(nothing) is nothing


def test_each_number_counts_by_its_own_error():
    """d loss / d output = error / (B times the root of the number's mean squared error), as written out by hand."""
    rng = np.random.default_rng(3)
    labels = rng.uniform((-0.9, 0.1), (0.9, 0.9), (64, 2)).astype(np.float32)
    learner = DaggerLearner(VECTOR, KINDS["continuous"], recipe())
    x = torch.from_numpy(rng.normal(size=(64, 2)).astype(np.float32))
    packed = learner._packed(labels)
    mean = learner._net.outputs(x).tanh().detach().double()
    error = mean - torch.from_numpy(labels).double()
    wanted = error / (64 * (error.square().mean(0) + 1e-6).sqrt())
    output = learner._net.outputs(x).detach().requires_grad_()
    learner._net.outputs = lambda _: output
    learner._loss(x, packed).backward()
    torch.testing.assert_close(output.grad.double(), wanted * (1 - mean.square()), rtol=1e-4, atol=1e-6)
