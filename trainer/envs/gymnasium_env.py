"""Any registered Gymnasium environment, through Gymnasium's own vector environments.

A policy's mean is in [-1, 1]; a bounded action is scaled from [-1, 1] to the environment's own range.
"""

from __future__ import annotations

import io
import logging
import multiprocessing
import signal
from contextlib import AbstractContextManager
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.contract import PolicyContract
from schemas.errors import ConfigError, HotlapError
from schemas.program.commands import install_command, pip_install
from trainer.common.user_code import describe, file_of, search_current_folder, search_folder
from trainer.envs.gymnasium_spaces import actions_of
from trainer.envs.observations import ObservationSpec
from trainer.envs.raised import from_workers, in_environment
from trainer.envs.vec_env import Float32, Observations, Step

log = logging.getLogger("trainer.envs")


def gymnasium() -> Any:
    """Import Gymnasium. Raises ConfigError (E_EXTRA) if it is not installed."""
    try:
        import gymnasium
    except ImportError:
        raise ConfigError("gymnasium is not installed", hint=install_command("online"), code="E_EXTRA") from None
    return gymnasium


def check_id(name: str) -> Any:
    """Return Gymnasium's specification of an environment; `module:id` and `file.py:id` import the module first.

    Raises ConfigError (E_ENV) if Gymnasium does not know it, or if the module cannot be imported.
    """
    gym = gymnasium()
    module, _, known_name = importable(name).rpartition(":")
    try:
        if module:
            import_module(module)
        return gym.spec(known_name)
    except (gym.error.Error, ImportError) as error:
        raise ConfigError(
            f"the environment {name} does not exist: {error}", hint=_hint_for(gym, error, name), code="E_ENV"
        ) from None
    except (Exception, SystemExit) as error:
        if isinstance(error, MemoryError):
            raise
        hint = f"correct {file_of(error) or module}"
        raise ConfigError(f"{module} cannot be imported: {describe(error)}", hint=hint, code="E_ENV") from error


def importable(name: str) -> str:
    """Return an environment's name with a module that can be imported: folders are searched, and `file.py` has one."""
    module, _, known_name = name.rpartition(":")
    if not module:
        return name
    search_current_folder()
    path = Path(module)
    if path.suffix != ".py":
        return name
    search_folder(path.parent)
    return f"{path.stem}:{known_name}"


def _hint_for(gym: Any, error: Exception, name: str) -> str:
    """Return what to do if an environment does not exist."""
    module, _, known_name = name.rpartition(":")
    if isinstance(error, gym.error.DeprecatedEnv | gym.error.VersionNotFound):
        return "use a version that exists"
    versions = [known for known in gym.registry if known.startswith(f"{known_name}-v")]
    if versions:
        return f"did you mean {max(versions, key=lambda known: (len(known), known))}?"
    if isinstance(error, ImportError):
        return f"install {error.name or module}, or run in the folder that contains it"
    if "Did you mean" in str(error):
        return "correct the name"
    if module:
        return f"{module} must register it with gymnasium.register, not with that of the older gym package"
    return "use racing, rocket, an id that Gymnasium knows, or import a module first, as in ale_py:ALE/Pong-v5"


