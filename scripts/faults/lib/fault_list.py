"""The 72 rows of the fault table in docs/lab/faults.md: what goes wrong, and what happens then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Row(NamedTuple):
    """One fault."""

    fault: str
    outcome: str


SECTIONS: Mapping[str, range] = {
    "Input files": range(1, 28),
    "Watcher": range(28, 36),
    "Crash, disk, clock": range(36, 51),
    "Trainer": range(51, 64),
    "Engine side, console, config, instances": range(64, 73),
}

_INPUT = {
    1: Row("truncated JSON", "waits for the rest, then rejected as E_TRUNCATED; not counted"),
    2: Row("written in place, slowly", "waits, counted once, as it was at the end"),
    3: Row("a writer that stalls and continues", "waits until `incomplete_timeout_s`; counted once"),
    4: Row("a name written again with other content, before it is used", "both contents count, each once"),
    5: Row("written again while it is trained on", "the training continues with the accepted content"),
    6: Row("deleted while it is trained on", "no effect: its arrays are stored"),
    7: Row("the same content under two names", "counts once, with a log line"),
    8: Row("a name used again after a restart or a repeated hour", "other content counts"),
    9: Row("0 bytes", "waits, then rejected as E_EMPTY"),
    10: Row("NUL bytes", "waits, then rejected as E_NUL"),
    11: Row("byte order marks, UTF-16, UTF-32", "read as the same rollout"),
    12: Row("nan, inf, 1e999", "those experiences are left out and counted; none reaches the trainer"),
    13: Row("numbers at the edge: huge, denormal, -0.0, 2^64", "what float32 can hold is used, else left out"),
    14: Row("a nesting bomb", "rejected as E_DEPTH within a second"),
    15: Row("a size bomb, sparse or real", "rejected as E_TOO_BIG without being read"),
    16: Row("a key named twice", "rejected as E_DUPKEY"),
    17: Row("lone surrogates, NUL in texts", "rejected or escaped; the ledger is not affected"),
    18: Row("against the schema", "rejected as E_SCHEMA, naming the field; its neighbours are used"),
    19: Row("another observation size in the middle", "rejected as E_CONTRACT; shapes are never mixed"),
    20: Row("a pipe, socket, folder or device with a rollout's name", "never opened; a warning names it"),
    21: Row("links: to a secret, to itself, to nothing", "never followed; nothing of the target is copied"),
    22: Row("names with markup, escapes, newlines, invalid UTF-8", "used or rejected, and shown escaped"),
    23: Row("other case, .json.tmp, ~$x.json", "as documented; temporary files are never opened"),
    24: Row("a file that may not be read", "tried again, with a warning; counted when it can be read"),
    25: Row("a read error in the middle", "tried again; does not count as bad JSON"),
    26: Row("50,000 files at once", "all accepted, in order, in bounded memory"),
    27: Row("file times in the future, in 1970, all equal", "no stall; each counts once"),
}

_WATCHER = {
    28: Row("the event queue overflows", "the next scan finds everything"),
    29: Row("no events at all", "the same, a little later"),
    30: Row("the system allows no more watches", "continues with folder scans, and names the limit"),
    31: Row("Exports deleted, replaced, renamed, unmounted", "waits for it and continues; nothing is lost"),
    32: Row("the watcher's thread dies", "noticed at the next scan and started again"),
    33: Row("the handler fails", "logged; the watcher continues"),
    34: Row("reading causes events itself", "no wake-ups beyond the timer"),
    35: Row("the listing fails sometimes", "tried again with a growing delay and a warning"),
}

_CRASH = {
    36: Row("kill -9 at every system call of a publish", "the old model or the new one, never half; finished later"),
    37: Row("kill -9 at every named step of a cycle", "the next start continues"),
    38: Row("the power fails, as a model of the disk", "the same; a published model stays"),
    39: Row("the power fails, on a real file system", "the same"),
    40: Row("the disk is full at each write", "no cycle starts, the old model stays; continues by itself"),
    41: Row("a size limit or a quota", "the same"),
    42: Row("fsync fails", "the attempt is aborted; a new file is tried"),
    43: Row("a rename is refused", "tried again for 2.5 s, then at each pass; the old pointer stays"),
    44: Row("write-protected", "refused at the start with the reason; later: no cycle starts"),
    45: Row("no more file descriptors", "tried again with a growing delay"),
    46: Row("the ledger damaged, empty, gone, newer, locked", "kept as a copy and rebuilt, or refused with the reason"),
    47: Row("the clock jumps", "delays use the monotonic clock; cycles are ordered by number"),
    48: Row("the machine sleeps in the middle of a training", "the time asleep does not count as silence"),
    49: Row("SIGTERM, SIGINT, SIGHUP, also twice", "ends within 10 s, after the second signal at once"),
    50: Row("10,000 cycles", "memory, handles and threads stay flat"),
}

_TRAINER = {
    51: Row("no interpreter, no torch, not executable", "reported with the command; rollouts stay pending"),
    52: Row("the trainer ends with an error", "tried again with a growing delay; three in a row park"),
    53: Row("it exits with 0 and leaves no files", "a failure; nothing is published"),
    54: Row("it hangs, is stopped, ignores SIGTERM", "terminated or killed within the limits; the next cycle runs"),
    55: Row("it cannot be killed", "reported; no second trainer is started"),
    56: Row("memory runs out", "reported; tried again as often as the settings allow"),
    57: Row("the daemon is killed while it trains", "the trainer ends within seconds, or at the next start"),
    58: Row("it starts processes that leave its session", "all are gone once it ended"),
    59: Row("it floods its output", "the log is capped; it is never blocked"),
    60: Row(
        "losses that are nan, rise, are equal or missing",
        "such an epoch is not chosen; of equal epochs, the earliest is",
    ),
    61: Row("a torn or poisoned checkpoint", "refused before it is loaded; no code in it runs"),
    62: Row("a model with nan, or that fails its probe", "not published"),
    63: Row("a pid that is used again", "the other process is not touched"),
}

_AROUND = {
    64: Row("an engine reads at any moment", "a whole model, never an older one than before"),
    65: Row(
        "an engine still uses an old model while cycles are removed",
        "the newest, and all younger than an hour, stay",
    ),
    66: Row("status.json is read, or its daemon is dead", "always valid; heartbeat, pid and start time show it"),
    67: Row("a second daemon, twenty at once, the lock file deleted", "one runs; the others exit 4 and name it"),
    68: Row("a console that hangs, closes, is tiny or missing", "cycles continue; log lines without a dashboard"),
    69: Row("a config broken, or changed meanwhile", "refused with the line; the old settings stay, with a warning"),
    70: Row("a config that names other programs", "nothing is started before the user approved it"),
    71: Row("folders or a config that others can write or own", "refused, or --allow-shared"),
    72: Row("odd paths: spaces, Unicode, %, [x], 300 characters", "work"),
}

ROWS: Mapping[int, Row] = {**_INPUT, **_WATCHER, **_CRASH, **_TRAINER, **_AROUND}
