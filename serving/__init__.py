"""Artifact to scores, without Spark, Horovod or torch."""

from nightjar.features.encoder.requests import InContext
from nightjar.serving.champion import CountersLimit, Ranker, load_champion
from nightjar.serving.model import ServingModel, load

__all__ = ["CountersLimit", "InContext", "Ranker", "ServingModel", "load", "load_champion"]
