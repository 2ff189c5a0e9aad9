"""What is trained from what into what, checked before any worker starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from features import storage
from features.errors import DataError
from features.manifest import (
    GOLDEN_ENCODED,
    CandidateManifest,
    DatasetManifest,
    is_published,
    manifest_digest,
    read_manifest,
)
from features.spec import digest
from training.config import TrainingConfig
from training.dataset import Dataset
from training.models import architecture, build_head
from training.plan import Plan
from training.tables import check_tables


@dataclass(frozen=True)
class TrainingJob:
    """One run. dataset, holdout, output: directories; holdout gives the golden rows; metrics: a local
    JSON-lines file.
    """

    config: TrainingConfig
    dataset: str
    output: str
    holdout: str | None = None
    metrics: str | None = None

    def open(self) -> Dataset:
        """The data set. Raises a NightjarError if this job cannot be carried out."""
        manifest = read_manifest(self.dataset, DatasetManifest)
        dataset = Dataset.of(self.dataset, manifest)
        self.plan(dataset).check_world(self.config.workers, self.dataset)
        build_head(self.config.model, dataset.layout, self.config.deep, self.config.seed)
        model = architecture(self.config.model)
        wide = self.config.wide if model.wide else None
        check_tables(dataset.layout, wide, self.config.embeddings if model.embeddings else None)
        if self.holdout:
            later = read_manifest(self.holdout, DatasetManifest)
            if later.columns != manifest.columns or later.state != manifest.state:
                raise DataError(
                    f"hold-out {self.holdout} was encoded with another feature state than {self.dataset}. "
                    f"Build both from one state."
                )
            if GOLDEN_ENCODED not in [entry.path for entry in later.files]:
                raise DataError(
                    f"hold-out {self.holdout} has no golden rows ({GOLDEN_ENCODED}). Build it as a later day."
                )
        return dataset

    @classmethod
    def of(cls, config: TrainingConfig, dataset: str, output: str, holdout: str | None = None) -> TrainingJob:
        """A job whose metrics go beside a local output, and nowhere if the output is a URL."""
        dataset, output = storage.absolute(dataset), storage.absolute(output)
        metrics = None if "://" in output else f"{output}.jsonl"
        return cls(config, dataset, output, holdout and storage.absolute(holdout), metrics)

    def plan(self, dataset: Dataset) -> Plan:
        """The order of the rows of all epochs."""
        return Plan(dataset.rows, self.config.batch_size, self.config.lanes, self.config.seed)

    @property
    def inputs(self) -> Mapping[str, str]:
        """Digests of all that the candidate is made from."""
        inputs = {
            "dataset": manifest_digest(self.dataset),
            "config": digest(self.config.settings),
        }
        return inputs | ({"holdout": manifest_digest(self.holdout)} if self.holdout else {})

    def is_done(self) -> bool:
        """True if `output` holds the candidate of just these inputs. Raises DataError if it holds another."""
        if not is_published(self.output):
            return False
        if read_manifest(self.output, CandidateManifest).inputs != self.inputs:
            raise DataError(
                f"{self.output} holds a candidate of other inputs and is never written again. Choose another --output."
            )
        return True
