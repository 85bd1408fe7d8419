"""An expert's action becomes a label, or is rejected with a reason."""

import numpy as np
import pytest

from trainer.dagger.actions import ActionSpec, InvalidActionError

CHOICE = ActionSpec("discrete", ("LEFT", "RIGHT", "UP"), first=1)
BUTTONS = ActionSpec("multi_binary", ("A", "B", "C"))
STEER = ActionSpec("continuous", ("steer", "brake"), (-1.0, 0.0), (1.0, 1.0))
TORQUE = ActionSpec("continuous", ("torque",), (-2.0,), (6.0,))

GOOD = [
    (CHOICE, 1, 0, 1),
    (CHOICE, "UP", 2, 3),
    (CHOICE, ["UP"], 2, 3),
    (CHOICE, "up", 2, 3),
    (ActionSpec("discrete", ("B", "b", "A")), "b", 1, 1),
    (CHOICE, np.array([2]), 1, 2),
    (BUTTONS, [0, 1, 1], [0, 1, 1], [0, 1, 1]),
    (BUTTONS, "B", [0, 1, 0], [0, 1, 0]),
    (BUTTONS, ["A", "C"], [1, 0, 1], [1, 0, 1]),
    (BUTTONS, ("A", "C"), [1, 0, 1], [1, 0, 1]),
    (BUTTONS, 2, [0, 0, 1], [0, 0, 1]),
    (BUTTONS, [True, False, False], [1, 0, 0], [1, 0, 0]),
    (STEER, [0.5, 0.25], [0.5, 0.25], [0.5, 0.25]),
    (STEER, (-7, -7), [-1, 0], [-1, 0]),
    (TORQUE, [6.0], [1.0], [6.0]),
    (TORQUE, [0.0], [-0.5], [0.0]),
]


@pytest.mark.parametrize(("actions", "action", "label", "env_action"), GOOD)
def test_action_becomes_a_label_and_the_label_an_action_of_the_environment(actions, action, label, env_action):
    made = actions.label(action)
    np.testing.assert_allclose(made, label)
    assert made.dtype == actions.label_dtype
    assert made.shape == actions.label_shape
    np.testing.assert_allclose(actions.env_action(made), env_action)


BAD = [
    (CHOICE, 0, "0, which is not an index of one of the 3 actions"),
    (CHOICE, 4, "4, which is not an index of one of the 3 actions"),
    (CHOICE, 1.5, "1.5, which is not an index of one of the 3 actions"),
    (ActionSpec("discrete", ("Go", "GO")), "go", "'go', which is not the name of an action"),
    (CHOICE, "JUMP", "'JUMP', which is not the name of an action"),
    (CHOICE, ["LEFT", "UP"], "['LEFT', 'UP']: 2 actions instead of one"),
    (CHOICE, ["LEFT", 2], "['LEFT', 2], which is not an action"),
    (CHOICE, [0, 1], "[0, 1]: 2 numbers instead of one index"),
    (CHOICE, None, "None, which is not an action"),
    (CHOICE, {}, "{}, which is not an action"),
    (BUTTONS, [0, 1], "[0, 1] of shape (2,) instead of (3,)"),
    (BUTTONS, [0, 2, 0], "[0, 2, 0], but a button is 0 or 1"),
    (STEER, "steer", "'steer', but real-valued actions have no names"),
    (STEER, [float("nan"), 0], "[nan, 0], which is not finite"),
    (STEER, [1], "[1] of shape (1,) instead of (2,)"),
]


@pytest.mark.parametrize(("actions", "action", "message"), BAD)
def test_invalid_action_is_rejected_with_a_reason(actions, action, message):
    with pytest.raises(InvalidActionError) as caught:
        actions.label(action)
    assert str(caught.value) == message


def test_stack_has_the_type_and_shape_of_labels_also_without_any():
    labels = BUTTONS.stack([BUTTONS.label("A"), BUTTONS.label("B")])
    np.testing.assert_array_equal(labels, [[1, 0, 0], [0, 1, 0]])
    assert BUTTONS.stack([]).shape == (0, 3)
    assert labels.dtype == BUTTONS.stack([]).dtype == np.uint8


def test_the_description_for_experts_names_valid_actions():
    assert CHOICE.in_words() == "a whole number from 1 to 3, or one of the names LEFT, RIGHT, UP"
    assert BUTTONS.in_words() == "3 zeros and ones, an index, or some of the names A, B, C"
    assert STEER.in_words() == "an array of 2 numbers: steer, brake"
