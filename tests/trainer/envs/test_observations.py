"""Images of all layouts become [height, width, channels]; small ones and other spaces become vectors, with a note."""

from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium import spaces

from schemas.errors import ConfigError
from trainer.envs.observations import ObservationSpec, read_observation_spec


def spec_of(space):
    return read_observation_spec(SimpleNamespace(observation_space=space))


def image_space(*shape, high=255, dtype=np.uint8):
    return spaces.Box(0, high, shape, dtype)


LAYOUTS = {
    "channels last": ((84, 90, 3), (0, 1, 2)),
    "channels first": ((3, 84, 90), (1, 2, 0)),
    "frames first": ((4, 84, 84), (1, 2, 0)),
    "one frame first": ((1, 84, 84), (1, 2, 0)),
    "many frames first": ((16, 84, 84), (1, 2, 0)),
    "many channels last": ((40, 40, 64), (0, 1, 2)),
    "no channels": ((84, 90), (0, 1)),
    "a cube": ((64, 64, 64), (0, 1, 2)),
    "frames, then channels last": ((4, 84, 90, 3), (1, 2, 0, 3)),
    "frames, then channels first": ((4, 3, 84, 90), (2, 3, 0, 1)),
    "frames last": ((84, 90, 1, 4), (0, 1, 2, 3)),
}


@pytest.mark.parametrize(("shape", "axes"), LAYOUTS.values(), ids=LAYOUTS)
def test_images_of_every_layout_become_height_width_channels(shape, axes):
    spec = spec_of(image_space(*shape))
    image = np.arange(np.prod(shape), dtype=np.uint32).astype(np.uint8).reshape(shape)
    height, width = (shape[k] for k in axes[:2])
    assert spec.is_image
    assert spec.shape == (height, width, int(np.prod(shape)) // (height * width))
    stored = spec.as_array(image)
    np.testing.assert_array_equal(stored, image.transpose(axes).reshape(spec.shape))
    image[:] = 0
    assert stored.any(), "a copy: environments reuse their arrays"


@pytest.mark.parametrize(
    ("space", "size", "note"),
    [
        (image_space(7, 7, 3), 147, "observations: 7 x 7 x 3, too small for convolutions, so they are 147 numbers"),
        (image_space(8, 8, 12, high=1), 768, "so they are 768 numbers"),
        (spaces.Box(-1, 1, (4, 4)), 16, "so they are 16 numbers"),
        (spaces.Box(-np.inf, np.inf, (2, 3, 4, 5, 6)), 720, "so they are 720 numbers"),
    ],
    ids=["MiniGrid", "a chess board", "a matrix", "five axes"],
)
def test_small_images_and_matrices_are_vectors(space, size, note):
    spec = spec_of(space)
    assert (spec.shape, spec.is_image) == ((size,), False)
    assert note in spec.note
    value = space.sample()
    np.testing.assert_array_equal(spec.as_array(value), value.reshape(-1).astype(np.float32))


def test_a_low_and_wide_image_with_many_numbers_stays_an_image():
    assert spec_of(image_space(8, 400, 3)).shape == (8, 400, 3)


def test_fractions_and_other_whole_numbers_are_stored_as_bytes():
    fractions = spec_of(spaces.Box(0.0, 1.0, (40, 40, 3), np.float32))
    assert "rounded to 256 values" in fractions.note
    assert fractions.as_array(np.full((40, 40, 3), 1.0))[0, 0, 0] == 255
    assert fractions.as_array(np.full((40, 40, 3), 51 / 255, np.float32))[0, 0, 0] == 51
    signed = spec_of(spaces.Box(-1.0, 1.0, (40, 40, 1), np.float32))
    assert signed.as_array(np.zeros((40, 40, 1)))[0, 0, 0] == 128
    whole = spec_of(spaces.Box(-3, 3, (40, 40, 1), np.int64))
    assert (whole.image_max, whole.as_array(np.full((40, 40, 1), -2))[0, 0, 0]) == (6.0, 1)
    flags = spec_of(image_space(38, 38, 1, high=1))
    assert flags.image_max == 1.0, "otherwise the network would see nearly nothing"


def test_spaces_that_are_not_arrays_are_vectors():
    space = spaces.Dict(
        {"where": spaces.Discrete(3, start=1), "arms": spaces.MultiBinary(2), "x": spaces.Box(0, 9, (2,))}
    )
    spec = spec_of(space)
    value = {"where": 2, "arms": np.array([1, 0], np.int8), "x": np.array([4.0, 5.0], np.float32)}
    assert spec.as_array(value).tolist() == [1, 0, 0, 1, 0, 4, 5]
    assert spec.note == "observations: a Dict space, as 7 numbers"
    assert spec_of(spaces.Discrete(16)).as_array(3).tolist() == [0.0] * 3 + [1.0] + [0.0] * 12
    assert spec_of(spaces.Box(0, 9, ())).as_array(np.float64(2.5)).tolist() == [2.5]


class Mission(spaces.Space):
    """A space of a package that does not say whether it can be flattened."""


def test_what_is_not_numbers_in_a_dict_is_left_out():
    inner = spaces.Dict({"name": spaces.Text(9), "x": spaces.Discrete(2)})
    space = spaces.Dict({"mission": Mission(), "image": image_space(7, 7, 3), "inner": inner})
    spec = spec_of(space)
    assert spec.note == "observations: a Dict space, without name, mission, as 149 numbers"
    value = {"mission": "go", "image": np.ones((7, 7, 3), np.uint8), "inner": {"name": "a", "x": 1}}
    assert spec.as_array(value).sum() == 148


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(-np.inf, np.inf, (84, 84, 4)), "it would be 28,224 numbers -> give it bounds if it is an image"),
        (spaces.Dict({"image": image_space(84, 84, 4), "x": spaces.Discrete(2)}), "lambda o: o['image'], ...)"),
        (spaces.Tuple((image_space(84, 84, 4),)), "it would be 28,224 numbers -> use a wrapper"),
        (spaces.Discrete(100_000), "it would be 100,000 numbers"),
        (spaces.Text(9), "a policy cannot learn from the observation space Text"),
        (Mission(), "a policy cannot learn from the observation space"),
        (spaces.Sequence(spaces.Discrete(3)), "a policy cannot learn from the observation space Sequence"),
        (spaces.Box(0, 1, (0,)), "is empty"),
    ],
    ids=[
        "a picture without bounds",
        "a picture and more in a dict",
        "a picture in a tuple",
        "many choices",
        "a text",
        "a space of a package",
        "a sequence",
        "nothing",
    ],
)
def test_nothing_becomes_thousands_of_numbers(space, message):
    with pytest.raises(ConfigError) as caught:
        spec_of(space)
    assert message in str(caught.value)


