"""Artifact to scores, without Spark, Horovod or torch."""

from serving.model import ServingModel, load

__all__ = ["ServingModel", "load"]
