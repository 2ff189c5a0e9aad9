"""What is trained from what into what, checked before any worker starts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import GOLDEN_ENCODED, training_log
from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.manifests import CandidateManifest, DatasetManifest
from nightjar.features.contract.publishing import is_published, manifest_digest, read_manifest
from nightjar.features.contract.strict import digest
from nightjar.training.config import TrainingConfig
from nightjar.training.data.dataset import Dataset, hold_back
from nightjar.training.data.plan import Plan
from nightjar.training.models import build_head, find_model, model_columns
from nightjar.training.tables.choice import check_device, check_tables
from nightjar.training.tracking import trackers
from nightjar.training.warm_start import Transfer, WarmStart

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingJob:
    """One run. dataset, holdout, output: directories; holdout gives the golden rows, and the rows to validate on
    unless the config names others; metrics: a local JSON-lines file; warm_start: what to begin with, nothing if None.
    """

    config: TrainingConfig
    dataset: str
    output: str
    holdout: str | None = None
    metrics: str | None = None
    warm_start: WarmStart | None = None

    def open(self) -> Dataset:
        """The rows to train on. Raises a NightjarError if this job cannot be carried out."""
        manifest = read_manifest(self.dataset, DatasetManifest)
        dataset = self._without_held_back(manifest)
        self.plan(dataset).check_world(self.config.workers, self.dataset)
        build_head(self.config, dataset.layout)
        config, model = self.config.resolved, find_model(self.config.model)
        tables = config.wide if model.wide else None, config.embeddings if model.embeddings else None
        check_tables(dataset.layout, *tables)
        check_device(config.tables_on, *tables)
        trackers.check(self.config)
        if self.holdout:
            later = self._encoded_alike(self.holdout, manifest)
            if GOLDEN_ENCODED not in [entry.path for entry in later.files]:
                raise DataError(
                    f"hold-out {self.holdout} has no golden rows ({GOLDEN_ENCODED}). Build it as a later day."
                )
        self.open_validation()
        self.transfer(manifest)
        return dataset

    def within_files(self) -> TrainingJob:
        """The same with no more workers than there are files to train on, since few rows fill few files; the model is
        the same. Raises a NightjarError if there is nothing to train on.
        """
        files = len(self._without_held_back(read_manifest(self.dataset, DatasetManifest)).files)
        wanted = self.config.workers
        if files >= wanted:
            return self
        log.warning("%s has files for %d workers only, not for %d", self.dataset, files, wanted)
        fewer = {"workers": files, "min_workers": min(files, self.config.min_workers)}
        return replace(self, config=self.config.model_copy(update=fewer))

    def _without_held_back(self, manifest: DatasetManifest) -> Dataset:
        """The rows to train on."""
        dataset = Dataset.of(self.dataset, self.used(manifest))
        share = self.config.validation and self.config.validation.share
        return replace(dataset, files=hold_back(dataset.files, share)[0]) if share else dataset

    def used(self, manifest: DatasetManifest) -> DatasetManifest:
        """With the columns that the model uses. Raises UsageError if they are not enough."""
        return manifest.model_copy(update={"columns": model_columns(self.config, manifest.columns)})

    def open_validation(self) -> Dataset | None:
        """The rows to validate on, with their groups; None without validation. Raises a NightjarError."""
        config = self.config.validation
        if config is None:
            return None
        manifest = read_manifest(self.dataset, DatasetManifest)
        if config.share:
            whole = Dataset.of(self.dataset, self.used(manifest), grouped=True)
            held_out = replace(whole, files=hold_back(whole.files, config.share)[1])
        else:
            directory = config.dataset or self.holdout
            if directory is None:
                raise UsageError(
                    "training.validation has no rows to evaluate on. Give it a share or a dataset, or --holdout."
                )
            held_out = Dataset.of(directory, self.used(self._encoded_alike(directory, manifest)), grouped=True)
        if config.metric == "gauc" and not held_out.grouped:
            raise UsageError("training.validation.metric is gauc, but the data set has no groups. Set features.group.")
        return held_out

    @staticmethod
    def _encoded_alike(directory: str, manifest: DatasetManifest) -> DatasetManifest:
        later = read_manifest(directory, DatasetManifest)
        if later.columns != manifest.columns or later.state != manifest.state:
            raise DataError(
                f"hold-out {directory} was encoded with another feature state than the training rows. "
                f"Build both from one state."
            )
        return later

    def transfer(self, dataset: DatasetManifest) -> Transfer | None:
        """The warm start, checked. Raises a NightjarError if it cannot be carried out."""
        return self.warm_start.open(self.config.resolved, self.used(dataset)) if self.warm_start else None

    @classmethod
    def of(
        cls,
        config: TrainingConfig,
        dataset: str,
        output: str,
        holdout: str | None = None,
        warm_start: WarmStart | None = None,
    ) -> TrainingJob:
        """A job whose metrics go beside a local output, and nowhere if the output is a URL.

        Args:
            config: how it is trained.
            dataset: directory of the rows to train on.
            output: directory of the candidate.
            holdout: directory of the rows to validate on, with golden rows.
            warm_start: what to begin with; nothing if None.
        """
        dataset, output = storage.absolute(dataset), storage.absolute(output)
        validation = config.validation
        if validation and validation.dataset:
            absolute = validation.model_copy(update={"dataset": storage.absolute(validation.dataset)})
            config = config.model_copy(update={"validation": absolute})
        metrics = None if "://" in output else training_log(output)
        return cls(config, dataset, output, holdout and storage.absolute(holdout), metrics, warm_start)

    def plan(self, dataset: Dataset) -> Plan:
        """The order of the rows of all epochs."""
        return replace(self.evaluation_plan(dataset), ramp=None if self.warm_start else self.config.batch_ramp)

    def evaluation_plan(self, dataset: Dataset) -> Plan:
        """The order of rows that are scored and not learned from."""
        return Plan(dataset.rows, self.config.batch_size, self.config.lanes, self.config.seed)

    @property
    def inputs(self) -> Mapping[str, str]:
        """Digests of all that the candidate is made from."""
        inputs = {
            "dataset": manifest_digest(self.dataset),
            "config": digest(self.config.settings),
        }
        validation = self.config.validation and self.config.validation.dataset
        others = {"holdout": self.holdout, "validation": validation}
        inputs |= {name: manifest_digest(directory) for name, directory in others.items() if directory}
        return {**inputs, **(self.warm_start.inputs if self.warm_start else {})}

    def is_done(self) -> bool:
        """True if `output` holds the candidate of just these inputs. Raises DataError if it holds another."""
        if not is_published(self.output):
            return False
        if read_manifest(self.output, CandidateManifest).inputs != self.inputs:
            raise DataError(
                f"{self.output} holds a candidate of other inputs and is never written again. Choose another --output."
            )
        return True
