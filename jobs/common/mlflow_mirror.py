"""The champion in MLflow's model registry, as an alias. The pointer file alone decides; MLflow follows it."""

from __future__ import annotations

import logging

from pydantic import Field

from nightjar.features.contract import storage
from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.strict import Strict
from nightjar.serving import registry

VERSION, DIGEST = "nightjar.version", "nightjar.digest"

log = logging.getLogger(__name__)


class MlflowRegistryConfig(Strict):
    """MLflow's model registry, which follows the champion pointer; needs the extra `mlflow`."""

    tracking_uri: str = Field(min_length=1)
    """Address of the tracking server, and of the registry."""
    model: str = Field(min_length=1)
    """The registered model's name."""
    alias: str = Field(default="champion", min_length=1)
    """Moves to the champion."""


def require_mlflow() -> None:
    """Raises UsageError if MLflow is not installed."""
    try:
        import mlflow  # noqa: F401
    except ImportError as error:
        raise UsageError("nightly.mlflow needs MLflow: pip install 'nightjar[mlflow]', or remove it.") from error


def follow(config: MlflowRegistryConfig, models: str) -> str | None:
    """Register the champion of the registry `models` unless it is, and move the alias to it; its number in MLflow.

    Promotions and rollbacks are the same here: whatever the pointer says, the alias says after this call.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    pointer = registry.champion(models)
    if pointer is None:
        return None
    client = MlflowClient(tracking_uri=config.tracking_uri, registry_uri=config.tracking_uri)
    try:
        client.create_registered_model(config.model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    known = {v.tags.get(DIGEST): v for v in client.search_model_versions(f"name='{config.model}'")}
    version = known.get(pointer.digest) or client.create_model_version(
        config.model,
        source=storage.absolute(storage.join(models, pointer.version)),
        tags={VERSION: pointer.version, DIGEST: pointer.digest},
    )
    client.set_registered_model_alias(config.model, config.alias, str(version.version))
    return str(version.version)


def try_to_follow(config: MlflowRegistryConfig, models: str) -> None:
    """`follow`, but a server that cannot be reached is a warning: the next night's call makes it good."""
    try:
        log.info("MLflow: %s@%s is version %s", config.model, config.alias, follow(config, models))
    except Exception as error:  # of MLflow's many kinds; none of them changes who is champion
        log.warning("MLflow at %s does not know the champion yet: %s", config.tracking_uri, error)
