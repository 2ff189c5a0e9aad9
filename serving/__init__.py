"""Artifact to scores, without Spark, Horovod or torch."""

from nightjar.features.encoder.requests import InContext
from nightjar.serving.champion import CountersLimit, Ranker, load_champion
from nightjar.serving.explain.explanation import Explanation, explain_change
from nightjar.serving.model import ServingModel, load

__all__ = [
    "CountersLimit",
    "Explanation",
    "InContext",
    "Ranker",
    "ServingModel",
    "explain_change",
    "load",
    "load_champion",
]
