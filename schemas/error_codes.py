"""All stable codes, with causes and remedies. docs/reference/errors.md is generated from this module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Code(NamedTuple):
    """The cause and the remedy of a code. Both are printed inside other sentences, so they begin in lower case."""

    cause: str
    remedy: str


_STARTING = {
    "E_CONFIG": Code(
        "a setting in daemon.toml, a variable or a flag is wrong", "correct it at the place that is named"
    ),
    "E_USAGE": Code("the arguments cannot be used together", "see `hotlap --help`"),
    "E_PROJECT": Code(
        "the project folder does not exist, or nothing can be created in it", "correct --project, or its permissions"
    ),
    "E_SHARED_CONFIG": Code(
        "another user can write to the settings file", "run `chmod go-w` on it, or use --allow-shared"
    ),
    "E_SHARED_FOLDER": Code(
        "another user owns the project folder or can write to it", "run `chmod go-w` on it, or use --allow-shared"
    ),
    "E_UNTRUSTED": Code("the settings name a program that you have not approved", "run `hotlap trust`"),
    "E_NO_HOME": Code("the user has no home folder, in which approvals are stored", "set HOME"),
    "E_LOCK": Code(
        "Saved/Training/State/daemon.lock cannot be opened", "run as the user who owns the project, or remove the file"
    ),
    "E_OTHER_DAEMON": Code("another daemon runs on this project (exit code 4)", "use that one, or stop it first"),
    "E_NO_DAEMON": Code("the command needs a running daemon, and none runs", "start it with `hotlap`"),
    "E_NO_ANSWER": Code("the running daemon does not answer", "see daemon.log; check that the disk is not blocked"),
    "E_PAUSED": Code("the project is paused, so no cycle starts", "run `hotlap resume`, then `hotlap trigger`"),
    "E_PACKAGE": Code("another package replaced Hotlap's package `daemon`", "install hotlap in its own environment"),
    "E_PAGE": Code("the documentation has no such page", "`hotlap docs` lists the pages"),
    "E_CODE": Code("the code does not exist", "`hotlap explain` lists the codes"),
    "E_DEVICE": Code(
        "trainer.device is a GPU that torch does not find", 'set it to "auto", or install a CUDA build of torch'
    ),
    "E_PYTHON": Code(
        "the file that python_executable names does not exist, or is not a Python that can be run",
        "correct it, or leave it empty",
    ),
    "E_TORCH": Code("the Python that runs the trainer has no torch", "install it there: `pip install torch`"),
    "E_SCRIPT": Code(
        "the file that training_script names does not exist", "give its path, absolute or relative to the project"
    ),
    "E_DAEMON": Code("the daemon cannot continue", "see the message; `hotlap doctor` shows more"),
    "E_HOTLAP": Code("a failure that has no code of its own", "see the message"),
    "E_OS": Code("the operating system refused access to a file", "check its permissions and the disk"),
    "E_ILLEGAL_STEP": Code("a cycle was about to take a step that does not exist: a bug", "report it with daemon.log"),
    "E_STALE_CYCLE": Code("another process changed a cycle in the ledger", "stop the second daemon on this ledger"),
}

_LEDGER = {
    "E_LEDGER": Code("the ledger cannot be used", "`hotlap doctor` shows why"),
    "E_LEDGER_DAMAGED": Code("the ledger is damaged", "start the daemon: it rebuilds the ledger from Models"),
    "E_LEDGER_NEWER": Code("a newer version of Hotlap wrote the ledger", "update Hotlap"),
    "E_LEDGER_LOCKED": Code("another program has the ledger open", "close it; the daemon then continues"),
    "E_LEDGER_READONLY": Code("the ledger cannot be written", "correct the permissions of Saved/Training/State"),
    "E_LEDGER_IO": Code("the disk failed while the ledger was used", "check the disk; the daemon tries again"),
    "E_DISK_FULL": Code("the disk is full", "free some space; the daemon then continues"),
    "W_LEDGER": Code("the ledger cannot be used now, so no cycle starts", "see the message; the daemon tries again"),
    "W_LEDGER_REBUILT": Code("the ledger was damaged and was rebuilt", "nothing; the damaged file is next to it"),
}

_ROLLOUTS = {
    "E_SCHEMA": Code("a rollout does not have the format of rollout JSON", "correct it; see `hotlap docs formats`"),
    "E_JSON": Code("a rollout is not valid JSON", "correct the exporter"),
    "E_TRUNCATED": Code(
        "a rollout ends before it is complete",
        "write it as <name>.tmp and rename it; check that the engine was not stopped",
    ),
    "E_EMPTY": Code(
        "a rollout is empty (Unreal writes 0 bytes for an empty string)", "export only if there are experiences"
    ),
    "E_NUL": Code("a rollout contains NUL bytes, as after a power cut", "write it as <name>.tmp and rename it"),
    "E_ENCODING": Code("a rollout is not UTF-8 and has no byte order mark", "write UTF-8"),
    "E_NONFINITE": Code("values are nan or inf", "look for a division by zero in the engine"),
    "E_DEPTH": Code("a rollout has too many nested lists or objects", "write flat lists"),
    "E_DUPKEY": Code("an object in a rollout contains a key twice", "write each key once"),
    "E_TOO_BIG": Code("a file is larger than allowed, or than memory", "write fewer experiences in a file"),
    "E_VERSION": Code("this Hotlap does not know the version of a rollout", "update Hotlap, or write version 2"),
    "E_CONTRACT": Code(
        "a rollout, a model or a setting has another shape than the project",
        "use another --project for the other shape",
    ),
    "E_NAME": Code("a file name is not valid UTF-8, or has white space at its end", "rename the file"),
    "E_SYMLINK": Code("a symbolic link is in the place of a file", "write the file itself"),
    "E_NOT_REGULAR": Code("a pipe, a folder or a device is in the place of a file", "remove it"),
    "E_PERMISSION": Code("the permissions of a file do not allow reading it", "correct them; the daemon tries again"),
    "E_HELD_OPEN": Code("another program holds a file open", "wait; the daemon tries again"),
    "E_UNREADABLE": Code("a file cannot be read now", "wait; the daemon tries again"),
    "E_CHANGING": Code("a file changes while it is read", "wait; the daemon tries again"),
    "E_GONE": Code("a file was removed before it was read", "nothing"),
    "E_REPLACED": Code(
        "the file of a rollout has other content now", "nothing; the new content counts as another rollout"
    ),
    "W_ODD_FILES": Code(
        "Exports contains links, pipes, folders or files with odd names; they are skipped", "remove them"
    ),
    "W_MISPLACED": Code(
        "files in Exports may be rollouts, but are in a sub-folder or have another name, so they are not read",
        "let the engine write rollout_<i>_<YYYYMMDD_HHMMSS>.json to Exports itself",
    ),
    "E_STORE": Code("the arrays of a rollout cannot be stored", "free some disk space; the daemon tries again"),
    "E_BUG": Code("an unexpected exception was raised: a bug", "report it with the log"),
    "W_REJECTED": Code("a file could not be used and was moved to Rejected", "see the file <name>.reason.txt there"),
    "W_UNREADABLE": Code("a file in Exports cannot be read", "correct its permissions; the daemon tries again"),
    "E_CHOICES": Code(
        "an action seems to be one of several choices, or does not fit agent.choices",
        "set agent.choices in daemon.toml to the number of choices or to their names",
    ),
    "W_NONFINITE": Code(
        "experiences with nan, inf or very large numbers were left out",
        "look for a division by zero in the engine, or set agent.observation_limit",
    ),
    "W_CONTRACT_TIE": Code(
        "as many rollouts have one shape as another, so no cycle starts", "remove the wrong ones, or set [agent]"
    ),
    "W_EXPORTS": Code(
        "the folder Exports cannot be listed",
        "check that the folder or the network share exists; the daemon tries again",
    ),
    "W_LONG_PATH": Code(
        "the project's path is so long that engines on Windows may be unable to open its files",
        "move the project to a folder with a shorter path",
    ),
    "W_CLOCK": Code(
        "the times of new rollouts, or this machine's clock, are wrong",
        "set the clocks right; rollouts are attributed to models by their log_probs, so nothing is lost",
    ),
    "W_REPEATED": Code(
        "rollouts have the same content as earlier ones, or nearly the same; equal content counts once",
        "start the game with another random seed each time",
    ),
    "W_CUMULATIVE": Code(
        "rollouts repeat experiences of earlier ones; only the new experiences count",
        "empty the exporter's buffer after each export, and store each experience once",
    ),
    "W_DOUBLE_DONE": Code(
        "an agent has two `done` in a row, without a step between them",
        "write one `done` for each episode, and no row until the next episode begins",
    ),
    "W_WATCHER": Code("the system reports no file events, so Exports is listed every few seconds", "nothing"),
}

_CYCLES = {
    "E_NO_ROLLOUTS": Code("no rollout can be trained on (exit code 3)", "let the engine write rollouts to Exports"),
    "E_NO_NEW_ROLLOUTS": Code(
        "all rollouts in Exports were used already (exit code 3)",
        "let the engine write new ones; `hotlap --once --again` or `hotlap trigger --again` uses the old ones again",
    ),
    "E_NO_MODEL": Code("the model does not exist", "`hotlap history` lists the published models"),
    "E_CYCLE": Code("the cycle failed", "see the last lines of Saved/Training/Logs/cycle_<n>.log"),
    "E_PUBLISH": Code("the trainer's output cannot be published", "see the cycle's log"),
    "E_MODEL": Code(
        "a file is not a valid model JSON", "publish another model; `hotlap docs formats` describes the format"
    ),
    "E_PROBE": Code(
        "a model does not compute the outputs that its probe contains", "do not load it; publish another model"
    ),
    "W_CYCLE_FAILED": Code("a cycle failed; the next rollouts start another one", "see the cycle's log"),
    "W_PARKED": Code("several cycles failed in a row, so no cycle starts", "fix the cause, then run `hotlap trigger`"),
    "W_PUBLISH": Code(
        "a model cannot be published yet", "close programs that hold files in Models open; the daemon tries again"
    ),
    "W_COPIES": Code(
        "a file directly in Models is older than the published model, because a program has it open",
        "close that program; engines must load the path in best_model_path.txt",
    ),
    "W_POINTER": Code(
        "the file best_model_path.txt is wrong and cannot be repaired", "correct the permissions of Models"
    ),
    "W_STATUS": Code(
        "the file status.json cannot be written", "free some disk space; correct the permissions of Saved/Training"
    ),
    "W_DISK": Code(
        "the disk has too little space to train, so no cycle starts", "free some; the daemon then continues"
    ),
    "W_LAUNCH": Code(
        "the trainer cannot be started, and rollouts wait", "correct what the message names; the daemon tries again"
    ),
    "W_STUCK": Code("a trainer cannot be killed, because a driver or the disk blocks it", "restart the machine"),
    "W_ORDER": Code("the daemon could not handle a command", "give the command again"),
    "W_SYSTEM": Code("the operating system refuses an operation now", "see the message; the daemon tries again"),
    "W_INTERNAL": Code("the daemon's loop raised an exception and continues: a bug", "report it with daemon.log"),
    "W_LOCK": Code("the lock file was removed or replaced while the daemon runs", "leave the folder State alone"),
    "W_CONFIG": Code("the file daemon.toml was changed, and the old settings stay in use", "restart the daemon"),
}

_TRAINER = {
    "E_JOB": Code("the trainer cannot read its job", "install daemon and trainer from the same version"),
    "E_OUTPUT": Code("the trainer cannot write to its folder", "correct its permissions; free some disk space"),
    "E_PARENT": Code("the parent model cannot be used", "publish another one with `hotlap publish`"),
    "E_CHECKPOINT": Code("a checkpoint cannot be loaded safely", "use one that a trainer of this version wrote"),
    "E_NO_EPOCH": Code("the epoch does not exist", "choose one of the checkpoints in the cycle's folder"),
    "E_MEMORY": Code("memory ran out", "use fewer rollouts, a smaller batch_size, or more memory"),
    "E_DISK": Code("the trainer cannot use the disk", "free some space; check the disk"),
    "W_LEFT_OUT": Code(
        "experiences with nan, inf or very large numbers were left out",
        "look for a division by zero in the engine, or set agent.observation_limit",
    ),
    "W_DEAD_OBSERVATION": Code("some observations never change", "check the sensors with the numbers that are named"),
    "W_OBSERVATION_RANGE": Code(
        "an observation is sometimes much larger than usual, so that its other values hardly count",
        "set agent.observation_limit, and clamp in the engine too",
    ),
    "W_ACTION_BOUNDS": Code("recorded actions are outside their bounds", "record actions after they are clamped"),
    "W_AGENTS_MIXED": Code("several agents seem to share an agent_index", "give each agent its own"),
    "W_CONSTANT_REWARD": Code(
        "all rewards are equal, so the policy cannot learn from them", "reward better behaviour more"
    ),
    "W_REWARD_SCALE": Code("rewards are very large or very small", "scale them to about 0.01 to 100 per step"),
    "W_LOGP_BROKEN": Code(
        "the recorded log_probs are missing, all equal, or not log densities",
        "record the log density of the clamped action",
    ),
    "W_LOGP_MISMATCH": Code(
        "the recorded log_probs fit no published model", "check that the engine loads the published models"
    ),
    "W_STRANGER": Code(
        "the engine uses weights of its own", "nothing; this is expected until it loads a published model"
    ),
    "W_EARLY_ROLLOUTS": Code(
        "rollouts that are older than the project's models, recorded with another policy, were trained on",
        "nothing; they count less, the less the present policy would act like them",
    ),
    "W_FAR_STRANGER": Code(
        "the behaviour policy is too far from the new policy, so this cycle trains the value function only",
        "let the engine load the published models",
    ),
    "W_STALE": Code("the engine uses an old model", "let it read best_model_path.txt more often"),
    "W_CANARY": Code("the trainer's check of its own log_probs failed: a bug", "report it with the cycle's log"),
    "W_CHECKPOINT": Code("a checkpoint was left out of the ranking", "see the message"),
    "W_EPOCH": Code(
        "the epoch that auto_load_model_epoch asks for cannot be published; the best one was",
        "set auto_load_model_epoch = 0",
    ),
    "W_OPTIMIZER": Code("the parent's optimizer state does not fit, so the optimizer starts from scratch", "nothing"),
    "W_ANALYTIC_GRADIENT": Code(
        "this version of torch does not have, or changed, what the fast gradient needs; autograd is used",
        "nothing, or `pip install torch==2.13.0` there to train faster",
    ),
    "W_ROLLOUT_SKIPPED": Code(
        "a rollout could not be read again and was left out", "do not change or remove files in Exports"
    ),
}

_WITHOUT_AN_ENGINE = {
    "E_ENV": Code("an environment cannot be created, or it raised an exception", "correct its name, or fix it"),
    "E_ENV_NAN": Code("the environment returned nan or inf", "fix it; the last checkpoint is not affected"),
    "E_STATE": Code(
        "a start state is missing, damaged, or from another game",
        "delete it; the milestone before it creates it again",
    ),
    "E_EXTRA": Code("a package that this needs is not installed", "install the extra that the message names"),
    "E_NO_RUN": Code("the run to continue does not exist", "start without --resume"),
    "E_BUSY": Code("another run uses this folder", "wait for it, stop it, or use another folder"),
    "E_DIVERGED": Code(
        "the policy contains weights that are not finite",
        "lower the learning rate, then continue from the last checkpoint",
    ),
}

_EXPERTS = {
    "E_EXPERT": Code("an expert cannot be used", "see the message"),
    "E_EXPERT_MISSING": Code("a milestone has no expert", "write <policy-dir>/<MILESTONE_ID>.py"),
    "E_EXPERT_NO_RUN": Code("an expert does not define run(state)", "define it; see `hotlap docs dagger`"),
    "E_EXPERT_RAISED": Code("an expert raised an exception", "fix it at the line that the message names"),
    "E_EXPERT_HUNG": Code("one call of an expert took too long", "make it faster, or raise --expert-timeout"),
    "E_EXPERT_DIED": Code("the process of an expert ended", "see the milestone's log"),
    "E_EXPERT_NONSENSE": Code(
        "an expert returned something that is not an action", "return an index, a name or an array"
    ),
    "E_EXPERT_WEAK": Code("an expert succeeds too rarely to learn from it", "improve it, or lower --min-success-rate"),
}

SECTIONS: Mapping[str, Mapping[str, Code]] = {
    "Starting, and commands": _STARTING,
    "The ledger and the disk": _LEDGER,
    "Rollouts": _ROLLOUTS,
    "Cycles and publishing": _CYCLES,
    "The trainer, and what it finds in the data": _TRAINER,
    "Training without an engine": _WITHOUT_AN_ENGINE,
    "Experts": _EXPERTS,
}
CODES: Mapping[str, Code] = {name: code for codes in SECTIONS.values() for name, code in codes.items()}

_INTRODUCTION = """\
# Error and warning codes

<!-- generated by `python -m schemas.generate` from schemas/error_codes.py -->

Every message ends with its code. `E_...` is an error: the operation was stopped. `W_...` is a warning; the daemon
continues. Codes are stable: scripts can rely on them. `hotlap explain E_TORCH` prints one entry of this page, and
`hotlap doctor` checks a project for the causes."""


def remedy_for(code: str) -> str:
    """Return what to do about a code; "" if it is unknown. `W_TRAINER_<code>` is the trainer's `<code>`."""
    known = CODES.get(code) or CODES.get(code.removeprefix("W_TRAINER_"))
    return known.remedy if known else ""


def errors_page() -> str:
    """Return docs/reference/errors.md: with a heading for each code, for links."""
    lines = [_INTRODUCTION]
    for title, codes in SECTIONS.items():
        lines.append(f"\n## {title}")
        for name, code in sorted(codes.items()):
            lines += [f"\n### {name}", "", f"{_sentence(code.cause)} What to do: {code.remedy}."]
    return "\n".join(lines) + "\n"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
