"""Artifact to scores, without Spark, Horovod or torch."""

from nightjar.serving.model import ServingModel, load

__all__ = ["ServingModel", "load"]
