"""Any stable-retro game with milestones: emulator states, and conditions on the game's RAM variables, for DAgger.

A milestone's `condition` compares variables with numbers, `{"score": {">=": 100}}`; all comparisons must be true. An
emulator is deterministic. Randomness comes from `sticky`, the probability that an action is held for one more step.
"""

from __future__ import annotations

import operator
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

FRAME_SKIP = 4
STICKY = 0.1
_POOLING = 4  #: pixels, in both directions, that become one: the brightest, so that small shots stay visible
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_MAGIC = b"hotlap.retro/1\n"


class RetroMilestones(gymnasium.Env[NDArray[Any], Any]):
    """One game. The emulator allows only one environment in a process.

    `observation` is "pixels" (grey, [height / 4, width / 4, frames] of uint8), "variables" (the game's RAM variables)
    or a list of RAM addresses. `buttons` are those that a policy may press. With `choices`, a list of lists of
    buttons, actions are discrete. `turbo` buttons are released in the second half of a step, so that a held button
    fires in every step. `state` is the name of one of the game's own start states.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 60 // FRAME_SKIP}  # noqa: RUF012
    num_envs = 1  #: how many of these environments run at the same time in one process

    def __init__(
        self,
        *,
        milestones: Sequence[Mapping[str, Any]],
        game: str = "Airstriker-Genesis",
        state: str | None = None,
        observation: str | Sequence[int] = "pixels",
        buttons: Sequence[str] | None = None,
        choices: Sequence[Sequence[str]] | None = None,
        turbo: Sequence[str] = (),
        frame_skip: int = FRAME_SKIP,
        frames: int = 2,
        sticky: float = STICKY,
    ) -> None:
        self._conditions = {str(m["id"]): _parse_condition(m) for m in milestones}
        self._game = _make_game(game, state)
        all_buttons = [str(name) for name in self._game.buttons if name]
        self.render_mode = "rgb_array"
        self._skip, self._sticky, self._observation = frame_skip, sticky, observation
        self._without_turbo = 1 - _button_mask(self._game.buttons, turbo)
        self._choices = [_button_mask(self._game.buttons, combination) for combination in choices or ()]
        self.action_space: gymnasium.Space[Any]
        if choices:
            self.action_names = tuple("+".join(combination) or "NOTHING" for combination in choices)
            self.action_space = gymnasium.spaces.Discrete(len(choices))
        else:
            self.action_names = tuple(buttons or all_buttons)
            self._button_indices = [self._game.buttons.index(name) for name in self.action_names]
            self.action_space = gymnasium.spaces.MultiBinary(len(self.action_names))
        self._held = np.zeros(len(self._game.buttons), np.int8)
        self._screens: list[NDArray[np.uint8]] = []
        self._frames = frames
        self._variables: dict[str, int] = {}
        self._names: tuple[str, ...] = ()
        self.reset(seed=0)
        self._names = tuple(sorted(self._variables))
        first = self.observe()
        low, high = (0, 255) if observation == "pixels" else (-np.inf, np.inf)
        self.observation_space = gymnasium.spaces.Box(low, high, first.shape, first.dtype.type)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start in the game's start state. `seed` determines which actions are held longer."""
        super().reset(seed=seed)
        self._game.reset()
        self._clear_history()
        return self.observe(), self._info()

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Hold the buttons of `action` for `frame_skip` frames."""
        if self.np_random.random() >= self._sticky:
            self._held = self._buttons_of(action)
        reward, terminated, truncated = 0.0, False, False
        for frame in range(self._skip):
            buttons = self._held if 2 * frame < self._skip else self._held * self._without_turbo
            _, frame_reward, terminated, truncated, variables = self._game.step(buttons)
            reward += float(frame_reward)
            self._variables = dict(variables)
            if terminated or truncated:
                break
        self._store_screen()
        return self.observe(), reward, bool(terminated), bool(truncated), self._info()

    def observe(self) -> NDArray[Any]:
        """Return the observation for a policy."""
        if self._observation == "pixels":
            return np.stack(self._screens, axis=2)
        if self._observation == "variables":
            return np.array([self._variables.get(name, 0) for name in self._names], np.float32)
        ram = self._game.get_ram()
        return np.array([ram[int(address)] for address in self._observation], np.float32) / 255.0

    def expert_state(self) -> dict[str, Any]:
        """Return the state for an expert: `screen` [height, width, 3], `variables` by name, `held` buttons."""
        held = [name for name, down in zip(self._game.buttons, self._held, strict=True) if down]
        return {"screen": self._game.get_screen(), "variables": dict(self._variables), "held": held}

    def render(self) -> NDArray[np.uint8]:
        """Return the game's screen as an RGB image."""
        return np.asarray(self._game.get_screen(), np.uint8)

    def save_state(self) -> bytes:
        """Return the emulator's state, the last observed screens and the variables, with a checksum."""
        variables = ";".join(f"{name}={value}" for name, value in sorted(self._variables.items())).encode()
        screens = np.stack(self._screens).tobytes()
        parts = [variables, self._held.tobytes(), screens, bytes(self._game.em.get_state())]
        body = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
        return _MAGIC + zlib.crc32(body).to_bytes(4, "little") + zlib.compress(body, 6)

    def load_state(self, state: bytes) -> None:
        """Restore a saved state. Raises ValueError if it is damaged or of another environment."""
        variables, held, screens, emulator = _unpack_state(state)
        self._game.reset()
        if not self._game.em.set_state(emulator):
            raise ValueError("the emulator rejected the saved state: it is of another game")
        self._game.data.reset()
        self._game.data.update_ram()
        self._variables = {
            name: int(value) for name, _, value in (v.partition("=") for v in variables.split(";")) if name
        }
        self._held = np.frombuffer(held, np.int8).copy()
        shape = (-1, *self._screens[0].shape)
        self._screens = list(np.frombuffer(screens, np.uint8).reshape(shape))[-self._frames :]
        self._game.img = self._game.em.get_screen()

    def close(self) -> None:
        """Free the emulator, so that another one can be created."""
        self._game.close()

    def _clear_history(self) -> None:
        self._held = np.zeros(len(self._game.buttons), np.int8)
        self._variables = dict(self._game.data.lookup_all())
        self._screens = []
        for _ in range(self._frames):
            self._store_screen()

    def _store_screen(self) -> None:
        screen = np.asarray(self._game.get_screen(), np.uint8)
        height, width = (size // _POOLING for size in screen.shape[:2])
        grey = screen[: height * _POOLING, : width * _POOLING].max(axis=2)
        pooled = grey.reshape(height, _POOLING, width, _POOLING).max(axis=(1, 3))
        self._screens = [*self._screens, pooled][-self._frames :]

    def _buttons_of(self, action: Any) -> NDArray[np.int8]:
        if self._choices:
            return self._choices[int(action)]
        held = np.zeros(len(self._game.buttons), np.int8)
        held[self._button_indices] = np.asarray(action, np.int8)
        return held

    def _info(self) -> dict[str, Any]:
        reached = [name for name, condition in self._conditions.items() if condition(self._variables)]
        return {"milestones": reached, **self._variables}


def _make_game(game: str, state: str | None) -> Any:
    import stable_retro

    # Since version 1 of stable-retro the games' names end in -v0; older names still work here.
    known = stable_retro.data.list_games(stable_retro.data.Integrations.ALL)
    name = game if game in known else f"{game}-v0"
    if name not in known:
        raise ValueError(f"stable-retro does not have the game {game}")
    options = {"state": state} if state else {}
    return stable_retro.make(name, render_mode="rgb_array", **options)


def _button_mask(known: Sequence[str], pressed: Sequence[str]) -> NDArray[np.int8]:
    unknown = [name for name in pressed if name not in known]
    if unknown:
        raise ValueError(f"the button {unknown[0]} does not exist; the game has {', '.join(filter(None, known))}")
    return np.array([name in pressed for name in known], np.int8)


def _parse_condition(milestone: Mapping[str, Any]) -> Callable[[Mapping[str, int]], bool]:
    """Return a milestone's condition as a function of the variables. Raises ValueError with the milestone's name."""
    condition = milestone.get("condition")
    if not isinstance(condition, Mapping) or not condition:
        raise ValueError(f'milestone {milestone.get("id")} needs a condition such as {{"score": {{">=": 100}}}}')
    tests: list[tuple[str, Callable[[float, float], bool], float]] = []
    for variable, comparison in condition.items():
        if not isinstance(comparison, Mapping) or not all(name in _COMPARE for name in comparison):
            raise ValueError(f"milestone {milestone['id']}: compare {variable} with one of {' '.join(_COMPARE)}")
        tests += [(str(variable), _COMPARE[name], float(value)) for name, value in comparison.items()]
    return lambda variables: all(n in variables and test(variables[n], value) for n, test, value in tests)


def _unpack_state(state: bytes) -> tuple[str, bytes, bytes, bytes]:
    head = len(_MAGIC) + 4
    try:
        body = zlib.decompress(state[head:]) if state.startswith(_MAGIC) else b""
    except zlib.error:
        body = b""
    if not body or zlib.crc32(body) != int.from_bytes(state[len(_MAGIC) : head], "little"):
        raise ValueError("the bytes are not a saved state of the retro milestones, or are damaged")
    parts, offset = [], 0
    while offset < len(body):
        size = int.from_bytes(body[offset : offset + 8], "little")
        parts.append(body[offset + 8 : offset + 8 + size])
        offset += 8 + size
    variables, held, screens, emulator = parts
    return variables.decode(), held, screens, emulator
