"""RGB frames from what render() returns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.dagger.environment.errors import NoFrameError

_SHAPE = "render() did not return an array [height, width, 3]"
_RENDER_HINT = 'create the environment with render_mode="rgb_array"'


def rgb_frame(frame: Any) -> NDArray[np.uint8]:
    """Return a frame as RGB [height, width, 3]: from grey, RGBA, fractions, or the last of a list.

    Raises NoFrameError.
    """
    if isinstance(frame, list) and frame and np.ndim(frame[-1]) in {2, 3}:  # render_mode="rgb_array_list"
        frame = frame[-1]
    try:
        array = np.asarray(frame)
    except ValueError:
        raise NoFrameError(_SHAPE, hint=_RENDER_HINT) from None
    if array.ndim == 3 and array.shape[0] in {1, 3, 4} and array.shape[2] not in {1, 3, 4}:
        array = array.transpose(1, 2, 0)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.dtype.kind not in "buif" or 0 in array.shape:
        raise NoFrameError(_SHAPE, hint=_RENDER_HINT)
    channels = array.shape[2]
    if channels == 1:
        array = np.repeat(array, 3, axis=2)
    elif channels == 4:
        array = array[:, :, :3]
    elif channels != 3:
        raise NoFrameError(_SHAPE, hint=_RENDER_HINT)
    if array.dtype.kind == "f":
        largest = 1.0 if array.max(initial=0.0) <= 1.0 else 255.0
        array = np.nan_to_num(array) * (255.0 / largest)
    elif array.dtype.kind == "b":
        array = array * np.uint8(255)
    return np.ascontiguousarray(np.clip(array, 0, 255).astype(np.uint8, copy=False))
