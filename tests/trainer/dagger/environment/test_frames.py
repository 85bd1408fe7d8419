"""Frames of all usual forms become RGB; what is not a frame is refused with the remedy."""

import numpy as np
import pytest

from trainer.dagger.environment.errors import NoFrameError
from trainer.dagger.environment.frames import rgb_frame

GREY = np.full((4, 6), 51, np.uint8)
FORMS = {
    "RGB": np.full((4, 6, 3), 51, np.uint8),
    "RGBA": np.full((4, 6, 4), 51, np.uint8),
    "grey": GREY,
    "one channel": GREY[:, :, None],
    "channels first": np.full((3, 4, 6), 51, np.uint8),
    "fractions": np.full((4, 6, 3), 0.2),
    "whole numbers": np.full((4, 6, 3), 51, np.int64),
    "a list of frames": [np.zeros((4, 6, 3), np.uint8), np.full((4, 6, 3), 51, np.uint8)],
}


@pytest.mark.parametrize("frame", FORMS.values(), ids=FORMS)
def test_frames_become_rgb(frame):
    np.testing.assert_array_equal(rgb_frame(frame), np.full((4, 6, 3), 51, np.uint8))


@pytest.mark.parametrize(
    "frame", [None, [], "text", np.zeros((5, 6, 7)), np.zeros(9), np.zeros((0, 6, 3)), [[1], [2, 3]]]
)
def test_what_is_not_a_frame_is_refused(frame):
    with pytest.raises(
        NoFrameError, match=r'did not return an array .* -> create the environment with render_mode="rgb'
    ):
        rgb_frame(frame)
