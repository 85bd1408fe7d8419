"""An expert's answer becomes a label, or is refused in words."""

import numpy as np
import pytest

from trainer.dagger.actions import Actions, InvalidActionError

CHOICE = Actions("discrete", ("LEFT", "RIGHT", "UP"), first=1)
BUTTONS = Actions("multi_binary", ("A", "B", "C"))
STEER = Actions("continuous", ("steer", "brake"), (-1.0, 0.0), (1.0, 1.0))
TORQUE = Actions("continuous", ("torque",), (-2.0,), (6.0,))

GOOD = [
    (CHOICE, 1, 0, 1),
    (CHOICE, "UP", 2, 3),
    (CHOICE, np.array([2]), 1, 2),
    (BUTTONS, [0, 1, 1], [0, 1, 1], [0, 1, 1]),
    (BUTTONS, "B", [0, 1, 0], [0, 1, 0]),
    (BUTTONS, ["A", "C"], [1, 0, 1], [1, 0, 1]),
    (BUTTONS, 2, [0, 0, 1], [0, 0, 1]),
    (BUTTONS, [True, False, False], [1, 0, 0], [1, 0, 0]),
    (STEER, [0.5, 0.25], [0.5, 0.25], [0.5, 0.25]),
    (STEER, (-7, -7), [-1, 0], [-1, 0]),
    (TORQUE, [6.0], [1.0], [6.0]),
    (TORQUE, [0.0], [-0.5], [0.0]),
]


@pytest.mark.parametrize(("actions", "answer", "label", "played"), GOOD)
def test_labels_and_what_the_environment_gets(actions, answer, label, played):
    made = actions.label(answer)
    np.testing.assert_allclose(made, label)
    assert made.dtype == actions.dtype
    assert made.shape == actions.label_shape
    np.testing.assert_allclose(actions.for_env(made), played)


BAD = [
    (CHOICE, 0, "no index of 3"),
    (CHOICE, 4, "no index of 3"),
    (CHOICE, 1.5, "no index of 3"),
    (CHOICE, "JUMP", "'JUMP' is none of the actions LEFT, RIGHT, UP"),
    (CHOICE, [0, 1], "is no choice"),
    (CHOICE, None, "None is no action"),
    (CHOICE, {}, "is no action"),
    (BUTTONS, [0, 1], r"has shape \(2,\), not \(3,\)"),
    (BUTTONS, [0, 2, 0], "a button is 0 or 1"),
    (STEER, "steer", "real-valued actions are arrays"),
    (STEER, [float("nan"), 0], "is not finite"),
    (STEER, [1], r"has shape \(1,\)"),
]


@pytest.mark.parametrize(("actions", "answer", "says"), BAD)
def test_nonsense_is_refused_in_words(actions, answer, says):
    with pytest.raises(InvalidActionError, match=says):
        actions.label(answer)
