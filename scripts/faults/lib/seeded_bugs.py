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
        (Replacement("daemon/publishing/publish.py", "    disk.fsync_all(staged)\n", "    staged.sort()\n"),),
        ("tests/faults/storage/test_powerloss.py",),
    ),
    SeededBug(
        "rollouts are counted by name",
        (
            Replacement(
                "daemon/rollouts/inbox.py",
                "if name in self._accepted and self._accepted[name][0] == signature:",
                "if name in self._accepted:",
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
        "the mean reward of rollouts, not of their experiences",
        (
            Replacement(
                "trainer/worker/train.py",
                "np.concatenate([item.rollout.rewards for item in loaded]).astype(np.float64).mean()",
                "np.mean([item.rollout.rewards.astype(np.float64).mean() for item in loaded])",
            ),
        ),
        ("tests/trainer/worker/test_train.py::test_the_mean_reward_counts_every_experience_of_the_new_rollouts",),
    ),
    SeededBug(
        "steps held out instead of segments of episodes",
        (
            Replacement(
                "trainer/rollouts/training_set.py",
                "held_out(experiences.segment_B[can_bootstrap_B]",
                "held_out(np.arange(int(can_bootstrap_B.sum()))",
            ),
        ),
        ("tests/trainer/worker/test_train.py::test_whole_segments_are_held_out_of_the_training_set",),
    ),
    SeededBug(
        "a prefetch key without the candidates",
        (
            Replacement(
                "trainer/rollouts/attribution.py",
                "given.is_new, given.behaviours, parent.checksum",
                "given.is_new, parent.checksum",
            ),
        ),
        ("tests/trainer/worker/test_prefetch.py::test_a_job_with_other_candidates_than_the_preview_attributes_again",),
    ),
    SeededBug(
        "the trainer compares the hash of a rollout's stripped bytes",
        (
            Replacement(
                "trainer/rollouts/loading.py",
                "    if sha256_of(data) != given.sha256:\n",
                "    if sha256_of(data.strip()) != given.sha256:\n",
            ),
        ),
        ("tests/trainer/rollouts/test_loading.py::test_a_file_is_recognised_by_the_hash_of_all_its_bytes",),
    ),
    SeededBug(
        "the trainer's stderr is not read",
        (
            Replacement(
                "daemon/process/child.py",
                "        if process.stderr is not None:\n            self._readers.append",
                "        if process.stderr is None:\n            self._readers.append",
            ),
        ),
        (f"{_TRAINER_OUTPUT}::test_a_flood_of_output_neither_fills_the_disk_nor_our_memory_nor_blocks_the_trainer",),
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
        ("tests/faults/input/test_input_names.py::test_every_name_is_accepted_and_only_shown_in_printable_form",),
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
        (f"{_TRAINER_OUTPUT}::test_the_trainer_never_unpickles_a_poisoned_parent",),
    ),
    SeededBug(
        "a process is killed by its pid alone",
        (
            Replacement(
                "schemas/process/tree.py",
                "        with contextlib.suppress(psutil.Error):\n            process.kill()\n",
                "        with contextlib.suppress(psutil.Error, OSError):\n            os.kill(process.pid, 9)\n",
            ),
        ),
        (f"{_DESCENDANTS}::test_a_process_that_reuses_a_pid_is_not_signalled",),
    ),
    SeededBug(
        "a trainer's owner is identified by its pid alone",
        (
            Replacement(
                "schemas/process/run_token.py",
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
        (f"{_TRAINER_OUTPUT}::test_a_model_that_is_not_what_was_trained_is_never_published",),
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
        (
            "tests/faults/process/test_instances.py::test_if_the_lock_file_is_deleted_no_second_daemon_starts_and_the_file_is_restored",
        ),
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
        ("tests/faults/config/test_clock.py::test_jumps_of_the_wall_clock_do_not_change_the_delay_of_a_retry",),
    ),
    SeededBug(
        "arrays of rollouts that still wait are removed",
        (
            Replacement(
                "daemon/ledger/rollout_table.py", " UNION SELECT sha256 FROM rollout WHERE cycle_id IS NULL", ""
            ),
        ),
        ("tests/faults/test_state_machine.py",),
    ),
    SeededBug(
        "a claim leaves rollouts with left-out experiences pending",
        (
            Replacement(
                "daemon/ledger/cycle_table.py",
                "UPDATE rollout SET cycle_id = ? WHERE cycle_id IS NULL",
                "UPDATE rollout SET cycle_id = ? WHERE cycle_id IS NULL AND left_out = 0",
            ),
        ),
        ("tests/daemon/ledger/test_ledger.py::test_a_claim_includes_rollouts_of_which_experiences_were_left_out",),
    ),
    SeededBug(
        "a cycle's mean reward is not weighted by experiences",
        (
            Replacement(
                "daemon/ledger/cycle_table.py",
                "sum(reward_mean * experiences) / sum(experiences)",
                "avg(reward_mean)",
            ),
        ),
        ("tests/daemon/ledger/test_ledger.py::test_the_mean_reward_of_a_cycle_is_per_experience_not_per_rollout",),
    ),
    SeededBug(
        "arrays of a parked cycle's rollouts are removed",
        (
            Replacement(
                "daemon/ledger/rollout_table.py",
                'f" WHERE cycle.phase IN ({UNFINISHED_SQL})"',
                "f\" WHERE cycle.phase IN ({UNFINISHED_SQL}) AND cycle.phase != 'parked'\"",
            ),
        ),
        ("tests/daemon/ledger/test_ledger.py::test_arrays_are_needed_until_the_cycle_of_their_rollout_has_ended",),
    ),
    SeededBug(
        "the cycle that earned most is not kept",
        (
            Replacement(
                "daemon/publishing/retention.py",
                "always = {last.cycle_id if last else None, best} - {None}",
                "always = {last.cycle_id if last else None}",
            ),
        ),
        ("tests/daemon/publishing/test_retention.py::test_the_folder_of_the_cycle_that_earned_most_is_kept",),
    ),
    SeededBug(
        "the hash of a file without the white space around it",
        (
            Replacement(
                "daemon/rollouts/reader.py",
                "        sha256 = sha256_of(data)\n",
                "        sha256 = sha256_of(data.strip())\n",
            ),
        ),
        ("tests/daemon/rollouts/test_reader.py::test_the_hash_is_that_of_the_bytes_in_the_file",),
    ),
    SeededBug(
        "a migration in several transactions",
        (
            Replacement(
                "daemon/ledger/migrations.py",
                'f"BEGIN IMMEDIATE;\\n{sql}\\nPRAGMA',
                'f"{sql}\\nBEGIN IMMEDIATE;\\nPRAGMA',
            ),
        ),
        ("tests/daemon/ledger/test_migrations.py",),
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
)
