"""Seeded bugs in the packages trainer and schemas."""

from __future__ import annotations

from scripts.faults.lib.seeded_bug import Replacement, SeededBug

_TRAINER_OUTPUT = "tests/faults/process/test_trainer_output.py"
_DESCENDANTS = "tests/faults/process/test_trainers_descendants.py"

_DIAGNOSIS = "tests/trainer/worker/test_diagnosis.py"

TRAINER_BUGS = (
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
                "experiences.segment_B[candidate_B], job.settings",
                "np.arange(int(candidate_B.sum())), job.settings",
            ),
        ),
        ("tests/trainer/worker/test_train.py::test_whole_segments_are_held_out_of_the_training_set",),
    ),
    SeededBug(
        "a prefetch key without the candidates",
        (
            Replacement(
                "trainer/rollouts/attribution.py",
                "entry.is_new, entry.behaviours, entry.outdated, parent.checksum",
                "entry.is_new, parent.checksum",
            ),
        ),
        ("tests/trainer/worker/test_prefetch.py::test_a_job_with_other_candidates_than_the_preview_attributes_again",),
    ),
    SeededBug(
        "the trainer compares the hash of a rollout's stripped bytes",
        (
            Replacement(
                "trainer/rollouts/loading.py",
                "    if sha256_of(data) != entry.sha256:\n",
                "    if sha256_of(data.strip()) != entry.sha256:\n",
            ),
        ),
        ("tests/trainer/rollouts/test_loading.py::test_a_file_is_recognised_by_the_hash_of_all_its_bytes",),
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
        "lineage that names old rollouts as new",
        (
            Replacement(
                "trainer/checkpoints/checkpoint.py", " for r in job.rollouts if r.is_new)", " for r in job.rollouts)"
            ),
        ),
        ("tests/trainer/checkpoints/test_lineage.py",),
    ),
    SeededBug(
        "a rollout with a far value is blamed without a test",
        (
            Replacement(
                "trainer/worker/diagnosis.py",
                "if hashes and hashes not in tested and self._works(self._without(hashes)):",
                "if hashes and hashes not in tested:",
            ),
        ),
        (f"{_DIAGNOSIS}::test_a_parent_whose_weights_make_every_training_fail_is_blamed_and_a_far_value_is_not",),
    ),
)
