"""The network and the loss in docs/guides/custom-network.md train, and code that breaks the rules is rejected."""

import re
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import ConfigError, ContractError
from schemas.model import check_probe
from tests.trainer.toy import Bandit, loop_for
from trainer.checkpoints.policy import load_policy
from trainer.networks.network import Shape, build_network

PAGE = Path(__file__).resolve().parents[3] / "docs" / "guides" / "custom-network.md"


def code(name):
    return re.search(rf"<!-- code: {name} -->\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Change to a project folder with the page's code in a module, and return the module's name, which is new."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    name = f"my_game_{abs(hash(tmp_path)) % 10**9}"
    (folder / f"{name}.py").write_text(code("network") + "\n\n" + code("loss"), encoding="utf-8")
    return name


def test_the_network_of_the_page_trains_and_its_shared_layers_are_exported_twice(tmp_path, project):
    world = Bandit(scale=30.0, shift=100.0)
    loop = loop_for(world, tmp_path / "loop", network=f"{project}:SharedTrunk")
    model = loop.start()
    for _ in range(3):
        model = loop.train(world.play(model, 40))
        assert loop.reporter.codes() == []
    assert check_probe(model) < 1e-5
    np.testing.assert_array_equal(model.policy.hidden[1].weights, model.value_function.hidden[1].weights)
    checkpoint = load_policy(loop.output / loop.result.checkpoint)  # needs no class: the layers are in the file
    x = (world.rng.normal(size=(1000, 4)) * 30 + 100).astype(np.float32)
    assert np.abs(checkpoint.mean(x) - model.mean(x)).max() < 1e-5


def test_the_loss_of_the_page_trains(tmp_path, project):
    world = Bandit()
    mild, usual = (
        loop_for(world, tmp_path / name, **keywords)
        for name, keywords in (("mild", {"loss": f"{project}:mild_loss"}), ("usual", {}))
    )
    rollout = world.play(mild.start(), 40)
    usual.start()
    one, two = mild.train(rollout), usual.train(rollout)
    assert not np.array_equal(one.value_function.head.weights, two.value_function.head.weights)


def test_another_network_than_that_of_the_parent_is_rejected(tmp_path, project):
    world = Bandit()
    loop = loop_for(world, tmp_path / "loop")
    rollout = world.play(loop.train(world.play(loop.start(), 40)), 40)
    custom = loop.settings.model_copy(update={"network": f"{project}:SharedTrunk"})
    with pytest.raises(ContractError, match="trained with the built-in network"):
        loop.train(rollout, settings=custom)


BROKEN = {
    "computes something else": (
        "return self.policy_head(x), ",
        "return self.policy_head(x) * 2, ",
        "compute different results",
    ),
    "names too few layers": ("Stacks((*self.trunk, ", "Stacks((*self.trunk[:1], ", "but must have"),
    "is not a network": ("class SharedTrunk(Network)", "class SharedTrunk(dict)", "not a subclass"),
}


@pytest.mark.parametrize(("old", "new", "words"), BROKEN.values(), ids=BROKEN)
def test_a_network_that_breaks_the_rules_is_rejected_before_training(tmp_path, project, old, new, words):
    path = Path(f"{project}_broken.py")
    path.write_text(
        code("network")
        .replace(old, new)
        .replace("super().__init__(shape)", "super().__init__()" if "dict" in new else "super().__init__(shape)"),
        encoding="utf-8",
    )
    loop = loop_for(Bandit(), tmp_path / "loop", network=f"{path.stem}:SharedTrunk")
    with pytest.raises(ConfigError, match=words):
        loop.start()


@pytest.mark.parametrize("name", ["nowhere:Net", "json:NoSuch", "no-colon", ":x"])
def test_a_name_that_cannot_be_imported_is_an_error(tmp_path, name):
    with pytest.raises(ConfigError, match="cannot be loaded"):
        loop_for(Bandit(), tmp_path, network=name).start()


WRONG = {
    "syntax": ("def f(:", "net", r"SyntaxError: invalid syntax \(\w+\.py, line 1\) -> correct \w+\.py"),
    "import": ("1 / 0\ndef net(shape): ...", "net", r"ZeroDivisionError: .* \(\w+\.py, line 1\) -> correct"),
    "constructor": (
        "def net(shape):\n    return shape.width", "net", r"AttributeError: .* \(\w+\.py, line 2\) -> correct \w+\.py"
    ),
    "arguments": ("def net(): ...", "net", r"cannot be used: TypeError: net\(\) takes 0 .* -> see"),
    "result": ("def net(shape): return 3", "net", "is not a subclass of trainer.Network"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "attribute", "message"), WRONG.values(), ids=WRONG)
def test_a_mistake_in_the_user_s_module_names_its_file_and_line(tmp_path, project, text, attribute, message):
    (tmp_path / "project" / f"{project}.py").write_text(text)
    with pytest.raises(ConfigError, match=message):
        build_network(Shape(4, (8,), 2, 0), custom=f"{project}:{attribute}", seed=0)


_BEGIN = "from trainer import ppo_loss\ndef loss(batch, new, config):\n"
RETURNS = {
    "nothing": ("def loss(batch, new, config):\n    pass", "returns a NoneType instead of LossTerms"),
    "a number": (
        f"{_BEGIN}    return ppo_loss(batch, new, config)._replace(entropy=0.5)",
        "entropy is a float instead of a tensor",
    ),
    "no gradient": (
        f"{_BEGIN}    terms = ppo_loss(batch, new, config)\n    return terms._replace(total=terms.total.detach())",
        "total has no gradient",
    ),
}


@pytest.mark.parametrize(("text", "message"), RETURNS.values(), ids=RETURNS)
def test_a_loss_that_returns_something_else_is_named(tmp_path, project, text, message):
    (tmp_path / "project" / f"{project}.py").write_text(text)
    world = Bandit()
    loop = loop_for(world, tmp_path / "loop", loss=f"{project}:loss")
    with pytest.raises(ConfigError, match=rf"trainer.loss = {project}:loss.*{message}"):
        loop.train(world.play(loop.start(), 40))
