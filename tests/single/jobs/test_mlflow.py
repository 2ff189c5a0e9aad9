"""MLflow's alias stands at whatever the pointer says, after promotions and after rollbacks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nightjar.jobs import promote_model
from nightjar.jobs.common.mlflow_mirror import DIGEST, VERSION, MlflowRegistryConfig, follow, try_to_follow
from nightjar.serving import registry
from tests.kits.registry_kit import publish_all

mlflow = pytest.importorskip("mlflow")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowRegistryConfig:
    """MLflow's store of files, which it keeps for small installations and tests."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return MlflowRegistryConfig(tracking_uri=(tmp_path / "mlruns").as_uri(), model="app_store")


def alias(config: MlflowRegistryConfig) -> tuple[str, str, str]:
    client = mlflow.MlflowClient(config.tracking_uri, config.tracking_uri)
    version = client.get_model_version_by_alias(config.model, "champion")
    return str(version.version), version.tags[VERSION], version.source


def test_the_alias_follows_promotions_and_rollbacks(config: MlflowRegistryConfig, tmp_path: Path) -> None:
    models = str(tmp_path / "models")
    publish_all(models, "ab")
    assert follow(config, models) is None
    registry.promote(models, "a", "the gate")
    assert follow(config, models) == "1"
    pointer = registry.promote(models, "b", "the gate")
    assert follow(config, models) == follow(config, models) == "2"
    assert alias(config) == ("2", "b", f"{models}/b")
    registry.rollback(models)
    assert follow(config, models) == "1"
    assert alias(config) == ("1", "a", f"{models}/a")
    client = mlflow.MlflowClient(config.tracking_uri, config.tracking_uri)
    assert client.get_model_version(config.model, "2").tags[DIGEST] == pointer.digest


def test_a_rollback_by_hand_moves_the_alias_too(config: MlflowRegistryConfig, tmp_path: Path) -> None:
    models = str(tmp_path / "models")
    publish_all(models, "ab")
    section = {"tracking_uri": config.tracking_uri, "model": config.model}
    features = {"name": "x", "label": "y", "timestamp": "t", "fields": [{"name": "f"}]}
    (tmp_path / "c.yaml").write_text(json.dumps({"features": features, "nightly": {"mlflow": section}}))
    by_hand = ["--models", models, "--config", str(tmp_path / "c.yaml")]
    for command in (["promote", "a"], ["promote", "b"], ["rollback"]):
        assert promote_model.main([*by_hand, *command]) == 0
    assert alias(config)[1] == "a"


def test_a_server_that_cannot_be_reached_is_a_warning(
    config: MlflowRegistryConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    models = str(tmp_path / "models")
    publish_all(models, "a")
    registry.promote(models, "a", "the gate")
    try_to_follow(config.model_copy(update={"tracking_uri": "http://127.0.0.1:1"}), models)
    assert "does not know the champion yet" in caplog.text
