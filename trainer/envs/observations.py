"""How the observations of an environment become those of a policy: vectors, or images [height, width, channels].

Images go through a small CNN. Their channels may be first or last, and frames may be stacked in a further axis. Small
ones, which a convolution would not fit into, and all other spaces become vectors. Nothing becomes thousands of numbers
without a message: `note` states what was decided.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ConfigError

SMALLEST_SIDE = 24
"""Images with a shorter side are vectors, unless they have too many numbers."""
MOST_NUMBERS = 4096
"""Numbers of a vector that is made from something else."""
_MANY_NUMBERS = 10_000
_WRAPPER = "use a wrapper that returns a vector or one image"
_ONLY = "the image alone can be learned from: gymnasium.wrappers.TransformObservation(env, lambda o: o[{0!r}], ...)"


class NotFiniteError(ValueError):
    """An observation contains nan or inf."""


@dataclass(frozen=True, slots=True)
class ObservationSpec:
    """The observations of policies: vectors, or images [height, width, channels] of bytes."""

    shape: tuple[int, ...]
    is_image: bool
    image_max: float = 255.0  #: the largest byte of an image
    given: tuple[int, ...] | None = None  #: shape of the environment's array; None: the same
    axes: tuple[int, ...] | None = None  #: order of its axes in an image; None: as they are
    low: float = 0.0  #: the number that is stored as byte 0
    steps: float | None = None  #: bytes for a difference of 1; None: the numbers are bytes
    space: Any = field(default=None, compare=False)  #: Gymnasium's space, if its values are not one array
    part: str | None = None  #: the part of a Dict that is the image; None: it is not in a Dict
    note: str = field(default="", compare=False)  #: what users should know

    @property
    def size(self) -> int:
        """Return how many numbers an observation has."""
        return int(np.prod(self.shape, dtype=np.int64))

    def as_array(self, observation: Any, dtype: type[np.floating[Any]] = np.float32) -> NDArray[Any]:
        """Return an observation as it is stored; a vector has this type.

        Raises ValueError if it is not a finite array of this shape.
        """
        if self.is_image:
            return self._as_image(np.asarray(observation if self.part is None else _part(observation, self.part)))
        if self.space is not None:
            observation = _flattened(self.space, observation)
        try:
            array = np.array(observation, dtype=dtype)  # a copy: environments reuse theirs
        except (TypeError, ValueError) as error:
            raise ValueError(f"an observation that is not an array of numbers ({error})") from None
        if array.shape != self.shape and (array.shape == self.given or array.size == self.shape[0]):
            array = array.reshape(self.shape)
        if array.shape != self.shape:
            raise ValueError(f"an observation of shape {array.shape} instead of {self.given or self.shape}")
        if not np.isfinite(array).all():
            raise NotFiniteError("an observation that contains nan or inf")
        return array

    def _as_image(self, array: NDArray[Any]) -> NDArray[Any]:
        given = self.given or self.shape
        if array.shape != given and _without_ones(array.shape) == _without_ones(given):
            array = array.reshape(given)
        if array.shape != given:
            raise ValueError(f"an observation of shape {array.shape} instead of {given}")
        if self.axes is not None:
            array = array.transpose(self.axes)
        if self.steps is not None:
            array = np.rint((array.astype(np.float64) - self.low) * self.steps)
        elif array.dtype.kind == "f" and (array != np.rint(array)).any():
            raise ValueError("an image of fractions, but its observation_space is of whole numbers")
        if array.dtype != np.uint8:
            if not np.isfinite(array).all():
                raise NotFiniteError("an observation that contains nan or inf")
            if array.size and not (array.min() >= 0 and array.max() <= 255):
                raise ValueError("an image with values outside of its observation_space")
        return np.array(array, np.uint8).reshape(self.shape)


def _part(observation: Any, name: str) -> Any:
    """Return a part of a Dict. Raises ValueError."""
    try:
        return observation[name]
    except (LookupError, TypeError) as error:
        raise ValueError(f"an observation without {name!r} ({type(error).__name__})") from None


def _without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def read_observation_spec(env: Any) -> ObservationSpec:
    """Return what policies observe of an environment. Raises ConfigError if they cannot learn from it."""
    from gymnasium import spaces

    space = env.observation_space
    return _from_box(space) if isinstance(space, spaces.Box) else _from_other_space(space)


def _from_box(space: Any) -> ObservationSpec:
    size = int(np.prod(space.shape))
    if size == 0:
        raise ConfigError(f"the observation space {space} is empty", hint="correct observation_space")
    if len(space.shape) <= 1:
        note = f"observations: {size:,} numbers, each an input of its own" if size > _MANY_NUMBERS else ""
        return ObservationSpec((size,), is_image=False, note=note)
    layout = _image_layout(tuple(int(n) for n in space.shape))
    if layout is not None and (image := _as_image_spec(space, layout)) is not None:
        height, width, _ = image.shape
        if min(height, width) >= SMALLEST_SIDE or size > MOST_NUMBERS:
            return image
    if size > MOST_NUMBERS:
        raise ConfigError(
            f"a policy cannot learn from the observation space {space}: it would be {size:,} numbers",
            hint="give it bounds if it is an image; else use a wrapper that returns fewer numbers",
        )
    shape = " x ".join(map(str, space.shape))
    note = f"observations: {shape}, too small for convolutions, so they are {size:,} numbers"
    return ObservationSpec((size,), is_image=False, given=tuple(space.shape), note=note)


def _image_layout(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the order of axes that leads to [height, width, other axes]; None if it is not an image.

    In an image of two sides and channels or frames, the two adjacent axes of equal length are the sides, else the two
    longest ones. If both ends are possible, the channels are last.
    """
    if not 2 <= len(shape) <= 4:
        return None
    starts = range(len(shape) - 1)
    equal = [k for k in starts if shape[k] == shape[k + 1] and shape[k] > 1 and shape[k] * 2 >= max(shape)]
    first = equal[0] if equal else max(starts, key=lambda k: (min(shape[k], shape[k + 1]), -k))
    others = tuple(k for k in range(len(shape)) if k not in {first, first + 1})
    return (first, first + 1, *others)