WRONG = {
    "another shape": (image_space(84, 84, 4), np.zeros((84, 84, 3)), "of shape (84, 84, 3) instead of (84, 84, 4)"),
    "fractions in an image of bytes": (
        image_space(84, 84, 1), np.full((84, 84, 1), 0.5), "an image of fractions, but its observation_space",
    ),
    "too large for a byte": (image_space(84, 84, 1), np.full((84, 84, 1), 256), "outside of its observation_space"),
    "nan": (spaces.Box(0, 1, (84, 84, 1)), np.full((84, 84, 1), np.nan), "contains nan or inf"),
    "a missing key": (spaces.Dict({"a": spaces.Discrete(2)}), {}, "is not in its observation_space (KeyError: 'a')"),
    "a choice too many": (spaces.Discrete(2), 7, "is not in its observation_space"),
}  # fmt: skip


@pytest.mark.parametrize(("space", "value", "message"), WRONG.values(), ids=WRONG)
def test_an_observation_outside_of_its_space_is_refused(space, value, message):
    with pytest.raises(ValueError, match=r"observation|image") as caught:
        spec_of(space).as_array(value)
    assert message in str(caught.value)


def test_the_only_image_in_a_dict_is_the_observation():
    spec = spec_of(spaces.Dict({"mission": Mission(), "image": image_space(3, 64, 64)}))
    assert spec.shape == (64, 64, 3)
    assert spec.as_array({"mission": "go", "image": np.ones((3, 64, 64), np.uint8)}).sum() == 64 * 64 * 3
    with pytest.raises(ValueError, match="an observation without 'image'"):
        spec.as_array({"mission": "go"})


def test_an_axis_of_one_may_be_missing():
    assert spec_of(image_space(84, 84, 1)).as_array(np.zeros((84, 84), np.uint8)).shape == (84, 84, 1)
    assert ObservationSpec((3,), is_image=False).as_array(np.zeros((1, 3))).shape == (3,)
