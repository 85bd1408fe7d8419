"""milestone_config.json is read completely, or rejected with one line that names the place."""

import json

import pytest

from schemas.errors import ConfigError
from trainer.dagger.milestones import read_config

A = {"id": "A", "description": "first", "starting_state": None, "max_steps": 10}
B = {"id": "B", "starting_state": "milestone_states/A_completed.state", "max_steps": 10}


def read(tmp_path, document):
    path = tmp_path / "config.json"
    path.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
    return read_config(path)


def config(*milestones, **more):
    return {"env": "racing", "milestones": milestones, **more}


def test_unknown_keys_are_kept(tmp_path):
    found = read(tmp_path, config({**A, "reward_hint": 3}, B, made_by="hand"))
    assert found.milestones[0].model_dump()["reward_hint"] == 3
    assert found.model_dump()["made_by"] == "hand"
    assert found.milestones[1].start_state_name() == "A_completed.state"


def test_lanes_is_the_older_name_of_num_envs(tmp_path):
    assert read(tmp_path, config(A, num_envs=3)).num_envs == 3
    assert read(tmp_path, config(A, lanes=3)).num_envs == 3
    assert read(tmp_path, config(A)).num_envs is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_editors_write_are_read(tmp_path, encoding):
    text = json.dumps(config({**A, "description": "through the S\N{LATIN SMALL LETTER U WITH DIAERESIS}d curve"}))
    assert read(tmp_path, text.encode(encoding)).ids() == ("A",)


BAD = {
    "two equal ids": (config(A, A), "2 milestones have the id A -> use a different id for each"),
    "ids that differ in case": (
        config(A, {**A, "id": "a"}),
        "2 milestones have the id A -> use a different id for each",
    ),
    "no milestones": (config(), "milestones is an empty list, but must contain at least one milestone"),
    "no number of tries": (config(A, max_retries=-1), "max_retries is -1, but must be a whole number, at least 0"),
    "no time": (config({**A, "timeout": 0}), "milestones[0].timeout is 0, but must be a number above 0"),
    "a flag as text": (config(A, stop_on_failure="yes"), 'stop_on_failure is "yes", but must be true or false'),
    "a number too low": (
        config({**A, "max_steps": 0}),
        "milestones[0].max_steps is 0, but must be a whole number, at least 1",
    ),
    "a number as text": (
        config({**A, "max_steps": "300"}),
        'milestones[0].max_steps is "300", but must be a whole number, at least 1',
    ),
    "an id that is a path": (
        config({**A, "id": "../x"}),
        'milestones[0].id is "../x", but must be 1 to 64 letters, digits, _, . or -, and begin with a letter or digit',
    ),
    "an id that is a number": (config({**A, "id": 1}), "milestones[0].id is 1, but must be text"),
    "a missing key": (config({"id": "A"}), "milestones[0].max_steps is missing"),
    "several problems": (config({"id": "A"}, {"id": "B"}), "milestones[0].max_steps is missing (and 1 more)"),
    "a misspelt key": (
        config({"id": "A", "max_step": 300}),
        "milestones[0].max_step is not a known key -> did you mean max_steps?",
    ),
    "a misspelt optional key": (
        config(A, {"id": "B", "max_steps": 9, "start_state": "x"}),
        "milestones[1].start_state is not a known key -> did you mean starting_state?",
    ),
    "a misspelt list": (
        {"env": "racing", "milestone": [A]},
        "milestone is not a known key -> did you mean milestones?",
    ),
    "ids instead of objects": (
        config("A", "B"),
        'milestones[0] is "A", but must be an object with the keys id and max_steps (and 1 more)',
    ),
    "an object instead of a list": (
        {"env": "racing", "milestones": {"A": {"max_steps": 5}}},
        "milestones is an object, but must be a list",
    ),
    "only a list": ([A], "the content is a list, but must be an object with the keys env and milestones"),
    "options that are a list": (config(A, env_options=[1]), "env_options is a list, but must be an object"),
    "no environments": (config(A, num_envs=0), "num_envs is 0, but must be a whole number, at least 1"),
    "a cut-off file": (b'{"env": "rac', "line 1, column 9: not valid JSON: Unterminated string"),
    "a comma too many": (b'{"env": "racing",\n "milestones": [],\n}', "line 3, column 1: not valid JSON"),
    "an empty file": (b"", "line 1, column 1: not valid JSON: Expecting value"),
    "nan": (b'{"env": "racing", "x": NaN}', "NaN is not allowed in JSON"),
    "another encoding": ('{"env": "\N{LATIN SMALL LETTER U WITH DIAERESIS}"}'.encode("latin-1"), "is not UTF-8"),
}


@pytest.mark.parametrize(("document", "message"), BAD.values(), ids=BAD)
def test_bad_config_is_reported_in_one_line(tmp_path, document, message):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, document)
    line = str(caught.value)
    assert message in line
    assert line.startswith((tmp_path / "config.json").as_posix())
    assert "\n" not in line
    assert "Input should" not in line, "pydantic's own words"


def test_a_key_of_the_environment_can_be_similar_to_a_known_key_that_is_set(tmp_path):
    found = read(tmp_path, config({**A, "max_step": 3}))
    assert found.milestones[0].model_dump()["max_step"] == 3


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.json does not exist -> name the file with --milestone-config"):
        read_config(tmp_path / "none.json")


def test_retries_and_timeouts_of_existing_files_are_understood(tmp_path):
    """As in the files of the pipeline that this one can replace: no env, limits for each milestone."""
    limits = {"max_retries": 3, "timeout": 60}
    document = {"stop_on_failure": True, "timeout": 90.5, "milestones": [{**A, **limits}, {**B, "max_retries": None}]}
    found = read(tmp_path, document)
    assert (found.env, found.stop_on_failure) == ("", True)
    assert [(found.retries(name), found.timeout_s(name)) for name in found.ids()] == [(3, 60.0), (0, 90.5)]
