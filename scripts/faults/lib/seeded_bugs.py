"""Bugs that each have been made by somebody: exact replacements in today's source, and the tests that must fail."""

from __future__ import annotations

from typing import NamedTuple


class Replacement(NamedTuple):
    """One place in the source, which stands there exactly once."""

    path: str  #: from the repository's root
    old: str
    new: str


class SeededBug(NamedTuple):
    """A bug, and who must notice it."""

    name: str
    replacements: tuple[Replacement, ...]
    tests: tuple[str, ...]  #: for pytest


_INPUT_FILES = "tests/faults/input/test_input_files.py"
_TRAINER_OUTPUT = "tests/faults/process/test_trainer_output.py"
_TRAINERS_FAMILY = "tests/faults/process/test_trainers_descendants.py"

BUGS = (
    SeededBug(
        "the pointer first, then the model",
        (
            Replacement(
                "daemon/publishing/publish.py",
                "    folder = layout.cycle_folder(cycle)\n    checked = None\n",
                "    folder = layout.cycle_folder(cycle)\n    checked = None\n"
                '    write_atomic(layout.pointer, _as_pointer(folder / result.model).encode("utf-8"), disk=disk)\n',
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
        "published before the model is safe on the disk",
        (Replacement("daemon/publishing/publish.py", "    disk.fsync_all(kept)\n", "    kept.sort()\n"),),
        ("tests/faults/storage/test_powerloss.py",),
    ),
    SeededBug(
        "rollouts counted by name",
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
        "the least of losses that are no numbers",
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
        "a pipe that nobody reads",
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
        "names from outside shown as they are",
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
        "killed by its pid alone",
        (
            Replacement(
                "daemon/process/child.py",
                "        with contextlib.suppress(psutil.Error):\n            process.kill()\n",
                "        with contextlib.suppress(psutil.Error, OSError):\n            os.kill(process.pid, 9)\n",
            ),
        ),
        (f"{_TRAINERS_FAMILY}::test_a_pid_that_was_used_again_is_not_signalled",),
    ),
    SeededBug(
        "the owner of a trainer known by its pid alone",
        (
            Replacement(
                "daemon/process/orphans.py",
                "            return abs(psutil.Process(self.owner_pid).create_time() - self.owner_born_s)"
                " <= _BIRTH_TOLERANCE_S\n",
                "            return psutil.pid_exists(self.owner_pid)\n",
            ),
        ),
        (f"{_TRAINERS_FAMILY}::test_only_orphans_of_this_project_are_ended",),
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
        "an empty listing taken for deleted files",
        (
            Replacement(
                "daemon/rollouts/inbox.py", "        if not self._is_empty:\n", "        if not found.skipped:\n"
            ),
        ),
        ("tests/faults/engine/test_watcher.py::test_an_empty_listing_takes_nothing_for_deleted",),
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
        "waiting by the wall clock",
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
        "arrays of rollouts that still wait are removed",
        (Replacement("daemon/ledger/ledger.py", " UNION SELECT sha256 FROM rollout WHERE cycle_id IS NULL", ""),),
        ("tests/faults/test_state_machine.py",),
    ),
)
