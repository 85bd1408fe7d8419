"""Seeded bugs in the code that joins the parts: jobs, results, lineage, hashes, folders, and the rebuilding."""

from __future__ import annotations

from scripts.faults.lib.seeded_bug import Replacement, SeededBug

_RESULT_CHECK = "tests/daemon/training/test_result_check.py"
_JOB_BUILDER = "tests/daemon/training/test_job_builder.py"
_FAILED_DATA = "tests/faults/process/test_failed_data.py"
_POISONED = "tests/faults/storage/test_poisoned_ledger.py"
_SHARED_FOLDERS = "tests/faults/storage/test_shared_folders.py"
_CYCLES = "tests/trainer/rollouts/outliers/test_cycles.py"
_STORED = "tests/schemas/rollout/checks/test_stored.py"

JOINING_BUGS = (
    SeededBug(
        "a result may name the model of another epoch",
        (
            Replacement(
                "daemon/training/result_check.py",
                "        if name != own:\n",
                "        if not _FILE_NAME.fullmatch(name):\n",
            ),
        ),
        (f"{_RESULT_CHECK}::test_a_wrong_result_is_refused_with_what_is_wrong",),
    ),
    SeededBug(
        "the last of several results counts",
        (Replacement("daemon/training/runner.py", "case Result() if run.result is None:", "case Result():"),),
        ("tests/faults/process/test_trainer_results.py::test_only_the_first_result_counts",),
    ),
    SeededBug(
        "the reaper does not wait for a trainer that is done",
        (
            Replacement(
                "daemon/training/runner.py",
                "the next tick tries again\n        self._reaper.await_exit(run.child)\n",
                "the next tick tries again\n",
            ),
        ),
        (
            "tests/faults/process/test_trainer_ends.py::test_a_trainer_that_is_done_but_does_not_end_prevents_the_next_one",
        ),
    ),
    SeededBug(
        "a cycle goes back one version less than it says",
        (Replacement("daemon/training/recovery/parents.py", "p := publications[i]))]", "p := publications[i - 1]))]"),),
        (f"{_FAILED_DATA}::test_a_cycle_goes_back_from_a_bad_parent_in_steps_that_double",),
    ),
    SeededBug(
        "removals of rollouts are counted as changes of the parent",
        (
            Replacement(
                "daemon/training/recovery/decision.py",
                "ledger.count_steps(cycle_id, why=_WITHOUT)",
                "ledger.count_steps(cycle_id, why=_FROM)",
            ),
        ),
        (f"{_FAILED_DATA}::test_a_trainer_that_always_names_more_rollouts_is_not_asked_for_ever",),
    ),
    SeededBug(
        "the working folder of the newest cycle is moved away",
        (
            Replacement(
                "daemon/runtime/in_the_way.py",
                'if int(path.name.rpartition("_")[2]) > last:',
                'if int(path.name.rpartition("_")[2]) >= last:',
            ),
        ),
        ("tests/faults/storage/test_publish_sweep.py::test_any_operation_may_fail[once]",),
    ),
    SeededBug(
        "the mark in State is written before that in Models",
        (
            Replacement(
                "daemon/runtime/project_mark.py",
                "        if mark != wanted:",
                "        if own != wanted:\n"
                "            write_atomic(paths.state_mark, wanted.to_bytes(), disk=disk)\n"
                "        if mark != wanted:",
            ),
        ),
        (f"{_SHARED_FOLDERS}::test_a_crash_between_the_two_marks_does_not_refuse_the_project",),
    ),
    SeededBug(
        "a model of the same name makes Models this project's",
        (
            Replacement(
                "daemon/runtime/project_mark.py",
                "return last is not None and last.sha256 == sha256_of(",
                "return last is not None and b'' != (",
            ),
        ),
        (f"{_SHARED_FOLDERS}::test_a_link_to_models_with_other_models_of_the_same_names_is_refused",),
    ),
    SeededBug(
        "links to the working folders of cycles are searched for in Models",
        (
            Replacement(
                "daemon/runtime/own_folders.py", "_link_at(paths.staging / name", "_link_at(paths.models / name"
            ),
        ),
        ("tests/faults/storage/test_links.py::test_a_linked_file_is_refused_at_the_start",),
    ),
    SeededBug(
        "a file with one other name is written in place",
        (
            Replacement(
                "daemon/runtime/own_folders.py",
                "stat.S_ISREG(info.st_mode) and info.st_nlink > 1",
                "stat.S_ISREG(info.st_mode) and info.st_nlink > 2",
            ),
        ),
        ("tests/faults/storage/test_links.py::test_a_copy_of_the_project_made_of_hard_links_does_not_change_with_it",),
    ),
    SeededBug(
        "a folder is checked for a link before it is opened, not while",
        (
            Replacement(
                "schemas/storage/guarded.py", '_FOLDER | getattr(os, "O_NOFOLLOW", 0)', '_FOLDER | getattr(os, "O", 0)'
            ),
        ),
        ("tests/schemas/storage/test_guarded.py::test_a_folder_that_becomes_a_link_at_any_moment_is_not_followed",),
    ),
    SeededBug(
        "a copy in the place of a hard link is renamed before it is synced",
        (
            Replacement(
                "schemas/storage/guarded.py",
                "            new.flush()\n            os.fsync(new.fileno())\n",
                "            new.flush()\n",
            ),
        ),
        ("tests/schemas/storage/test_guarded.py::test_the_copy_is_on_the_disk_before_it_replaces_a_hard_link",),
    ),
    SeededBug(
        "a step from a phase in which the cycle was not",
        (Replacement("daemon/ledger/integrity/problems.py", "not in _STEPS or src != before:", "not in _STEPS:"),),
        (f"{_POISONED}::test_a_step_from_another_phase_than_the_last_one_led_to_is_found",),
    ),
    SeededBug(
        "rollouts of a damaged ledger are matched by name",
        (
            Replacement(
                "daemon/ledger/integrity/merge.py",
                'by_content.setdefault(row["sha256"],',
                'by_content.setdefault(row["name"],',
            ),
        ),
        (f"{_POISONED}::test_a_parked_cycle_stays_parked_and_keeps_its_rollouts",),
    ),
    SeededBug(
        "a parked cycle of a damaged ledger is trained at once",
        (
            Replacement(
                "daemon/ledger/integrity/merge.py",
                "(is_complete and phase in {Phase.PUBLISHED, Phase.PARKED})",
                "(is_complete and phase == Phase.PUBLISHED)",
            ),
        ),
        (f"{_POISONED}::test_a_parked_cycle_stays_parked_and_keeps_its_rollouts",),
    ),
    SeededBug(
        "rows after a page that cannot be read are given up",
        (Replacement("daemon/ledger/integrity/salvage.py", 'for order in ("ASC", "DESC"):', 'for order in ("ASC",):'),),
        (f"{_POISONED}::test_rows_on_both_sides_of_a_damaged_page_are_read",),
    ),
    SeededBug(
        "a ledger is rebuilt in its own place",
        (
            Replacement(
                "daemon/publishing/ledger_recovery.py",
                'new = paths.ledger.with_name(f"{paths.ledger.name}.new")',
                "new = paths.ledger",
            ),
        ),
        (
            "tests/faults/storage/test_ledger_faults.py::test_a_rebuild_that_the_disk_refuses_does_not_leave_a_partial_ledger",
        ),
    ),
    SeededBug(
        "a model whose parent is the newest known cycle does not continue it",
        (
            Replacement(
                "daemon/publishing/published_cycles.py",
                "parent is not None and parent <= cycle and",
                "parent is not None and parent < cycle and",
            ),
        ),
        (
            "tests/faults/storage/test_ledger_faults.py::test_a_ledger_that_is_older_is_recognised_if_the_pointer_names_an_older_version",
        ),
    ),
    SeededBug(
        "a cycle is recorded as removed after its folder was removed",
        (
            Replacement(
                "daemon/publishing/retention.py",
                "            record_removed_cycle(paths, cycle, disk=disk)\n            if has_others:\n",
                "            if has_others:\n",
            ),
            Replacement(
                "daemon/publishing/retention.py",
                "            disk.fsync_dir(paths.models)\n            disk.remove_folder(removed)\n",
                "            disk.fsync_dir(paths.models)\n            disk.remove_folder(removed)\n"
                "            record_removed_cycle(paths, cycle, disk=disk)\n",
            ),
        ),
        ("tests/faults/storage/test_ledger_faults.py::test_rollouts_of_removed_cycles_are_not_trained_on_again",),
    ),
    SeededBug(
        "a cache file is trusted for any rollout",
        (
            Replacement(
                "schemas/rollout/cache.py",
                'if head.get("name", name) != name:',
                'if not head.get("name", name):',
            ),
        ),
        (f"{_STORED}::test_the_arrays_of_another_rollout_are_read_as_missing",),
    ),
    SeededBug(
        "a NaN is neither too small nor too large",
        (
            Replacement(
                "schemas/rollout/checks/stored.py",
                "bool(column.min() >= -MAX_MAGNITUDE and column.max() <= MAX_MAGNITUDE)",
                "not bool(column.min() < -MAX_MAGNITUDE or column.max() > MAX_MAGNITUDE)",
            ),
        ),
        (f"{_STORED}::test_files_with_a_right_checksum_and_wrong_content_are_read_as_missing",),
    ),
    SeededBug(
        "limited columns are in the order of the agents",
        (
            Replacement(
                "trainer/rollouts/outliers/rollouts.py",
                "values[order] = getattr(limited, name)[rows]",
                "values[:] = getattr(limited, name)[rows]",
            ),
        ),
        (f"{_CYCLES}::test_the_first_and_the_last_step_of_a_rollout_are_limited_in_it",),
    ),
    SeededBug(
        "an outlier in the first step of a rollout is limited in the one before",
        (
            Replacement(
                "trainer/rollouts/outliers/rollouts.py",
                'rows[rows < size], side="right") - 1',
                'rows[rows < size], side="left") - 1',
            ),
        ),
        (f"{_CYCLES}::test_the_first_and_the_last_step_of_a_rollout_are_limited_in_it",),
    ),
    SeededBug(
        "rollouts of earlier cycles are never suspected",
        (Replacement("trainer/worker/diagnosis.py", "self._rollouts = [*new, *old]", "self._rollouts = new"),),
        ("tests/trainer/worker/test_diagnosis.py::test_a_few_rollouts_are_found_by_halves",),
    ),
    SeededBug(
        "names of rollouts are compared with hashes of suspects",
        (
            Replacement(
                "trainer/worker/diagnosis.py",
                "for entry in self._rollouts if entry.sha256 not in hashes]",
                "for entry in self._rollouts if entry.name not in hashes]",
            ),
        ),
        ("tests/trainer/worker/test_diagnosis.py::test_a_real_training_names_the_rollout_and_works_without_it",),
    ),
    SeededBug(
        "a preview is for the cycle before",
        (
            Replacement(
                "daemon/training/job_builder.py",
                "policy_version=context.ledger.last_cycle_id() + 1,",
                "policy_version=context.ledger.last_cycle_id(),",
            ),
        ),
        (f"{_JOB_BUILDER}::test_a_preview_has_the_number_of_the_cycle_that_is_claimed_next",),
    ),
    SeededBug(
        "a job names the oldest of the earlier rollouts if there are many",
        (
            Replacement(
                "daemon/training/job_builder.py", "(cycle_id)[-MAX_OLD_ROLLOUTS:]", "(cycle_id)[:MAX_OLD_ROLLOUTS]"
            ),
        ),
        (f"{_JOB_BUILDER}::test_a_job_names_the_newest_of_many_earlier_rollouts",),
    ),
)
