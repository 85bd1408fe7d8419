"""The trainer: it reads rollouts, and writes checkpoints and model JSON.

Import from here in your own code: the names in `__all__` are stable, the modules that define them are not. Each is
imported when it is first used, so that `import trainer` does not import torch.
"""

# Nothing may be imported here: `python -m trainer` runs this before `__main__` can drop the current folder from the
# search path, and a `typing.py` in a game's folder would run.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from trainer.checkpoints.policy import LoadedPolicy, load_policy
    from trainer.envs.gymnasium_env import GymnasiumVecEnv
    from trainer.envs.racing.vec_env import RacingVecEnv
    from trainer.envs.rocket.gymnasium_envs import RocketSimEnv, RocketVectorEnv
    from trainer.envs.vec_env import Step, VecEnv
    from trainer.networks.network import Network, Shape, Stacks, hidden_layers, orthogonal
    from trainer.ppo.loss import Evaluation, Loss, LossConfig, LossTerms, ppo_loss, value_error
    from trainer.rollouts.batch import Batch

_MODULES = {
    "trainer.checkpoints.policy": ("LoadedPolicy", "load_policy"),
    "trainer.envs.gymnasium_env": ("GymnasiumVecEnv",),
    "trainer.envs.racing.vec_env": ("RacingVecEnv",),
    "trainer.envs.rocket.gymnasium_envs": ("RocketSimEnv", "RocketVectorEnv"),
    "trainer.envs.vec_env": ("Step", "VecEnv"),
    "trainer.networks.network": ("Network", "Shape", "Stacks", "hidden_layers", "orthogonal"),
    "trainer.ppo.loss": ("Evaluation", "Loss", "LossConfig", "LossTerms", "ppo_loss", "value_error"),
    "trainer.rollouts.batch": ("Batch",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Batch",
    "Evaluation",
    "GymnasiumVecEnv",
    "LoadedPolicy",
    "Loss",
    "LossConfig",
    "LossTerms",
    "Network",
    "RacingVecEnv",
    "RocketSimEnv",
    "RocketVectorEnv",
    "Shape",
    "Stacks",
    "Step",
    "VecEnv",
    "hidden_layers",
    "load_policy",
    "orthogonal",
    "ppo_loss",
    "value_error",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name in _MODULE_OF:
        from importlib import import_module

        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'trainer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
