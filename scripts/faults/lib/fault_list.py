"""The rows of the fault table in docs/lab/faults.md: each fault, and what Hotlap does."""

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
    "Failures that the data or the parent cause": range(73, 78),
    "A damaged ledger": range(80, 85),
    "Stored arrays and trainers' results": range(85, 90),
    "Entries of other programs, daemons in containers": range(90, 94),
    "A folder that came from someone else, or was moved": range(95, 100),
}

_INPUT = {
    1: Row("truncated JSON", "waits for the rest, then rejected as E_TRUNCATED; not counted"),
    2: Row("written in place, slowly", "waits; counted once with its complete content"),
    3: Row("a writer that stalls and continues", "waits until `incomplete_timeout_s`; counted once"),
    4: Row("a name written again with other content, before it is used", "both contents count, each once"),
    5: Row("written again while it is trained on", "the training continues with the accepted content"),
    6: Row("deleted while it is trained on", "no effect: its arrays are stored"),
    7: Row("the same content under two names", "counted once, with a warning"),
    8: Row("a name used again after a restart or a repeated hour", "counted if the content is new"),
    9: Row("0 bytes", "waits, then rejected as E_EMPTY"),
    10: Row("NUL bytes", "waits, then rejected as E_NUL"),
    11: Row("byte order marks, UTF-16, UTF-32", "read as the same rollout"),
    12: Row("nan, inf, 1e999", "those experiences are left out and counted; none reaches the trainer"),
    13: Row("extreme numbers: huge, denormal, -0.0, 2^64", "used if float32 can represent them, else left out"),
    14: Row("extremely deep nesting", "rejected as E_DEPTH within a second"),
    15: Row("an extremely large file, sparse or real", "rejected as E_TOO_BIG without being read"),
    16: Row("a key that occurs twice", "rejected as E_DUPKEY"),
    17: Row("lone surrogates, NUL in texts", "rejected or escaped; the ledger is not affected"),
    18: Row("a violation of the schema", "rejected as E_SCHEMA with the field's name; other files are used"),
    19: Row("another observation size in the middle", "rejected as E_CONTRACT; shapes are never mixed"),
    20: Row("a pipe, socket, folder or device with a rollout's name", "never opened; a warning names it"),
    21: Row("links: to a secret, to itself, to nothing", "never followed; nothing of the target is copied"),
    22: Row("names with markup, escapes, newlines, invalid UTF-8", "used or rejected, and shown escaped"),
    23: Row("other case, .json.tmp, ~$x.json", "as documented; temporary files are not opened"),
    24: Row("a file without read permission", "tried again, with a warning; counted when it can be read"),
    25: Row("a read error in the middle of a file", "tried again; not rejected as invalid JSON"),
    26: Row("50,000 files at once", "all accepted, in order, in bounded memory"),
    27: Row("file times in the future, in 1970, all equal", "no delay; each is counted once"),
}

_WATCHER = {
    28: Row("the event queue overflows", "the next scan finds everything"),
    29: Row("no events at all", "the same, a few seconds later"),
    30: Row("the system allows no more watches", "continues with folder scans, and names the limit"),
    31: Row("Exports deleted, replaced, renamed, unmounted", "waits for it and continues; nothing is lost"),
    32: Row("the watcher's thread ends", "detected at the next scan and started again"),
    33: Row("the handler fails", "logged; the watcher continues"),
    34: Row("the daemon's own reading causes events", "they do not wake the daemon"),
    35: Row("the listing fails sometimes", "tried again with a growing delay and a warning"),
}

_CRASH = {
    36: Row(
        "kill -9 at every system call of a publish", "the old or the new model is complete; finished at the next start"
    ),
    37: Row("kill -9 at every named step of a cycle", "the next start continues"),
    38: Row("the power fails, in a model of the disk", "the same; a published model stays published"),
    39: Row("the power fails, on a real file system", "the same"),
    40: Row("the disk is full at each write", "no cycle starts, the old model stays; continues when space is free"),
    41: Row("a size limit or a quota", "the same"),
    42: Row("fsync fails", "the write fails; a new file is written at the next try"),
    43: Row("a rename is refused", "tried again for 2.5 s, then at each pass; the old pointer stays"),
    44: Row("write-protected", "refused at the start with the reason; later: no cycle starts"),
    45: Row("no more file descriptors", "tried again with a growing delay"),
    46: Row("the ledger damaged, empty, gone, newer, locked", "kept as a copy and rebuilt, or refused with the reason"),
    47: Row("the clock jumps", "delays use the monotonic clock; cycles are ordered by number"),
    48: Row("the machine sleeps during a training", "the time asleep does not count as silence"),
    49: Row("SIGTERM, SIGINT, SIGHUP, also twice", "ends within 10 s, after the second signal at once"),
    50: Row("10,000 cycles", "memory, handles and threads do not grow"),
}

