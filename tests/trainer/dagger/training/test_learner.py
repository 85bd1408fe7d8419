"""The learner imitates every kind of action, and continues from its state with the same bits."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch

from schemas.errors import HotlapError
from schemas.model import read_model
from trainer.checkpoints.checkpoint import checkpoint_from, load_document
from trainer.checkpoints.export import export
from trainer.dagger.actions import ActionSpec
from trainer.dagger.training.dataset import Dataset, RoundWriter
from trainer.dagger.training.learner import INPUT_DAMPING_LABELS, DaggerLearner, LearnerConfig, damped_normaliser
from trainer.dagger.training.loss import ImitationLoss
from trainer.envs.observations import ObservationSpec
from trainer.networks.normaliser import ObservationNormaliser

VECTOR = ObservationSpec((2,), is_image=False)
KINDS = {
    "discrete": ActionSpec("discrete", ("LEFT", "STAY", "RIGHT")),
    "multi_binary": ActionSpec("multi_binary", ("A", "B")),
    "continuous": ActionSpec("continuous", ("steer", "brake"), (-1.0, 0.0), (1.0, 1.0)),
}


@pytest.fixture(autouse=True)
def _one_thread():
    """Set one thread, as the worker does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def config(**changes):
    return LearnerConfig(
        **{"milestone_id": "A", "hidden": 32, "learning_rate": 3e-3, "seed": 0, "device": "cpu", **changes}
    )


def expert(kind, x):
    """Return labels at `x` [n, 2] that depend on both columns."""
    if kind == "discrete":
        return np.digitize(x[:, 0] / 100.0, (-0.4, 0.4)).astype(np.int64)
    if kind == "multi_binary":
        return np.stack([x[:, 0] > 0, x[:, 1] > 5.0], axis=1).astype(np.uint8)
    return np.stack([np.clip(x[:, 0] / 100.0, -1, 1), np.clip(x[:, 1] - 5.0, 0, 1)], axis=1).astype(np.float32)


def write_round(folder, observations, labels):
    writer = RoundWriter(folder, 0)
    writer.add(observations, labels)
    writer.finish()
    return Dataset(folder, 1)


def data_of(folder, kind, n=600):
    """Return observations with columns of very different size, [-150, 150] and [4, 6], and the data on disk."""
    rng = np.random.default_rng(1)
    x = np.stack([rng.uniform(-150, 150, n), rng.uniform(4, 6, n)], axis=1).astype(np.float32)
    return x, write_round(folder, x, expert(kind, x))


@pytest.mark.parametrize("kind", KINDS)
def test_learner_imitates_labels(tmp_path, kind):
    x, data = data_of(tmp_path, kind)
    learner = DaggerLearner(VECTOR, KINDS[kind], config())
    learner.update_normaliser(x)
    learner.train(data, steps=400, batch_size=64, round_number=0)
    wrong = np.abs(learner.act(x).astype(np.float64) - expert(kind, x))
    assert wrong.mean() < 0.05
    assert learner.act(x).dtype == KINDS[kind].label_dtype


@pytest.mark.parametrize("kind", KINDS)
def test_continuing_from_a_saved_state_leads_to_the_same_bits(tmp_path, kind):
    x, data = data_of(tmp_path, kind)
    straight = DaggerLearner(VECTOR, KINDS[kind], config())
    straight.update_normaliser(x)
    straight.train(data, steps=30, batch_size=16, round_number=0)
    buffer = io.BytesIO()
    torch.save(straight.state_dict(), buffer)
    resumed = DaggerLearner(VECTOR, KINDS[kind], config())
    resumed.train(data, steps=5, batch_size=16, round_number=7)  # its earlier state must not matter
    resumed.load_state_dict(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))
    for learner in (straight, resumed):
        learner.update_normaliser(x[:50] * 2)
        learner.train(data, steps=30, batch_size=16, round_number=1)
    for a, b in zip(straight.state_dict()["network"].values(), resumed.state_dict()["network"].values(), strict=True):
        assert torch.equal(a, b)


def test_training_does_not_change_the_state_that_was_loaded(tmp_path):
    x, data = data_of(tmp_path, "discrete")
    first = DaggerLearner(VECTOR, KINDS["discrete"], config())
    first.update_normaliser(x)
    first.train(data, steps=5, batch_size=16, round_number=0)
    state, expected = first.state_dict(), first.state_dict()
    second = DaggerLearner(VECTOR, KINDS["discrete"], config())
    second.load_state_dict(state)
    second.train(data, steps=5, batch_size=16, round_number=1)
    torch.testing.assert_close(state, expected, rtol=0, atol=0)


def test_update_of_the_normaliser_does_not_change_the_policy(tmp_path):
    x, data = data_of(tmp_path, "continuous")
    learner = DaggerLearner(VECTOR, KINDS["continuous"], config())
    learner.update_normaliser(x)
    learner.train(data, steps=50, batch_size=64, round_number=0)
    before = learner.act(x)
    learner.update_normaliser(x * 3 + 1)
    np.testing.assert_allclose(learner.act(x), before, atol=1e-5)


def continuous_loss():
    return ImitationLoss("continuous", KINDS["continuous"].model_space())


def test_mean_beyond_a_bound_is_not_an_error_if_the_label_is_at_the_bound():
    """A brake of -0.5 is clamped to 0: correct if the label is 0, and wrong by the full difference if it is not."""
    loss = continuous_loss()
    output = torch.atanh(torch.tensor([[0.2, -0.5]] * 3))
    labels = np.array([[0.2, 0.0], [0.2, 0.5], [-1.0, 1.0]], np.float32)
    errors = loss.errors(output, loss.targets(labels))
    torch.testing.assert_close(errors, torch.tensor([[0.0, 0.0], [0.0, -1.0], [1.2, -1.5]]))


