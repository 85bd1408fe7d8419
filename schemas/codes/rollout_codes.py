"""The codes of rollouts, and of the files in Exports."""

from __future__ import annotations

from schemas.codes.code import Code

ROLLOUTS = {
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
    "E_AGENTS": Code(
        "several agents share an agent_index in a rollout, and which row belongs to which cannot be recovered",
        "set AgentIndex in the exporter, a different number for each agent; see `hotlap docs unreal`",
    ),
    "W_AGENTS_MIXED": Code(
        "several agents share an agent_index; which row belongs to which was recovered from the observations",
        "set AgentIndex in the exporter, a different number for each agent; see `hotlap docs unreal`",
    ),
    "W_ODD_FILES": Code(
        "Exports contains links, pipes, folders or files with odd names; they are skipped", "remove them"
    ),
    "W_MISPLACED": Code(
        "files in Exports may be rollouts, but are in a sub-folder or have another name, so they are not read",
        "let the engine write rollout_<i>_<YYYYMMDD_HHMMSS>.json to Exports itself",
    ),
    "E_SUSPECT": Code(
        "a cycle failed because of a rollout: it was moved to Rejected, and the cycle was trained again without it",
        "correct what writes the value that is named; see the file <name>.reason.txt",
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
        "rollouts have the same content as earlier ones, or nearly the same; files with equal bytes count once",
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
