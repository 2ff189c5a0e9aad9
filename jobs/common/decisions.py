"""What was said of a night's model, published and read back: `decision.json` beside its manifest."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import DECISION
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import DecisionManifest
from nightjar.features.contract.publishing import begin, commit, describe_files, read_manifest
from nightjar.features.contract.strict import Strict, explain
from nightjar.features.contract.verified import entry_at, read_verified
from nightjar.serving.gate.decision import Decision


def publish_decision(
    directory: str,
    decision: Decision,
    others: Mapping[str, Strict],
    of: tuple[str, str | None],
    inputs: Mapping[str, str],
) -> None:
    """Publish what was said of a version.

    Args:
        directory: to publish.
        decision: what was said.
        others: what else is on record, by file name.
        of: the version, and the one that it was compared with.
        inputs: digests of what was looked at.
    """
    begin(directory)
    for name, content in {DECISION: decision, **others}.items():
        storage.write_bytes(storage.join(directory, name), (content.model_dump_json(indent=1) + "\n").encode())
    version, against = of
    commit(
        directory,
        DecisionManifest(
            inputs=inputs,
            files=describe_files(directory),
            version=version,
            champion=against,
            verdict=decision.verdict,
        ),
    )


def read_decision(directory: str, version: str | None = None) -> tuple[Decision, str | None]:
    """The published decision on a version (None for whichever it is on), and the champion that it was made against.

    Raises DataError if there is none, if it is damaged, or if it and its manifest say different things.
    """
    manifest = read_manifest(directory, DecisionManifest)
    content = read_verified(directory, entry_at(directory, manifest, DECISION))
    try:
        decision = Decision.model_validate_json(content)
    except ValidationError as error:
        raise DataError(explain(error, storage.join(directory, DECISION))) from error
    version = version or manifest.version
    passed = all(check.passed for check in decision.checks)
    if (manifest.version, manifest.verdict) != (version, decision.verdict) or passed != (
        decision.verdict == "published"
    ):
        raise DataError(
            f"{directory} contradicts itself: its manifest says {manifest.version} is {manifest.verdict}; the decision "
            f"says {decision.verdict} of {version}, with {len(decision.failures)} failed checks. Remove it, and run "
            f"the gate again."
        )
    return decision, manifest.champion
