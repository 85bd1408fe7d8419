"""`daemon.engine_path`: the pointer file and status.json name the model as the engine sees it."""

from __future__ import annotations

import orjson
import pytest

from daemon.diagnostics.invariants import check_invariants
from daemon.runtime.project_folder import describe_other_path
from schemas.errors import ConfigError
from schemas.settings.loading import load_settings
from tests.faults.support.harness import InstantHarness


@pytest.mark.parametrize("engine_path", ["C:\\Games\\My Game\\", "C:/Games/My Game"])
def test_pointer_and_status_name_the_model_as_the_engine_sees_it(tmp_path, engine_path):
    with InstantHarness(tmp_path, engine_path=engine_path) as harness:
        harness.run_cycle(1)
    named = "C:/Games/My Game/Saved/Training/Models/cycle_000001/model_epoch_"
    assert harness.paths.pointer.read_text(encoding="utf-8").startswith(named)
    assert orjson.loads(harness.paths.status.read_bytes())["best_model_path"].startswith(named)
    assert check_invariants(tmp_path, engine_project=engine_path) == ()
    assert "which is not a model of this project" in check_invariants(tmp_path)[0].message


def test_the_next_start_writes_the_pointer_again_after_the_setting_changed(tmp_path):
    for engine_path in ("", "/home/me/game", "", "//server/share/game"):
        with InstantHarness(tmp_path, engine_path=engine_path) as harness:
            harness.until_version(0)
            root = engine_path or tmp_path.as_posix()
            text = harness.paths.pointer.read_text(encoding="utf-8")
            assert text.startswith(f"{root}/Saved/Training/Models/cycle_000000/")
        assert check_invariants(tmp_path, engine_project=engine_path) == ()


@pytest.mark.parametrize("path", ["Games/MyGame", "MyGame", "C:MyGame", "/a\nb"])
def test_a_path_that_is_not_absolute_is_refused(tmp_path, path):
    with pytest.raises(ConfigError, match="must be an absolute path"):
        load_settings(tmp_path, environment={"HOTLAP_DAEMON__ENGINE_PATH": path})


@pytest.mark.parametrize(
    ("project", "where", "named"),
    [
        ("/mnt/c/Games/My Game", {"is_wsl": True, "is_container": False}, '"C:/Games/My Game"'),
        ("/home/me/game", {"is_wsl": True, "is_container": False}, '"//wsl.localhost/<distribution>/home/me/game"'),
        ("/game", {"is_wsl": False, "is_container": True}, "to the project's path on that machine"),
    ],
)
def test_wsl_and_containers_are_named_with_the_setting(project, where, named):
    assert describe_other_path(project, **where).endswith(named)


def test_elsewhere_there_is_no_note():
    assert describe_other_path("/game", is_wsl=False, is_container=False) is None