def test_deviation_of_the_model_is_the_error_that_is_left(tmp_path):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2000, 2)).astype(np.float32)
    labels = np.clip(rng.normal(0.3, (0.2, 0.05), (2000, 2)), (-1, 0), 1).astype(np.float32)  # independent of x
    data = write_round(tmp_path, x, labels)
    learner = DaggerLearner(VECTOR, KINDS["continuous"], config(hidden=8))
    learner.update_normaliser(x)
    learner.train(data, steps=400, batch_size=64, round_number=0)
    document = load_document(learner.checkpoint(round_number=0, history={}, probe=x[:8]))
    assert document["action_log_std"].exp().numpy() == pytest.approx((0.2, 0.05), rel=0.15)
    checkpoint = checkpoint_from(document)
    assert checkpoint.hidden_sizes == (8, 8)
    assert checkpoint.lineage.epoch == 1


def test_buttons_are_numbers_in_the_model_and_pressed_above_zero(tmp_path):
    x, data = data_of(tmp_path, "multi_binary")
    learner = DaggerLearner(VECTOR, KINDS["multi_binary"], config())
    learner.update_normaliser(x)
    learner.train(data, steps=100, batch_size=64, round_number=0)
    model = read_model(export(learner.vector_checkpoint(round_number=0, history={}, probe=x[:8]), policy_version=0))
    np.testing.assert_array_equal(model.mean(x) > 0, learner.act(x) == 1)
    assert model.contract.action_space.names == ("A", "B")
    assert np.exp(model.action_log_std) == pytest.approx(0.01), "noise presses no buttons"


def test_checkpoint_for_images_has_the_three_keys(tmp_path):
    learner = DaggerLearner(ObservationSpec((24, 24, 2), is_image=True), KINDS["discrete"], config())
    document = load_document(learner.checkpoint(round_number=0, history={"policy_loss": [1.0]}, probe=np.zeros(0)))
    assert document["format"] == "hotlap.dagger_pixels/1"
    images = np.random.default_rng(0).integers(0, 256, (40, 24, 24, 2), np.uint8)
    labels = np.arange(40) % 3
    images[np.arange(40), labels * 8] = 255
    learner.train(write_round(tmp_path, images, labels), steps=60, batch_size=16, round_number=0)
    assert (learner.act(images) == labels).mean() > 0.9


def test_small_inputs_are_better_on_new_states_if_labels_are_few(tmp_path):
    """Fifteen columns, 300 labels: the error on new states, compared with inputs divided by one deviation."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1300, 15)).astype(np.float32)
    steer = np.tanh(x[:, 0] + x[:, 1] * x[:, 2])
    labels = np.stack([steer, np.clip(x[:, 4] - x[:, 5], 0, 1)], axis=1).astype(np.float32)
    data = write_round(tmp_path, x[:300], labels[:300])
    errors = []
    for damping_labels in (INPUT_DAMPING_LABELS, 0.0):
        damped = config(hidden=64, damping_labels=damping_labels)
        learner = DaggerLearner(ObservationSpec((15,), is_image=False), KINDS["continuous"], damped)
        learner.update_normaliser(x[:300])
        learner.train(data, steps=2500, batch_size=64, round_number=0)
        errors.append(np.sqrt(np.square(learner.act(x[300:]) - labels[300:]).mean()))
    assert errors[0] < 0.85 * errors[1]


def test_inputs_have_the_usual_size_if_labels_are_many():
    rng = np.random.default_rng(0)
    usual = ObservationNormaliser.identity(2).updated(rng.normal(size=(8000, 2)) * (30.0, 0.01) + (100.0, 0.0))
    assert damped_normaliser(usual).scale_O == pytest.approx(2 * usual.scale_O)
    many = replace(usual, count=1e6)
    assert damped_normaliser(many).scale_O == pytest.approx(many.scale_O, rel=0.01)
    assert damped_normaliser(usual).mean_O is usual.mean_O
    nothing = ObservationNormaliser.identity(2)
    assert damped_normaliser(nothing) is nothing


def test_gradient_of_each_column_is_relative_to_its_own_error():
    """d loss / d output = error / (B * root of the column's mean squared error), computed independently."""
    rng = np.random.default_rng(3)
    labels = rng.uniform((-0.9, 0.1), (0.9, 0.9), (64, 2)).astype(np.float32)
    loss = continuous_loss()
    output = torch.from_numpy(rng.normal(size=(64, 2)).astype(np.float32)).requires_grad_()
    mean = output.detach().tanh().double()
    error = mean - torch.from_numpy(labels).double()
    expected = error / (64 * (error.square().mean(0) + 1e-6).sqrt()) * (1 - mean.square())
    loss(output, loss.targets(labels)).backward()
    torch.testing.assert_close(output.grad.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_learner_starts_from_a_trained_model_and_keeps_its_policy(tmp_path, kind):
    x, data = data_of(tmp_path, kind)
    first = DaggerLearner(VECTOR, KINDS[kind], config())
    first.update_normaliser(x)
    first.train(data, steps=50, batch_size=16, round_number=0)
    second = DaggerLearner(VECTOR, KINDS[kind], config())
    second.start_from(first.checkpoint(round_number=0, history={}, probe=x[:8]), "model.pth")
    for _ in range(2):  # before and after the normaliser is set
        assert np.abs(second.act(x).astype(np.float64) - first.act(x)).mean() < 1e-4
        second.update_normaliser(x)
    with pytest.raises(HotlapError, match="--hidden-dim"):
        DaggerLearner(VECTOR, KINDS[kind], config(hidden=9)).start_from(
            first.checkpoint(round_number=0, history={}, probe=x[:8]), "model.pth"
        )
