"""The rows that a model's calibration is fitted to: those that its training held back."""

from __future__ import annotations

from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.manifests import DatasetManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.serving.packing.calibrate import CalibrationRows
from nightjar.serving.packing.config import ArtifactConfig
from nightjar.training.config import TrainingConfig
from nightjar.training.data.dataset import hold_back


def rows_held_back(packing: ArtifactConfig, training: TrainingConfig, dataset: str | None) -> CalibrationRows | None:
    """What `training.validation` holds back; None where nothing is calibrated.

    Args:
        packing: whether there is a calibration.
        training: how the model was trained.
        dataset: directory of the rows that it was trained on.

    Raises UsageError if nothing is held back, and DataError if a data set is not there.
    """
    if not packing.is_calibrated:
        return None
    validation = training.validation
    directory = validation.dataset or (dataset if validation.share else None) if validation else None
    if validation is None or directory is None:
        raise UsageError(
            "artifact.calibration takes rows that the model has not learned from. Set training.validation.share, and "
            "name the data set that it was trained on; or set training.validation.dataset."
        )
    files = read_manifest(directory, DatasetManifest).data_files
    return CalibrationRows(directory, hold_back(files, validation.share)[1] if validation.share else files)
