"""The codes of the daemon: starting and commands, the ledger and the disk, cycles and publishing."""

from __future__ import annotations

from schemas.codes.code import Code

STARTING = {
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
    "E_LINK": Code(
        "a folder or file of Hotlap is a link, a pipe or a device: it is never followed",
        "put the folder or file itself there; State can be elsewhere with daemon.state_dir",
    ),
    "E_OTHER_PROJECT": Code(
        "Models or State belongs to another project, or to no project that is known",
        "use separate folders for each project; see `hotlap docs durability`",
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

LEDGER = {
    "E_LEDGER": Code("the ledger cannot be used", "`hotlap doctor` shows why"),
    "E_LEDGER_DAMAGED": Code("the ledger is damaged", "start the daemon: it rebuilds the ledger"),
    "E_LEDGER_NOT_A_FILE": Code(
        "a link or a folder has the name of the ledger or of its journal", "move it away, and start the daemon again"
    ),
    "E_LEDGER_NEWER": Code("a newer version of Hotlap wrote the ledger", "update Hotlap"),
    "E_LEDGER_LOCKED": Code("another program has the ledger open", "close it; the daemon then continues"),
    "E_LEDGER_READONLY": Code("the ledger cannot be written", "correct the permissions of Saved/Training/State"),
    "E_LEDGER_IO": Code("the disk failed while the ledger was used", "check the disk; the daemon tries again"),
    "E_DISK_FULL": Code("the disk is full", "free some space; the daemon then continues"),
    "W_LEDGER": Code("the ledger cannot be used now, so no cycle starts", "see the message; the daemon tries again"),
    "W_LEDGER_REBUILT": Code("the ledger was damaged and was rebuilt", "nothing; the damaged file is next to it"),
}

CYCLES = {
    "E_NO_ROLLOUTS": Code("no rollout can be trained on (exit code 3)", "let the engine write rollouts to Exports"),
    "E_ADOPT": Code(
        "a trained model cannot be adopted", "see the message; `hotlap adopt FILE --dry-run` only checks it"
    ),
    "E_NO_NEW_ROLLOUTS": Code(
        "all rollouts in Exports were used already (exit code 3)",
        "let the engine write new ones; `hotlap --once --again` or `hotlap trigger --again` uses the old ones again",
    ),
    "E_NO_MODEL": Code("the model does not exist", "`hotlap history` lists the published models"),
    "E_STOPPED": Code("Ctrl-C or a request to end stopped the cycle (exit code 130)", "start it again: it continues"),
    "E_CYCLE": Code("the cycle failed", "see the last lines of Saved/Training/Logs/cycle_<n>.log"),
    "E_PUBLISH": Code("the trainer's output cannot be published", "see the cycle's log"),
    "E_MODEL": Code(
        "a file is not a valid model JSON", "publish another model; `hotlap docs formats` describes the format"
    ),
    "E_PROBE": Code(
        "a model does not compute the outputs that its probe contains", "do not load it; publish another model"
    ),
    "W_CYCLE_FAILED": Code("a cycle failed; the next rollouts start another one", "see the cycle's log"),
    "W_OLDER_PARENT": Code(
        "training from the last published model fails, so the cycle continues from an older one",
        "nothing; if it happens again, look for very large rewards or observations",
    ),
    "W_PARKED": Code("several cycles failed in a row, so no cycle starts", "fix the cause, then run `hotlap trigger`"),
    "W_PUBLISH": Code(
        "a model cannot be published yet", "close programs that hold files in Models open; the daemon tries again"
    ),
    "W_COPIES": Code(
        "a file directly in Models is older than the published model, because it cannot be replaced",
        "correct what the message names; engines must load the path in best_model_path.txt",
    ),
    "W_SET_ASIDE": Code(
        "files of another program have names in Models that Hotlap uses, so they were moved to before_hotlap_<date>",
        "nothing; `hotlap adopt FILE` continues from a model among them",
    ),
    "W_BLOCKED": Code(
        "a file or folder had the name of a folder or file of Hotlap, so it was moved to <name>.set_aside_<date>",
        "nothing; move it to where it belongs",
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
    "W_LINK": Code(
        "a folder or file of Hotlap was replaced by a link while the daemon runs, so no cycle starts",
        "put the folder or file itself there; the daemon then continues",
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
