"""Seeded bugs: exact replacements in the source, and the tests that must then fail."""

from __future__ import annotations

from typing import NamedTuple


class Replacement(NamedTuple):
    """A text that occurs exactly once in a source file, and its replacement."""

    path: str  #: from the repository's root
    old: str
    new: str


class SeededBug(NamedTuple):
    """A bug, and the tests that must catch it."""

    name: str
    replacements: tuple[Replacement, ...]
    tests: tuple[str, ...]  #: for pytest


_INPUT_FILES = "tests/faults/input/test_input_files.py"
_TRAINER_OUTPUT = "tests/faults/process/test_trainer_output.py"
_DESCENDANTS = "tests/faults/process/test_trainers_descendants.py"

BUGS = (
    SeededBug(
        "the pointer is written before the model",
        (
            Replacement(
                "daemon/publishing/publish.py",
                "    checked = None\n",
                "    checked = None\n"
                "    from daemon.publishing.pointer import _as_pointer, write_atomic\n"
                '    write_atomic(paths.pointer, _as_pointer(folder / result.model).encode("utf-8"), disk=disk)\n',
            ),
        ),
        ("tests/faults/storage/test_publish_sweep.py::test_any_operation_may_fail[once]",),
    ),
    SeededBug(
        "no fsync of the folder after a rename",
        (
            Replacement(
                "schemas/storage/files.py",
                "    if durable:\n        disk.fsync_dir(folder)\n",
                "    if not durable:\n        disk.fsync_dir(folder)\n",
            ),
        ),
        ("tests/faults/storage/test_powerloss.py",),
    ),
    SeededBug(
        "published before the model is synced",
        (Replacement("daemon/publishing/publish.py", "    disk.fsync_all(kept)\n", "    kept.sort()\n"),),
        ("tests/faults/storage/test_powerloss.py",),
    ),
    SeededBug(
        "rollouts are counted by name",
        (
            Replacement(
                "daemon/rollouts/inbox.py",
                "(name in self._known and self._known[name][0] == stamp)",
                "name in self._known",
            ),
        ),
        (
            "tests/faults/input/test_input_files.py::test_a_name_with_new_content_is_a_new_rollout_and_the_old_one_is_kept",
        ),
    ),
    SeededBug(
        "an epoch with a nan loss may be chosen",
        (
            Replacement(
                "trainer/checkpoints/selection.py",
                "    if not losses or not all(map(math.isfinite, losses)):\n",
                "    if not losses or math.isinf(losses[0]):\n",
            ),
        ),
        ("tests/trainer/checkpoints/test_selection.py",),
    ),
    SeededBug(
        "the trainer's stderr is not read",
        (
            Replacement(
                "daemon/process/child.py",
                "        if self._process.stderr is not None:\n            self._readers.append",
                "        if self._process.stderr is None:\n            self._readers.append",
            ),
        ),
        (f"{_TRAINER_OUTPUT}::test_a_flood_neither_fills_the_disk_nor_our_memory_nor_blocks_the_trainer",),
    ),
    SeededBug(
        "names from outside are shown without escapes",
        (
            Replacement(
                "schemas/text.py",
                '        if character != " " and unicodedata.category(character) in _UNSAFE_CATEGORIES:\n',
                '        if character == "\\0" and unicodedata.category(character) in _UNSAFE_CATEGORIES:\n',
            ),
        ),
        ("tests/faults/input/test_input_names.py::test_no_name_is_an_obstacle_and_none_reaches_a_screen_as_it_is",),
    ),
    SeededBug(
        "a file that is still being written is rejected at once",
        (
            Replacement(
                "daemon/rollouts/reader.py",
                "        if error.incomplete:\n",
                "        if error.incomplete and not data:\n",
            ),
        ),
        (
            "tests/faults/input/test_input_files.py::test_a_file_written_slowly_in_place_counts_once_and_with_its_last_bytes",
            f"{_INPUT_FILES}::test_a_writer_that_stalls_is_waited_for",
        ),
    ),
    SeededBug(
        "checkpoints loaded with weights_only=False",
        (
            Replacement(
                "trainer/checkpoints/checkpoint.py",
                'torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)',
                'torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)',
            ),
        ),
        (f"{_TRAINER_OUTPUT}::test_the_trainer_refuses_a_poisoned_parent_without_a_fallback",),
    ),
    SeededBug(
        "a process is killed by its pid alone",
        (
            Replacement(
                "daemon/process/child.py",
                "        with contextlib.suppress(psutil.Error):\n            process.kill()\n",
                "        with contextlib.suppress(psutil.Error, OSError):\n            os.kill(process.pid, 9)\n",
            ),
        ),
        (f"{_DESCENDANTS}::test_a_pid_that_was_used_again_is_not_signalled",),
    ),
    SeededBug(
        "a trainer's owner is identified by its pid alone",
        (
            Replacement(
                "daemon/process/orphans.py",
                "            return abs(psutil.Process(self.owner_pid).create_time() - self.owner_born_s)"
                " <= _BIRTH_TOLERANCE_S\n",
                "            return psutil.pid_exists(self.owner_pid)\n",
            ),
        ),
        (f"{_DESCENDANTS}::test_only_orphans_of_this_project_are_ended",),
    ),
    SeededBug(
        "a model published without its probe",
        (
            Replacement(
                "daemon/publishing/publish.py",
                "    check_probe(model)\n    if differences := contract.differences(model.contract):\n",
                "    if differences := contract.differences(model.contract):\n",
            ),
        ),
        (f"{_TRAINER_OUTPUT}::test_a_model_that_is_not_what_was_trained_never_goes_before_the_engine",),
    ),
    SeededBug(
        "an empty listing counts as deleted files",
        (
            Replacement(
                "daemon/rollouts/inbox.py", "        if not self._is_empty:\n", "        if not found.skipped:\n"
            ),
        ),
        ("tests/faults/engine/test_watcher.py::test_an_empty_listing_does_not_count_as_deleted_files",),
    ),
    SeededBug(
        "a lock that two can hold",
        (
            Replacement(
                "schemas/storage/file_lock.py", "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB"
            ),
        ),
        ("tests/faults/process/test_instances.py::test_deleting_the_lock_file_lets_nobody_in_and_it_comes_back",),
    ),
    SeededBug(
        "delays use the wall clock",
        (
            Replacement(
                "daemon/training/timers.py",
                "        now = self._clock.monotonic()\n",
                "        now = self._clock.utc_s()\n",
            ),
        ),
        ("tests/faults/config/test_clock.py::test_a_retry_comes_after_its_delay_whatever_the_wall_clock_says",),
    ),
    SeededBug(
        "arrays of pending rollouts are removed",
        (Replacement("daemon/ledger/ledger.py", " UNION SELECT sha256 FROM rollout WHERE cycle_id IS NULL", ""),),
        ("tests/faults/test_state_machine.py",),
    ),
    SeededBug(
        "a claim that leaves rollouts with left-out steps pending",
        (
            Replacement(
                "daemon/ledger/ledger.py",
                "SET cycle_id = ? WHERE cycle_id IS NULL",
                "SET cycle_id = ? WHERE cycle_id IS NULL AND left_out = 0",
            ),
        ),
        ("tests/daemon/ledger/test_rollout_rows.py",),
    ),
    SeededBug(
        "reward_mean not weighted by experiences",
        (
            Replacement(
                "daemon/ledger/ledger.py", "sum(reward_mean * experiences) / sum(experiences)", "avg(reward_mean)"
            ),
        ),
        ("tests/daemon/ledger/test_rollout_rows.py",),
    ),
    SeededBug(
        "lineage that names old rollouts as new",
        (
            Replacement(
                "trainer/checkpoints/checkpoint.py", " for r in job.rollouts if r.is_new)", " for r in job.rollouts)"
            ),
        ),
        ("tests/trainer/checkpoints/test_lineage.py",),
    ),
    SeededBug(
        "candidates that begin one model too late",
        (Replacement("daemon/training/job_builder.py", " - CANDIDATES) : newest]", " - CANDIDATES) : newest + 1]"),),
        ("tests/daemon/training/test_candidates.py",),
    ),
    SeededBug(
        "candidates that leave out the oldest model",
        (
            Replacement(
                "daemon/training/job_builder.py", "max(0, newest - CANDIDATES) :", "max(0, newest - CANDIDATES) + 1 :"
            ),
        ),
        ("tests/daemon/training/test_candidates.py",),
    ),
    SeededBug(
        "arrays of a parked cycle's rollouts pruned",
        (
            Replacement(
                "daemon/ledger/ledger.py",
                """WHERE cycle.phase IN ({_RUNNING_SQL}, 'parked')"\n        )\n        return {""",
                """WHERE cycle.phase IN ({_RUNNING_SQL})"\n        )\n        return {""",
            ),
        ),
        ("tests/daemon/ledger/test_rollout_rows.py",),
    ),
    SeededBug(
        "the cycle that earned most not kept",
        (Replacement("daemon/service.py", "{best} if best is not None else set()", "set()"),),
        ("tests/daemon/publishing/test_kept_cycles.py",),
    ),
    SeededBug(
        "the hash of stripped bytes",
        (Replacement("daemon/rollouts/reader.py", "sha256_of(data)", "sha256_of(data.strip())"),),
        ("tests/daemon/rollouts/test_content_hash.py",),
    ),
    SeededBug(
        "hold-out by steps instead of by segments of episodes",
        (Replacement("trainer/rollouts/holdout.py", "np.unique(segment_B,", "np.unique(np.arange(n),"),),
        ("tests/trainer/rollouts/test_holdout.py",),
    ),
    SeededBug(
        "a prefetch key without its candidates",
        (Replacement("trainer/rollouts/attribution.py", "given.is_new, given.behaviours,", "given.is_new,"),),
        ("tests/trainer/worker/test_prefetch.py",),
    ),
)
