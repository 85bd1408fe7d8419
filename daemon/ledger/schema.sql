-- The newest version of the ledger; migrations.py brings older ledgers to the same tables.
-- Constraints and triggers refuse illegal changes, even if the code has a bug.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE arrow (src TEXT NOT NULL, dst TEXT NOT NULL, PRIMARY KEY (src, dst)) STRICT, WITHOUT ROWID;

CREATE TABLE cycle (
    id         INTEGER PRIMARY KEY,
    kind       TEXT NOT NULL CHECK (kind IN ('initial', 'train')),
    cause      TEXT NOT NULL,              -- count, once, trigger, initial
    phase      TEXT NOT NULL,
    attempt    INTEGER NOT NULL DEFAULT 0,
    due_s      REAL NOT NULL DEFAULT 0,    -- s since 1970
    why        TEXT NOT NULL DEFAULT '',
    created_s  REAL NOT NULL,
    ended_s    REAL,
    parent     TEXT,                       -- published checkpoint that training continues from, relative to Models
    result     TEXT,                       -- the trainer's result, JSON
    best_epoch INTEGER,
    score      REAL,
    value_loss REAL,
    reward_mean REAL,
    seconds    REAL
) STRICT;

-- At most one cycle runs.
CREATE UNIQUE INDEX one_running_cycle ON cycle ((1))
    WHERE phase IN ('claimed', 'training', 'selecting', 'publishing');

CREATE INDEX cycle_of_phase ON cycle (phase);

CREATE TABLE step (
    seq      INTEGER PRIMARY KEY,
    cycle_id INTEGER NOT NULL REFERENCES cycle (id),
    src TEXT NOT NULL, dst TEXT NOT NULL,
    at_s     REAL NOT NULL,
    why      TEXT NOT NULL,
    FOREIGN KEY (src, dst) REFERENCES arrow (src, dst)  -- refuses illegal steps
) STRICT;
CREATE INDEX step_of_cycle ON step (cycle_id);
CREATE TRIGGER step_is_final_u BEFORE UPDATE ON step BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER step_is_final_d BEFORE DELETE ON step BEGIN SELECT RAISE(ABORT, 'append only'); END;

-- A rollout is identified by its content: a second file with the same bytes is the same rollout.
CREATE TABLE rollout (
    id          INTEGER PRIMARY KEY,
    sha256      TEXT NOT NULL UNIQUE,
    name        TEXT NOT NULL,             -- of the first file that had this content
    experiences INTEGER NOT NULL,
    left_out    INTEGER NOT NULL,
    reward_mean REAL NOT NULL,
    policy_version INTEGER,                -- as the engine wrote it
    written_s   REAL NOT NULL,             -- the file's time
    accepted_s  REAL NOT NULL,
    cycle_id    INTEGER REFERENCES cycle (id),  -- the cycle that claimed it; NULL: pending
    repeated    TEXT NOT NULL DEFAULT '',  -- its experiences that were in earlier rollouts and do not count
    suspect     TEXT NOT NULL DEFAULT ''   -- why a cycle failed because of it: it is not trained on any more
) STRICT;
CREATE INDEX rollout_pending ON rollout (id) WHERE cycle_id IS NULL;
CREATE INDEX rollout_of_cycle ON rollout (cycle_id);
CREATE INDEX rollout_suspect ON rollout (sha256) WHERE suspect <> '';
CREATE TRIGGER rollout_counts_once BEFORE UPDATE OF cycle_id ON rollout WHEN OLD.cycle_id IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'a rollout counts in one trigger'); END;

-- The content of each file in Exports, so that a scan does not have to read files again.
CREATE TABLE file (
    name TEXT PRIMARY KEY,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL,
    sha256 TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX file_content ON file (sha256);

CREATE TABLE rejection (
    seq INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT, code TEXT NOT NULL, reason TEXT NOT NULL, at_s REAL NOT NULL
) STRICT;

-- Which model was published, and when.
CREATE TABLE publication (
    seq INTEGER PRIMARY KEY,
    cycle_id INTEGER NOT NULL REFERENCES cycle (id),
    policy_version INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    model TEXT NOT NULL,                   -- relative to Models, forward slashes
    sha256 TEXT NOT NULL,
    at_s REAL NOT NULL
) STRICT;
