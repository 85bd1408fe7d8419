"""Every stable code that users may meet, once: what it means and what to do. docs/errors.md is made from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Code(NamedTuple):
    """What a code means, and its remedy."""

    cause: str
    remedy: str


_STARTING = {
    "E_CONFIG": Code("daemon.toml, a variable or a flag cannot be used", "correct it at the line that is named"),
    "E_USAGE": Code("the arguments do not fit together", "`hotlap --help`"),
    "E_PROJECT": Code(
        "the project folder is not there, or nothing can be made in it", "correct --project, or its rights"
    ),
    "E_SHARED_CONFIG": Code("another user could have written the settings", "`chmod go-w` it, or --allow-shared"),
    "E_SHARED_FOLDER": Code("another user can write in the project, or owns it", "`chmod go-w` it, or --allow-shared"),
    "E_UNTRUSTED": Code("the settings name a program that you have not approved", "`python -m daemon trust`"),
    "E_NO_HOME": Code("there is no home folder to keep approvals in", "set HOME"),
    "E_LOCK": Code(
        "the project's lock cannot be opened", "run as the user who owns the project; see State/daemon.lock"
    ),
    "E_OTHER_DAEMON": Code("another daemon serves this project (exit code 4)", "use that one, or stop it first"),
    "E_NO_DAEMON": Code("the command is for a running daemon, and none runs", "start it with `python -m daemon`"),
    "E_NO_ANSWER": Code("the running daemon does not answer", "see daemon.log; is it stopped or the disk stuck?"),
    "E_PAUSED": Code("the project is paused, so no cycle starts", "`hotlap resume`, then `hotlap trigger`"),
    "E_PACKAGE": Code("another package replaced Hotlap's package `daemon`", "install hotlap in its own environment"),
    "E_PAGE": Code("there is no such page of the documentation", "`hotlap docs` lists the pages"),
    "E_CODE": Code("there is no such code", "`hotlap explain` lists the codes"),
    "E_PYTHON": Code("python_executable is not there, not executable, or no Python", "correct it, or leave it empty"),
    "E_TORCH": Code("the trainer's Python has no torch", "`pip install torch==2.13.0` there"),
    "E_SCRIPT": Code("training_script is not there", "give its path, relative to the project or absolute"),
    "E_DAEMON": Code("the daemon cannot go on", "the message says why; `python -m daemon doctor` looks closer"),
    "E_HOTLAP": Code("something expected failed", "the message says what"),
    "E_OS": Code("the system refused a file", "check its rights and the disk"),
    "E_ILLEGAL_STEP": Code("a cycle was to take a step that does not exist: a bug", "report it with daemon.log"),
    "E_STALE_CYCLE": Code("someone else moved a cycle", "stop the second daemon on this ledger"),
}

_LEDGER = {
    "E_LEDGER": Code("the ledger cannot be used", "`python -m daemon doctor` says why"),
    "E_LEDGER_DAMAGED": Code("the ledger is damaged", "start the daemon: it rebuilds it from Models"),
    "E_LEDGER_NEWER": Code("the ledger is of a newer Hotlap", "update Hotlap"),
    "E_LEDGER_LOCKED": Code("another program has the ledger open", "close it; the daemon goes on by itself"),
    "E_LEDGER_READONLY": Code("the ledger cannot be written", "correct the rights of Saved/Training/State"),
    "E_LEDGER_IO": Code("the disk failed under the ledger", "is the disk sound? the daemon tries again"),
    "E_DISK_FULL": Code("the disk is full", "make room; the daemon goes on by itself"),
    "W_LEDGER": Code(
        "the ledger refuses just now; no cycle starts meanwhile", "see the message; the daemon tries again"
    ),
    "W_LEDGER_REBUILT": Code("the ledger was damaged and rebuilt", "nothing to do; the old one lies beside it"),
}

_ROLLOUTS = {
    "E_SCHEMA": Code("a rollout does not keep to its format", "correct the exporter; docs/formats.md"),
    "E_JSON": Code("a rollout is no JSON", "correct the exporter"),
    "E_TRUNCATED": Code("a rollout ends too early", "write to <name>.tmp and rename; was the engine stopped?"),
    "E_EMPTY": Code("a rollout is empty", "Unreal writes 0 bytes for an empty string: export when there is data"),
    "E_NUL": Code("a rollout holds NUL bytes", "its writer or the power was cut; write to <name>.tmp and rename"),
    "E_ENCODING": Code("a rollout is no UTF-8 and has no byte order mark", "write UTF-8"),
    "E_NONFINITE": Code("values are nan or inf", "look in the engine for a division by zero"),
    "E_DEPTH": Code("a rollout is nested too deep", "write flat lists"),
    "E_DUPKEY": Code("a rollout names a key twice", "name each key once"),
    "E_TOO_BIG": Code("a file is larger than allowed, or than memory", "write fewer experiences a file"),
    "E_VERSION": Code("a rollout is of a version that this Hotlap does not know", "update Hotlap, or write version 2"),
    "E_CONTRACT": Code("a rollout, a model or a setting has another shape than the project", "use another --project"),
    "E_NAME": Code("a file's name is no text", "give it another name"),
    "E_SYMLINK": Code("a symbolic link lies where a file is due", "write the file itself"),
    "E_NOT_REGULAR": Code("a pipe, a folder or a device lies where a file is due", "remove it"),
    "E_PERMISSION": Code("a file may not be read", "correct its rights; the daemon tries again"),
    "E_HELD_OPEN": Code("another program holds a file open", "wait; the daemon tries again"),
    "E_UNREADABLE": Code("a file cannot be read just now", "wait; the daemon tries again"),
    "E_CHANGING": Code("a file changes while it is read", "wait; the daemon tries again"),
    "E_GONE": Code("a file was removed before it was read", "nothing to do"),
    "E_REPLACED": Code("a rollout's file holds something else by now", "nothing: the new content counts by itself"),
    "W_ODD_FILES": Code("links, pipes, folders or odd names lie in Exports and are left alone", "remove them"),
    "E_STORE": Code("a rollout's arrays cannot be stored", "make room on the disk; the daemon tries again"),
    "E_BUG": Code("an exception that nobody expected", "report it with the log"),
    "W_REJECTED": Code("a file could not be used and lies in Rejected", "its .reason.txt says why"),
    "W_UNREADABLE": Code("a file in Exports cannot be read", "correct its rights; the daemon tries again"),
    "W_NONFINITE": Code("experiences that were not finite were left out", "look in the engine for a division by zero"),
    "W_EXPORTS": Code("Exports cannot be listed", "is the folder or the share there? the daemon looks again"),
    "W_WATCHER": Code("there are no file events; the folder is listed every few seconds", "none is needed"),
}

_CYCLES = {
    "E_NO_ROLLOUTS": Code("there is nothing to train on (exit code 3)", "let the engine write rollouts into Exports"),
    "E_NO_MODEL": Code("there is no such published model", "`python -m daemon history` lists them"),
    "E_CYCLE": Code("the cycle failed", "its log, Saved/Training/Logs/cycle_<n>.log, has the last words"),
    "E_PUBLISH": Code("what the trainer left cannot go before the engine", "see the cycle's log"),
    "E_MODEL": Code("a file is no model JSON", "publish another; docs/formats.md"),
    "E_PROBE": Code("a model computes something else than its probe says", "do not load it; publish another"),
    "W_CYCLE_FAILED": Code("a cycle failed; the next rollouts start another", "see the cycle's log"),
    "W_PARKED": Code("cycles failed in a row, so none starts", "mend the reason, then `python -m daemon trigger`"),
    "W_PUBLISH": Code("a model cannot be published yet; it is tried again", "does a program hold the file open?"),
    "W_POINTER": Code("best_model_path.txt cannot be mended", "correct the rights of Models"),
    "W_STATUS": Code("status.json cannot be written", "make room; correct the rights of Saved/Training"),
    "W_DISK": Code("there is too little room to train; no cycle starts", "make room; the daemon goes on by itself"),
    "W_LAUNCH": Code("the trainer cannot be started; rollouts wait", "correct what is named; it is tried again"),
    "W_STUCK": Code("a trainer cannot be killed (a driver or the disk holds it)", "restart the machine"),
    "W_ORDER": Code("an order from the command line could not be answered", "give it again"),
    "W_SYSTEM": Code("the system refuses something just now", "see the message; the daemon tries again"),
    "W_INTERNAL": Code("one pass of the daemon failed; it goes on", "report it with daemon.log"),
    "W_LOCK": Code("the lock file was removed or replaced while the daemon runs", "leave State alone"),
    "W_CONFIG": Code("daemon.toml was changed; the old settings stay", "start the daemon anew"),
}

_TRAINER = {
    "E_JOB": Code("the trainer was given no job that it understands", "are daemon and trainer of one version?"),
    "E_OUTPUT": Code("the trainer cannot write its folder", "correct its rights; make room"),
    "E_PARENT": Code("the model to go on from cannot be used", "publish another: `python -m daemon publish`"),
    "E_CHECKPOINT": Code("a checkpoint cannot be loaded safely", "use one that a trainer of this version wrote"),
    "E_NO_EPOCH": Code("there is no such epoch", "look into the cycle's folder for those it has"),
    "E_MEMORY": Code("memory ran out", "fewer rollouts, a smaller batch_size, or more memory"),
    "E_DISK": Code("the disk refused the trainer", "make room; check the disk"),
    "W_LEFT_OUT": Code("experiences that were not finite were left out", "look in the engine for a division by zero"),
    "W_DEAD_OBSERVATION": Code("observations never change", "look at the sensors with these numbers"),
    "W_ACTION_BOUNDS": Code("recorded actions lie outside their bounds", "record actions after clamping"),
    "W_AGENTS_MIXED": Code("agents seem to share an agent_index", "give each agent its own"),
    "W_CONSTANT_REWARD": Code("every reward is the same", "give more for what is better"),
    "W_REWARD_SCALE": Code("rewards are of an unusual size", "scale them to about 0.01 to 100 a step"),
    "W_LOGP_BROKEN": Code("the recorded log_probs are none", "record the log density of the clamped action"),
    "W_LOGP_MISMATCH": Code("the recorded log_probs fit no published model", "does the engine load the models?"),
    "W_STRANGER": Code("the engine plays weights of its own", "nothing: expected until it loads a published model"),
    "W_FAR_STRANGER": Code("who played is far from the model that is trained", "let the engine load published models"),
    "W_STALE": Code("the engine plays an older model", "let it look at best_model_path.txt more often"),
    "W_CANARY": Code("the trainer's own check of its log_probs failed", "report it with the cycle's log"),
    "W_CHECKPOINT": Code("a checkpoint was left out of the ranking", "see the message"),
    "W_EPOCH": Code("the epoch asked for cannot be published", "set auto_load_model_epoch = 0"),
    "W_OPTIMIZER": Code("the optimizer starts anew", "nothing to do"),
    "W_ROLLOUT_SKIPPED": Code("a rollout could not be read again and was left out", "leave files in Exports alone"),
}

_WITHOUT_AN_ENGINE = {
    "E_ENV": Code("an environment cannot be made, or raised while it played", "correct its name or mend it"),
    "E_ENV_NAN": Code("an environment gave numbers that are none", "mend it; the last checkpoint is whole"),
    "E_STATE": Code(
        "a start state is missing, torn or another game's", "delete it: the milestone before makes it anew"
    ),
    "E_EXTRA": Code("a package that this needs is not installed", "install the extra that the message names"),
    "E_NO_RUN": Code("there is no run to go on with", "start without --resume"),
    "E_BUSY": Code("another run uses this folder", "wait for it, stop it, or use another folder"),
    "E_DIVERGED": Code("the policy holds weights that are not finite", "lower the learning rate, then --resume"),
}

_EXPERTS = {
    "E_EXPERT": Code("an expert cannot be used", "the message says in which way"),
    "E_EXPERT_MISSING": Code("a milestone has no expert", "write <policy-dir>/<MILESTONE_ID>.py"),
    "E_EXPERT_NO_RUN": Code("an expert has no run(state)", "define run(state) in it; docs/dagger.md"),
    "E_EXPERT_RAISED": Code("an expert raised an exception", "mend it at the line that is named"),
    "E_EXPERT_HUNG": Code("an expert took too long for one call", "make it faster, or raise --expert-timeout"),
    "E_EXPERT_DIED": Code("an expert's process ended", "see the milestone's log"),
    "E_EXPERT_NONSENSE": Code("an expert gave something that is no action", "give an index, a name or an array"),
    "E_EXPERT_WEAK": Code("an expert succeeds too rarely to learn from", "mend it, or lower --min-success-rate"),
}

CODES: Mapping[str, Code] = {
    **_STARTING,
    **_LEDGER,
    **_ROLLOUTS,
    **_CYCLES,
    **_TRAINER,
    **_WITHOUT_AN_ENGINE,
    **_EXPERTS,
}
SECTIONS: Mapping[str, Mapping[str, Code]] = {
    "Starting, and orders": _STARTING,
    "The ledger and the disk": _LEDGER,
    "Rollouts": _ROLLOUTS,
    "Cycles and publishing": _CYCLES,
    "The trainer, and what it sees in the data": _TRAINER,
    "Training without an engine": _WITHOUT_AN_ENGINE,
    "Experts": _EXPERTS,
}


def remedy_for(code: str) -> str:
    """Return what to do about a code; empty for one that is not known. `W_TRAINER_<code>` is the trainer's `<code>`."""
    known = CODES.get(code) or CODES.get(code.removeprefix("W_TRAINER_"))
    return known.remedy if known else ""


def errors_page() -> str:
    """Return docs/errors.md."""
    lines = [
        "# What the codes mean",
        "",
        "<!-- made by `python -m schemas.generate` from schemas/error_codes.py -->",
        "",
        "Every message ends with its code. `E_...` stops what was asked for; `W_...` is a warning, the daemon goes on.",
        "In status.json a trainer's warning is `W_TRAINER_` and its code. `python -m daemon doctor` looks for it all.",
    ]
    for title, codes in SECTIONS.items():
        lines += ["", f"## {title}", "", "| code | what it means | what to do |", "|---|---|---|"]
        lines += [f"| `{name}` | {code.cause} | {code.remedy} |" for name, code in sorted(codes.items())]
    return "\n".join(lines) + "\n"