def _as_image_spec(space: Any, axes: tuple[int, ...]) -> ObservationSpec | None:
    """Return the spec of an image, or None if its values have no common finite bounds."""
    low, high = float(space.low.min()), float(space.high.max())
    if not (np.isfinite(low) and np.isfinite(high)) or max(abs(low), abs(high)) > 1e6 or low >= high:
        return None
    given = tuple(int(n) for n in space.shape)
    height, width, *others = (given[k] for k in axes)
    shape = (height, width, int(np.prod(others, dtype=np.int64)))
    order = None if axes == tuple(range(len(given))) else axes
    layout = "" if order is None else f", given as {' x '.join(map(str, given))}"
    text = f"observations: images of {height} x {width} with {shape[2]} channel{'' if shape[2] == 1 else 's'}{layout}"
    if np.issubdtype(space.dtype, np.integer) and high - low <= 255:
        is_bytes = low >= 0 and high <= 255
        spec = ObservationSpec(
            shape, is_image=True, image_max=high, given=given, axes=order, note=text if order else ""
        )
        return spec if is_bytes else replace(spec, image_max=high - low, low=low, steps=1.0)
    note = f"{text}, rounded to 256 values"
    steps = 255.0 / (high - low)
    return ObservationSpec(shape, is_image=True, given=given, axes=order, low=low, steps=steps, note=note)


def _from_other_space(given: Any) -> ObservationSpec:
    """Return the spec of a space that is not a Box: a vector, in which one choice is one of several flags."""
    from gymnasium import spaces

    left_out: list[str] = []
    space = _without_texts(given, left_out)
    size = 0 if space is None else int(spaces.utils.flatdim(space))
    if space is None or size == 0:
        raise ConfigError(f"a policy cannot learn from the observation space {given}", hint=_WRAPPER)
    images = _images_in(space)
    if len(images) == 1 and len(space.spaces) == 1:
        (name,) = images
        return replace(images[name], part=name, note=f"observations: the image {name!r} of a Dict space")
    if size > MOST_NUMBERS:
        hint = _ONLY.format(next(iter(images))) if images else _WRAPPER
        raise ConfigError(
            f"a policy cannot learn from the observation space {given}: it would be {size:,} numbers", hint=hint
        )
    without = f", without {', '.join(left_out)}" if left_out else ""
    note = f"observations: a {type(given).__name__} space{without}, as {size:,} numbers"
    return ObservationSpec((size,), is_image=False, space=space, note=note)


def number_type(space: Any) -> type[np.floating[Any]]:
    """Return the type of a vector that is made from a space: float64 if a part has it, because a clock needs digits."""
    from gymnasium import spaces

    parts = [space]
    while parts:
        part = parts.pop()
        children = getattr(part, "spaces", ())
        parts += children.values() if isinstance(children, Mapping) else children
        if isinstance(part, spaces.Box) and part.dtype == np.float64:
            return np.float64
    return np.float32


def _images_in(space: Any) -> dict[str, ObservationSpec]:
    """Return the images among the parts of a Dict space, by name."""
    from gymnasium import spaces

    if not isinstance(space, spaces.Dict):
        return {}
    found = {}
    for name, part in space.spaces.items():
        if isinstance(part, spaces.Box) and np.prod(part.shape) > 0:
            with contextlib.suppress(ConfigError):
                found[str(name)] = _from_box(part)
    return {name: spec for name, spec in found.items() if spec.is_image}


def _without_texts(space: Any, left_out: list[str]) -> Any:
    """Return a space without the parts of Dict spaces that are not numbers, whose names are added to a list.

    Return None if nothing is left.
    """
    from gymnasium import spaces

    if not isinstance(space, spaces.Dict):
        return space if _is_of_numbers(space) else None
    parts = {}
    for name, part in space.spaces.items():
        kept = _without_texts(part, left_out)
        if kept is None:
            left_out.append(str(name))
        else:
            parts[name] = kept
    return spaces.Dict(parts) if parts else None


def _is_of_numbers(space: Any) -> bool:
    """Return whether a space has a fixed number of numbers."""
    from gymnasium import spaces

    if isinstance(space, spaces.Text):
        return False
    try:
        return bool(space.is_np_flattenable)
    except NotImplementedError:  # spaces of other packages, such as the missions of MiniGrid
        return False


def _flattened(space: Any, observation: Any) -> Any:
    """Return a value of a space as one array. Raises ValueError."""
    from gymnasium import spaces

    try:
        return spaces.utils.flatten(space, _selected(space, observation))
    except (ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
        cause = f"{type(error).__name__}: {error}"
        raise ValueError(f"an observation that is not in its observation_space ({cause})") from None


def _selected(space: Any, observation: Any) -> Any:
    """Return the parts of an observation that a space has."""
    from gymnasium import spaces

    if not isinstance(space, spaces.Dict):
        return observation
    return {name: _selected(part, observation[name]) for name, part in space.spaces.items()}
