"""`[agent.mirror]`: a table in a table, from a file and from variables, and one line for every mistake."""

from __future__ import annotations

import pytest

from schemas.contract import PolicyContract
from schemas.errors import ConfigError
from schemas.settings.loading import load_settings
from schemas.settings.mirror import MirrorSettings
from schemas.settings.models import AgentSettings

EXPECTED = MirrorSettings(observation_pairs=((5, 6), (7, 8)), observation_signs=(1, 3, 13), action_signs=("steer",))
AS_TABLE = """
[agent]
observation_size = 15
[agent.mirror]
observation_pairs = [[5, 6], [7, 8]]
observation_signs = [1, 3, 13]
action_signs = ["steer"]
"""
AS_KEYS = """
[agent]
mirror.observation_pairs = [[5, 6], [7, 8]]
mirror.observation_signs = [1, 3, 13]
mirror.action_signs = ["steer"]
"""
ON_ONE_LINE = """
[agent]
mirror = { observation_pairs = [[5, 6], [7, 8]], observation_signs = [1, 3, 13], action_signs = ["steer"] }
"""
VARIABLES = {
    "HOTLAP_AGENT__MIRROR__OBSERVATION_PAIRS": "5:6, 7:8",
    "HOTLAP_AGENT__MIRROR__OBSERVATION_SIGNS": "1,3,13",
    "HOTLAP_AGENT__MIRROR__ACTION_SIGNS": "steer",
}


def loaded(tmp_path, text, environment=None):
    (tmp_path / "daemon.toml").write_text(text, encoding="utf-8")
    return load_settings(tmp_path, environment=environment or {}).agent


@pytest.mark.parametrize("text", [AS_TABLE, AS_KEYS, ON_ONE_LINE], ids=["table", "keys", "one line"])
def test_a_mirror_in_the_file_is_read(tmp_path, text):
    agent = loaded(tmp_path, text)
    assert agent.mirror == EXPECTED == agent.declared_mirror


def test_a_mirror_in_variables_is_read_and_wins(tmp_path):
    assert loaded(tmp_path, "", VARIABLES).mirror == EXPECTED
    as_json = VARIABLES | {"HOTLAP_AGENT__MIRROR__OBSERVATION_PAIRS": "[[5, 6], [7, 8]]"}
    assert loaded(tmp_path, "[agent.mirror]\nobservation_signs = [9]\n", as_json).mirror == EXPECTED


def test_choices_swap_by_name_or_index(tmp_path):
    text = '[agent]\nobservation_size = 3\nchoices = ["left", "right", "none"]\n[agent.mirror]\nchoice_pairs = '
    by_name, by_index = (loaded(tmp_path, f"{text}{pairs}\n") for pairs in ('[["left", "right"]]', "[[0, 1]]"))
    by_variable = loaded(tmp_path, f"{text}[]", {"HOTLAP_AGENT__MIRROR__CHOICE_PAIRS": "left:right"})
    for agent in (by_name, by_index, by_variable):
        mirror = agent.mirror_for(agent.contract())
        assert mirror is not None
        assert mirror.output_index_K.tolist() == [1, 0, 2]


def test_without_a_mirror_nothing_is_declared(tmp_path):
    for text in ("", "[agent.mirror]\n"):
        agent = loaded(tmp_path, text)
        assert agent.declared_mirror is None
        assert agent.mirror_for(agent.contract()) is None


def test_rollouts_decide_what_the_settings_leave_open(tmp_path):
    """A mirror can name observation 20 if nothing states how many there are: the rollouts may have 30."""
    agent = loaded(tmp_path, "[agent.mirror]\nobservation_signs = [20]\n")
    contract = AgentSettings(observation_size=30).contract()
    assert agent.mirror_for(contract) is not None
    with pytest.raises(ValueError, match=r"mirror\.observation_signs names observation 20, but they are 0 to 14"):
        agent.mirror_for(PolicyContract(observation_size=15, action_space=contract.action_space))


MISTAKES = {
    "[agent.mirror]\nobservation_pairs = 4\n": (
        "daemon.toml, line 2: agent.mirror.observation_pairs is 4, but must be a list of pairs, such as "
        "[[5, 6], [7, 8]]"
    ),
    "[agent.mirror]\n\nobservation_pairs = [[1, 2, 3]]\n": (
        "daemon.toml, line 3: agent.mirror.observation_pairs is [[1, 2, 3]], but must be a list of pairs, such as "
        "[[5, 6], [7, 8]]; [1, 2, 3] is not a pair"
    ),
    "[agent]\nmirror = {observation_pairs = [[1, 1]]}\n": (
        "daemon.toml, line 2: agent.mirror.observation_pairs is [[1, 1]], but pairs observation 1 with itself: leave "
        "it out"
    ),
    "[agent.mirror]\nobservation_pairs = [[1, 2], [2, 3]]\n": "names observation 2 twice: it can swap with one other",
    "[agent.mirror]\nobservation_signs = [4, 4]\n": "names observation 4 twice",
    "[agent.mirror]\nobservation_signs = [-1]\n": "names observation -1, but indices are counted from 0",
    "[agent.mirror]\nobservation_signs = [1.5]\n": "must contain indices: 1.5 is not one",
    "[agent.mirror]\nobservation_signs = [true]\n": "must contain indices: True is not one",
    "[agent.mirror]\naction_signs = [0]\n": "must contain names of actions: 0 is not one",
    "[agent.mirror]\naction_signs = 'steer'\n": 'must be a list, such as ["steer"]',
    "[agent.mirror]\nobservation_sign = [1]\n": "did you mean agent.mirror.observation_signs?",
    "[agent.miror]\nobservation_signs = [1]\n": "unknown table [agent.miror] -> did you mean [agent.mirror]?",
    "[agent]\nmirror = true\n": "write [agent.mirror], and its settings in the lines below",
    "[agent]\nobservation_size = 4\nactions = ['steer']\n[agent.mirror]\nobservation_signs = [4]\n": (
        "daemon.toml: [agent]: mirror.observation_signs names observation 4, but they are 0 to 3"
    ),
    "[agent]\nobservation_size = 4\nactions = ['steer', 'brake']\n[agent.mirror]\naction_signs = ['brake']\n": (
        "mirror.action_signs names brake, but brake has the bounds [0, 1], which are not symmetric around 0"
    ),
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line_with_its_place(tmp_path, text):
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    line = caught.value.line()
    assert MISTAKES[text] in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HOTLAP_AGENT__MIRROR__OBSERVATION_PAIRS", "5-6", '"5-6" is not a pair'),
        ("HOTLAP_AGENT__MIRROR__OBSERVATION_SIGNS", "1,x", 'must contain indices: "x" is not one'),
        ("HOTLAP_AGENT__MIRROR", "x", "such as HOTLAP_AGENT__MIRROR__OBSERVATION_PAIRS"),
        ("HOTLAP_AGENT__MIRROR__ACTION_SIGN", "x", "did you mean HOTLAP_AGENT__MIRROR__ACTION_SIGNS?"),
    ],
)
def test_a_mistake_in_a_variable_names_the_variable(tmp_path, name, value, words):
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, "", {name: value})
    assert words in caught.value.line()
    assert name in caught.value.line()