_TRAINER = {
    51: Row("no interpreter, no torch, not executable", "reported with the command; rollouts stay pending"),
    52: Row("the trainer ends with an error", "tried again with a growing delay; three in a row park"),
    53: Row("it exits with 0 and without files", "a failed attempt; nothing is published"),
    54: Row("it hangs, is stopped, ignores SIGTERM", "terminated or killed within the limits; the next cycle runs"),
    55: Row("it cannot be killed", "reported; no second trainer is started"),
    56: Row("memory runs out", "reported; tried again as often as the settings allow"),
    57: Row("the daemon is killed while it trains", "the trainer ends within seconds, or at the next start"),
    58: Row("it starts processes in other sessions", "all of them end after it has ended"),
    59: Row("it writes very much output", "the log is limited; the trainer is not blocked"),
    60: Row(
        "losses that are nan, rise, are equal or missing",
        "such an epoch is not chosen; of equal epochs, the earliest is",
    ),
    61: Row("an incomplete or malicious checkpoint", "refused before it is loaded; no code in it runs"),
    62: Row("a model with nan, or with another output than its probe", "not published"),
    63: Row("a pid that another process uses now", "that process is not signalled"),
}

_AROUND = {
    64: Row("an engine reads at any time", "a complete model, never older than at its last read"),
    65: Row(
        "an engine still uses an old model while cycles are removed",
        "the newest models and all younger than an hour are kept",
    ),
    66: Row("status.json is read, or its daemon is dead", "always valid; heartbeat, pid and start time show it"),
    67: Row("a second daemon, twenty at once, a deleted lock file", "one runs; the others exit with 4 and its pid"),
    68: Row("a console that hangs, closes, is tiny or missing", "cycles continue; log lines instead of the dashboard"),
    69: Row("invalid or changed settings", "refused with the line; the old settings stay, with a warning"),
    70: Row("settings that name programs", "no program is started before the user has approved it"),
    71: Row("folders or settings that other users own or can write", "refused without --allow-shared"),
    72: Row("unusual paths: spaces, Unicode, %, [x], 300 characters", "used like other paths"),
}

_CAUSES = {
    73: Row(
        "a rollout makes the training of its cycle, or of later ones, fail",
        "the column and the value are named; it is rejected, and the rest is trained at once",
    ),
    74: Row("kill -9 while such a rollout is rejected", "the next start continues without it; nothing is lost"),
    75: Row(
        "memory runs out because of one giant rollout", "after a second attempt it is rejected, and the rest is trained"
    ),
    76: Row(
        "the published checkpoint cannot be trained further: damaged, missing, or with ruined statistics",
        "the cycle continues from an older one, which is named",
    ),
    77: Row("the trainer crashes again and again with one parent", "an older parent is tried before the cycle parks"),
}

_LEDGER = {
    80: Row(
        "a wrong value in a row: any column, another type, invalid UTF-8, one wrong character of JSON",
        "the ledger is kept as a copy and rebuilt; every other row is kept",
    ),
    81: Row("tables, indices, views or triggers that are not Hotlap's", "none of them runs; the ledger is rebuilt"),
    82: Row("a journal of another file next to the ledger", "kept under another name; the ledger is used without it"),
    83: Row("the ledger damaged while the project is paused or a cycle is parked", "it is still paused or parked"),
    84: Row("a ledger of very many cycles", "`history` and a start take time in proportion, not more"),
}

_STORED = {
    85: Row("arrays in State/cache with a right checksum and wrong content", "the rollout's own file is read instead"),
    86: Row("rollouts of any kind", "reading takes less than 10 bytes of memory for each byte of a large file"),
    87: Row(
        "a result that names other folders or files, or impossible numbers",
        "a failed attempt; nothing outside the staging folder is read, written or published",
    ),
    88: Row(
        "a trainer that does not end after its result, or writes on",
        "ended within `stop_grace_s`; its result counts if its files are unchanged",
    ),
    89: Row(
        "a training script that writes links, folders, or checkpoints of impossible epochs",
        "these are not read; the other checkpoints are ranked",
    ),
}

_FOREIGN = {
    90: Row(
        "a file in the place of a folder of Hotlap, or a folder in the place of a file",
        "moved to `<name>.set_aside_<date>` and named; the cycle runs, the ledger and a pause stay",
    ),
    91: Row(
        "cycle folders, commands and models with Hotlap's names that Hotlap did not make",
        "moved to `before_hotlap_<date>` or left alone; the ledger stays",
    ),
    92: Row(
        "copies directly in Models that cannot be made",
        "the model is published without them, with a warning; the next publish tries again",
    ),
    93: Row(
        "a daemon in another container or on another computer",
        "known by its lock and heartbeat; a second one exits with 4",
    ),
}

_FOLDERS = {
    95: Row(
        "a folder of Hotlap is a link, at the start or later",
        "refused by name, later no cycle starts; nothing in its target is listed, changed or removed",
    ),
    96: Row(
        "a log, the ledger or another file of Hotlap is a link, a pipe, or has a second name",
        "refused by name; a file with a second name (a hard link) is replaced by a copy",
    ),
    97: Row(
        "two projects use one Models, by a link or a mount",
        "the second is refused, and the first is named",
    ),
    98: Row("two projects name one State; a project inside another one", "the second is refused"),
    99: Row("a project that was moved, renamed or copied, also with links to its folders", "it continues"),
}

ROWS: Mapping[int, Row] = {
    **_INPUT, **_WATCHER, **_CRASH, **_TRAINER, **_AROUND, **_CAUSES, **_LEDGER, **_STORED, **_FOREIGN, **_FOLDERS,
}  # fmt: skip
