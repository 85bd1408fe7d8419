"""YAML configs of older training scripts become Hotlap's settings, and each key is reported once."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import ConfigError
from trainer.online.cli import main
from trainer.online.config import OnlineSettings, read_config, read_yaml_config

ROOT = Path(__file__).resolve().parents[3]
OLD = """
environment: {env_id: CartPole-v1, num_envs: 4}
training:
  total_timesteps: 1e3
  n_steps: 64
  batch_size: "64"
  lr: 3e-4
  final_lr: 1.0e-5
  ent_coef: 0.0
  net_arch: [{pi: [16, 16], vf: [8]}]
  policy: MlpPolicy
inference: {deterministic: true, device: cpu}
selfplay:
  curriculum_stages: [1v1]
evaluation: {frequency: 500}
checkpoints: {frequency: 500, keep_best_n: 2, dir: saved}
logging:
  log_dir: runs
  tensorboard: false
  wandb: {enabled: false, project: mine}
"""


def read(tmp_path, text, name="config.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path, read_yaml_config(path)


def values(tmp_path, text):
    return {name: entry.value for name, entry in read(tmp_path, text)[1].values.items()}


def test_sections_and_keys_become_settings(tmp_path):
    path, found = read(tmp_path, OLD)
    settings = read_config(path)
    assert (settings.env.id, settings.env.num_envs, settings.env.n_steps) == ("CartPole-v1", 4, 64)
    assert (settings.run.total_steps, settings.run.logs) == (1000, "runs")
    train = settings.train
    assert (train.learning_rate, train.learning_rate_end, train.entropy_coef) == (3e-4, 1e-5, 0.0)
    assert (train.batch_size, train.hidden_sizes) == (64, (16, 16))
    assert (settings.evaluation.every_steps, settings.checkpoints.every_steps) == (500, 500)
    assert settings.checkpoints.keep_best == 2
    assert (settings.report.tensorboard, settings.report.wandb, settings.report.project) == (False, False, "mine")
    assert settings.run.device == "auto", "that of inference is not that of the training"
    assert not settings.curriculum.enabled, "one stage"
    assert found.unused == ["training.policy", "inference.deterministic", "inference.device", "checkpoints.dir"]
    assert "training.ent_coef -> train.entropy_coef" in found.mapped


@pytest.mark.parametrize(
    "stages",
    [
        "[{name: 1v1, timesteps: 100}, {name: 1v2, timesteps: 200}, {name: 2v2, timesteps: 300}]",
        "[{stage: 1v1, start: 0}, {stage: 1v2, start: 100}, {stage: 2v2, start_at: 300}]",
        "[{mode: 1vs1, until: 100}, {mode: 1vs2, until: 300}, {mode: 2vs2}]",
        "{1v1: 0, 1v2: 100, 2v2: 3e2}",
        "{1v1: {timesteps: 100}, 1v2: {timesteps: 200}, 2v2: {}}",
    ],
)
def test_each_form_of_stages_has_the_same_meaning(tmp_path, stages):
    found = values(tmp_path, f"selfplay: {{curriculum_stages: {stages}}}")
    assert found == {"curriculum.enabled": True, "curriculum.one_v_two_at": 100, "curriculum.two_v_two_at": 300}


def test_numbers_that_yaml_reads_as_texts_are_numbers(tmp_path):
    found = values(tmp_path, "training: {total_timesteps: 1e6, learning_rate: lin_3e-4, gamma: '0.99', n_epochs: '4'}")
    assert found["run.total_steps"] == 1_000_000
    assert isinstance(found["run.total_steps"], int)
    assert (found["train.learning_rate"], found["train.learning_rate_end"]) == (3e-4, pytest.approx(3e-6))
    assert (found["train.gamma"], found["train.epochs"]) == (0.99, 4)


def test_keys_without_a_section_and_a_byte_order_mark_are_read(tmp_path):
    path = tmp_path / "config.yml"
    path.write_bytes(b"\xef\xbb\xbf" + b"env_id: Pendulum-v1\r\ntotal_timesteps: 5000\r\nseed: 3\r\n")
    settings = read_config(path)
    assert (settings.env.id, settings.run.total_steps, settings.run.seed) == ("Pendulum-v1", 5000, 3)
    path.write_text("")
    assert read_config(path) == OnlineSettings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("training: [unclosed", "line 1, column 20"),
        ("- a\n- b\n", "contains no keys"),
        ("training: !!python/object/apply:os.system ['echo']", "could not determine a constructor"),
        ("training: {n_epochs: many}", 'training.n_epochs is "many"'),
        ("selfplay: {curriculum_stages: [{name: 5v5}]}", "write the stages 1v1, 1v2 and 2v2"),
        ("training:\n\tlr: 3\n", "is not valid YAML"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(tmp_path, text, said):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_shipped_file_uses_all_its_keys_and_equals_the_rocket_config():
    found = read_yaml_config(ROOT / "configs" / "base.yaml")
    assert found.unused == []
    settings, expected = read_config(ROOT / "configs" / "base.yaml"), OnlineSettings()
    assert settings.env.id == "rocket"
    assert settings.curriculum == expected.curriculum
    assert settings.rocket == expected.rocket


def test_a_run_of_an_old_config_reports_each_key_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    read(tmp_path, OLD)
    assert main([]) == 0, "config.yaml in this folder"
    out = capsys.readouterr().out
    assert out.count("training.ent_coef -> train.entropy_coef") == 1
    unused = "training.policy, inference.deterministic, inference.device, checkpoints.dir"
    assert f"[WARN] config.yaml: not used, because Hotlap has no such setting: {unused}" in out
    assert (tmp_path / "runs" / "latest_run" / "checkpoints" / "final_model.json").is_file()
    assert main(["--config", "config.yaml", "--steps", "256", "--seed", "5"]) == 0
    settings = read_config(tmp_path / "runs" / "latest_run" / "config.toml")
    assert (settings.run.total_steps, settings.run.seed) == (256, 5)
