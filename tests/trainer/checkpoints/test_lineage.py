"""The lineage of a model names the rollouts that were new in its cycle."""

from __future__ import annotations

from tests.trainer.toy import Bandit, loop_for
from trainer.checkpoints.checkpoint import checkpoint_from, load_document


def test_rollouts_of_earlier_cycles_are_not_named_as_new(tmp_path):
    env = Bandit()
    loop = loop_for(env, tmp_path)
    old = loop.given(env.play(loop.start(), 40))
    model = loop.train(old)
    assert model.lineage.rollouts == (old.sha256,)
    new = loop.given(env.play(model, 40))
    model = loop.train(new, old.model_copy(update={"is_new": False, "age": 1}))
    assert model.lineage.rollouts == (new.sha256,)
    assert loop.result is not None
    document = load_document((loop.output / loop.result.checkpoint).read_bytes())
    assert checkpoint_from(document).lineage.rollouts == (new.sha256,)