def _leave_end_to_parent(env: Any) -> Any:
    """Let a worker's process ignore Ctrl-C and a closed terminal, which the console sends to it as well.

    The run then ends after its current batch, for which it needs the workers. They end with their parent.
    """
    if multiprocessing.parent_process() is not None:
        for name in ("SIGINT", "SIGHUP", "SIGBREAK"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
    return env


def _make(name: str, n_agents: int, workers: bool, options: dict[str, Any]) -> Any:
    """Return Gymnasium's vector environment. Raises ConfigError: E_EXTRA if a package is missing, else E_ENV."""
    gym = gymnasium()
    from trainer.envs.gymnasium_episodes import RepeatableEpisodes

    ends = (_leave_end_to_parent,) if workers else ()
    try:
        return gym.make_vec(
            importable(name),
            num_envs=n_agents,
            vectorization_mode="async" if workers else "sync",
            wrappers=(*options.pop("wrappers", ()), RepeatableEpisodes, *ends),
            vector_kwargs={"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP},
            **options,
        )
    except (gym.error.DependencyNotInstalled, ImportError) as error:
        hint = f"install what it needs; {name} may have a newer version"
        if extra := _extra_of(name):
            hint = pip_install(f"gymnasium[{extra}]")
        elif isinstance(error, ModuleNotFoundError) and error.name:
            hint = f"install {error.name}"
        elif file := file_of(error):
            hint = f"correct {file}, or install what it needs"
        raise ConfigError(f"{name} cannot be used: {error}", hint=hint, code="E_EXTRA") from None
    except gym.error.Error as error:
        hint = "set env.id to racing, rocket or an id that is registered with Gymnasium"
        message = f"Gymnasium cannot make the environment {name}: {error}"
        raise ConfigError(message, hint=hint, code="E_ENV") from None
    except HotlapError as error:
        raise ConfigError(f"{name}: {error.message}", hint=error.hint, code="E_ENV") from None
    except (Exception, SystemExit) as error:
        if isinstance(error, MemoryError):
            raise
        file = file_of(error)
        if isinstance(error, TypeError) and "argument" in str(error) and not file:
            message = f"{name} does not accept the arguments {options or '{}'}: {error}"
            raise ConfigError(message, hint="correct env.options (--env-options)", code="E_ENV") from None
        hint = f"correct {file}, or env.options (--env-options)" if file else "correct env.options (--env-options)"
        raise ConfigError(f"{name} cannot be created: {describe(error)}", hint=hint, code="E_ENV") from error


def _extra_of(name: str) -> str:
    """Return the extra of Gymnasium that one of its own environments needs, or "" if there is none."""
    module = str(check_id(name).entry_point).partition(":")[0].split(".")
    is_own = module[:2] == ["gymnasium", "envs"] and len(module) > 3
    return {"box2d": "box2d", "mujoco": "mujoco", "toy_text": "toy-text"}.get(module[2], "") if is_own else ""


class GymnasiumVecEnv:
    """A `trainer.envs.vec_env.VecEnv` of n copies of one environment; each copy has one agent.

    Observations of images are uint8 [n, height x width x channels].

    With `workers` each copy runs in its own process: faster if a step takes more than about 0.1 ms. Other `options` are
    those of `gymnasium.make_vec`. `notes` says what users should know about its spaces.
    """

    def __init__(self, name: str, n_agents: int, *, workers: bool = False, **options: Any) -> None:
        self._name, self.n_agents = name, n_agents
        self._envs = _make(name, n_agents, workers, options)
        self._processes: list[BaseProcess] = getattr(self._envs, "processes", [])
        self._actions = actions_of(self._envs.single_action_space, name)
        spec: ObservationSpec = self._envs.get_attr("observations_of_policy")[0]
        self.contract = PolicyContract(observation_size=spec.size, action_space=self._actions.space)
        self.image = spec if spec.is_image else None  #: None: observations are vectors
        self.has_bytes = self._envs.single_observation_space.dtype == np.uint8
        self.notes = tuple(filter(None, (spec.note, self._actions.note)))

    def reset(self, seed: int) -> Observations:
        """Start every copy, each with its own seed, and return the observations [n, O]."""
        first = int(np.random.SeedSequence(seed).generate_state(1)[0])
        with self._explained():
            observation, _ = self._envs.reset(seed=[(first + agent) % 2**31 for agent in range(self.n_agents)])
        return self._flatten(observation)

    def save_episodes(self) -> bytes:
        """Return the seeds and actions of the episodes that are not over, as an npz file."""
        columns: dict[str, Any] = {}
        for agent, episode in enumerate(self._envs.call("episode_so_far")):
            can_be_repeated = episode.actions is not None
            columns[f"start_{agent}"] = np.array([episode.seed, episode.number, can_be_repeated], np.int64)
            columns[f"actions_{agent}"] = np.array(episode.actions or ())
        out = io.BytesIO()
        np.savez_compressed(out, allow_pickle=False, **columns)
        return out.getvalue()

    def load_episodes(self, state: bytes) -> Observations:
        """Repeat the episodes that `save_episodes` saved and return the observations [n, O] after their last actions.

        Raises ValueError if an episode is too long to be repeated, or if the environment does something else this time.
        """
        from trainer.envs.gymnasium_episodes import LONGEST_REPEATED, EpisodeSoFar

        with np.load(io.BytesIO(state), allow_pickle=False) as saved:
            starts = [saved[f"start_{agent}"].tolist() for agent in range(self.n_agents)]
            actions = [list(saved[f"actions_{agent}"]) for agent in range(self.n_agents)]
        if not all(can_be_repeated for _, _, can_be_repeated in starts):
            raise ValueError(f"an episode has more than {LONGEST_REPEATED:,} steps")
        episodes = {
            seed: EpisodeSoFar(seed, number, taken) for (seed, number, _), taken in zip(starts, actions, strict=True)
        }
        with self._explained():
            self._envs.reset(seed=list(episodes))
            observations = self._envs.call("repeat", episodes)
        if any(observation is None for observation in observations):
            raise ValueError("an episode ended earlier than last time")
        return self._flatten(observations)

    def step(self, action: Float32) -> Step:
        """Advance each copy by one step. `action` is [n, A] in [-1, 1], or [n, 1] choices from 0."""
        with self._explained():
            observation, reward, terminated, truncated, info = self._envs.step(self._actions.convert(action))
        current = self._flatten(observation)
        ended = terminated | truncated
        successor = current
        if ended.any():
            successor = current.copy()
            for agent in np.flatnonzero(ended):
                successor[agent] = np.asarray(info["final_obs"][agent], current.dtype).reshape(-1)
        return Step(successor, current, np.asarray(reward, np.float32), terminated, truncated & ~terminated, {})

    def _flatten(self, observation: Any) -> Observations:
        """Return a copy [n, O]; float64 stays, because a clock needs its digits."""
        array = np.array(observation)
        dtype = array.dtype if array.dtype == np.float64 or self.image is not None else np.float32
        return array.astype(dtype).reshape(self.n_agents, -1)

    def _explained(self) -> AbstractContextManager[None]:
        return from_workers(self._name, self._processes)

    def _end_workers(self) -> None:
        """End the other processes if one is lost: Gymnasium would wait for its answer."""
        from gymnasium.vector.async_vector_env import AsyncState

        self._envs._state = AsyncState.DEFAULT
        self._envs.close(terminate=True)

    def render(self) -> npt.NDArray[np.uint8]:
        """Return an RGB image [height, width, 3] of the first copy, which needs the option render_mode="rgb_array".

        Raises ConfigError (E_EXTRA) if the environment cannot be rendered.
        """
        gym = gymnasium()
        try:
            return np.asarray(self._envs.render()[0], np.uint8)
        except (gym.error.Error, TypeError) as error:
            hint = "install what the environment needs for rendering; see its documentation"
            raise ConfigError(f"the environment cannot be rendered: {error}", hint=hint, code="E_EXTRA") from None

    def close(self) -> None:
        """Close every copy. What the environment raises is logged: it must not hide the result of a run."""
        try:
            with in_environment("close", self._name):
                if any(not process.is_alive() for process in self._processes):
                    self._end_workers()
                else:
                    self._envs.close()
        except HotlapError as error:
            log.warning("%s", error.message)
