"""Seeded bugs in the package daemon."""

from __future__ import annotations

from scripts.faults.lib.seeded_bug import Replacement, SeededBug

_INPUT_FILES = "tests/faults/input/test_input_files.py"
_FAILED_DATA = "tests/faults/process/test_failed_data.py"
_TRAINER_OUTPUT = "tests/faults/process/test_trainer_output.py"

DAEMON_BUGS = (
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
        "published before the model is synced",
        (Replacement("daemon/publishing/publish.py", "    disk.fsync_all(staged)\n", "    staged.sort()\n"),),
        ("tests/faults/storage/test_powerloss.py",),
    ),
    SeededBug(
        "rollouts are counted by name",
        (
            Replacement(
                "daemon/rollouts/inbox.py",
                "name in self._accepted and self._accepted[name][0] == signature",
                "name in self._accepted",
            ),
        ),
        (
            "tests/faults/input/test_input_files.py::test_a_name_with_new_content_is_a_new_rollout_and_the_old_one_is_kept",
        ),
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
        "a file that is still being written is rejected at once",
        (
            Replacement(
                "daemon/rollouts/reading/reader.py",
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
        "a model published without its probe",
        (
            Replacement(
                "daemon/publishing/publish.py",
                "    check_probe(model)\n    differences = list(contract.differences(model.contract))\n",
                "    differences = list(contract.differences(model.contract))\n",
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
                "daemon/ledger/rows.py",
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
                "daemon/rollouts/reading/reader.py",
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
        "a candidate that was published after the rollout was claimed",
        (
            Replacement(
                "daemon/publishing/behaviour_candidates.py", "p.cycle_id >= cycle_id)", "p.cycle_id > cycle_id)"
            ),
        ),
        ("tests/daemon/publishing/test_behaviour_candidates.py",),
    ),
    SeededBug(
        "candidates without the newest model",
        (
            Replacement(
                "daemon/publishing/behaviour_candidates.py",
                "last = len(publications) - 1",
                "last = max(0, len(publications) - 2)",
            ),
        ),
        ("tests/daemon/publishing/test_behaviour_candidates.py",),
    ),
    SeededBug(
        "a rollout that made a cycle fail is trained on again",
        (Replacement("daemon/ledger/rows.py", "{COUNTS_SQL} AND suspect = '')", "{COUNTS_SQL})"),),
        (f"{_FAILED_DATA}::test_a_rollout_that_makes_a_cycle_fail_is_rejected_and_the_others_are_trained_at_once",),
    ),
    SeededBug(
        "a cycle that goes back forgets it at a restart",
        (Replacement("daemon/training/recovery/parents.py", "if back is None or back.cycle != cycle.id:", "if True:"),),
        (f"{_FAILED_DATA}::test_a_restart_continues_with_the_parent_that_the_cycle_went_back_to",),
    ),
)
