"""The commands of `python -m trainer`: the function that each one runs, and its line in the help."""

from __future__ import annotations

from typing import NamedTuple


class Program(NamedTuple):
    """One command."""

    function: str  #: module:function, imported when the command is used
    help: str


PROGRAMS = {
    "train": Program("trainer.train_cli:main", "train once on a folder of rollouts, without a daemon"),
    "online": Program("trainer.online.cli:main", "train in environments that run in this process, without an engine"),
    "dagger": Program("trainer.dagger.cli:main", "train policies from scripted experts, milestone by milestone"),
    "clone": Program("trainer.dagger.demonstrations.cli:main", "train a policy from recorded play"),
    "simulate": Program("trainer.simulate.cli:main", "run a simulated engine: it loads models and writes rollouts"),
    "find-best": Program("trainer.checkpoint_cli:find_best", "rank a folder's checkpoints"),
    "export-best": Program("trainer.checkpoint_cli:find_and_export", "export a folder's best checkpoint"),
    "export": Program("trainer.checkpoint_cli:export_one", "convert one checkpoint to model JSON"),
    "serve": Program("trainer.cli:serve", "run one job for the daemon: job on stdin, events on stdout"),
}
