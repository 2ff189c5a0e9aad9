"""What a job is told of its parent, and the checks before any worker starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.layout import table_layout
from nightjar.features.contract.manifests import CandidateManifest, DatasetManifest, ParentCandidate, StateManifest
from nightjar.features.contract.publishing import manifest_digest, read_manifest, verify
from nightjar.features.contract.strict import digest
from nightjar.training.config import TrainingConfig
from nightjar.training.warm_start.transfer import Side, Transfer


@dataclass(frozen=True)
class WarmStart:
    """Begin with a parent. candidate: the parent's directory; parent_state, state: directories of the encoder states
    under which the parent's and the new data set were encoded; decay: what the parent's sums of squared gradients are
    multiplied by, in (0, 1]: less than 1 lets the new days move the weights faster.
    """

    candidate: str
    parent_state: str
    state: str
    decay: float = 1.0

    @property
    def inputs(self) -> Mapping[str, str]:
        """Digests of what it adds to a candidate's inputs; the states are among the others' already."""
        return {"parent": manifest_digest(self.candidate), "warm_start": digest({"decay": self.decay})}

    @property
    def parent(self) -> ParentCandidate:
        """What the child's manifest says of it."""
        return ParentCandidate(
            candidate=storage.name_of(self.candidate),
            digest=manifest_digest(self.candidate),
            through_date=read_manifest(self.parent_state, StateManifest).through_date,
            decay=self.decay,
        )

    def open(self, config: TrainingConfig, dataset: DatasetManifest) -> Transfer:
        """Check that everything belongs together. Reads manifests only. Raises DataError and UsageError."""
        if not 0.0 < self.decay <= 1.0:
            raise UsageError(f"the decay of a warm start must lie in (0, 1]; got {self.decay}.")
        candidate = read_manifest(self.candidate, CandidateManifest)
        for state, expected, whose in (
            (self.parent_state, candidate.state, f"the parent {self.candidate}"),
            (self.state, dataset.state, "the data set"),
        ):
            if manifest_digest(state) != expected:
                raise DataError(
                    f"{state} is not the encoder state of {whose}: its digest is {manifest_digest(state)[:12]}, not "
                    f"{expected[:12]}. Give the state that it was encoded with."
                )
        theirs, ours = (read_manifest(state, StateManifest) for state in (self.parent_state, self.state))
        if theirs.spec.label != ours.spec.label:
            raise UsageError(
                f"the parent {self.candidate} has learned to predict {theirs.spec.label!r}, not {ours.spec.label!r}. "
                f"Start without a parent."
            )
        try:
            settings = TrainingConfig.model_validate(candidate.settings)
        except ValidationError as error:
            raise DataError(
                f"the settings of the parent {self.candidate} are none of this version's: {error}. "
                f"Start without a parent."
            ) from error
        return Transfer(
            directory=self.candidate,
            parent=Side(self.parent_state, theirs, settings, table_layout(candidate.columns)),
            child=Side(self.state, ours, config, table_layout(dataset.columns)),
            decay=self.decay,
        )

    def verify(self) -> None:
        """Read every file of the parent and of its state. Raises DataError that names what is damaged."""
        verify(self.candidate, read_manifest(self.candidate, CandidateManifest))
        verify(self.parent_state, read_manifest(self.parent_state, StateManifest))
