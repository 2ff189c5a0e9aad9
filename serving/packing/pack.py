"""Candidate, encoder state and golden rows to an artifact: a directory with all that downstream needs.

scoring/  wide_ids.npy int64[n] ascending, wide_weights.npy float32[n] without zeros,
          embedding_<width>.npy float32[rows, width], head.onnx;
          a model without a wide part or without embeddings lacks those files
encoder/  the state's files and its manifest
golden/   raw.parquet: rows of the hold-out's log; scores.npy float32[rows]: what the trainer gave them

Where ArtifactConfig says so, tables are stored in 16 or 8 bits, and scoring/calibration.json is fitted
(docs/artifact-format.md). The golden scores are then the packed model's, once the trainer's own have been found with
the trainer's own tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from nightjar.features.contract import layout, manifests, storage
from nightjar.features.contract.artifact_files import (
    CANDIDATE_SCORES,
    ENCODER,
    GOLDEN,
    GOLDEN_ENCODED,
    GOLDEN_RAW,
    GOLDEN_SCORES,
    SCORING,
    WIDE_BIAS,
    WIDE_IDS,
    WIDE_WEIGHTS,
    embedding_scales,
    embedding_values,
)
from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.layout import dataset_columns
from nightjar.features.contract.manifests import (
    ArtifactManifest,
    CandidateManifest,
    DatasetManifest,
    Lineage,
    Manifest,
    StateManifest,
)
from nightjar.features.contract.publishing import (
    EXTENDED_FORMAT,
    MANIFEST,
    begin,
    commit,
    describe_files,
    is_published,
    manifest_digest,
    read_manifest,
    verify,
)
from nightjar.features.contract.strict import digest
from nightjar.features.encoder.encoder import ColumnValues, Encoder
from nightjar.features.encoder.files import read_array, read_table
from nightjar.features.encoder.ragged import Ragged
from nightjar.features.encoder.rows import hash_rows
from nightjar.features.encoder.state import load_state
from nightjar.serving.arrays import is_finite, write_array, write_pieces
from nightjar.serving.encoded import to_columns
from nightjar.serving.model import ServingModel, open_model, open_tables
from nightjar.serving.packing.calibrate import CalibrationRows, write_calibration
from nightjar.serving.packing.config import ArtifactConfig
from nightjar.serving.packing.dry_run import wrong_scores
from nightjar.serving.packing.small_tables import pieces, to_float16, to_int8, to_small_weights

FLOAT_TOLERANCE = 1e-6
_UNKNOWN = Lineage()
_PLAIN = ArtifactConfig()


def pack(
    candidate_dir: str,
    state_dir: str,
    holdout_dir: str,
    output_dir: str,
    lineage: Lineage = _UNKNOWN,
    config: ArtifactConfig = _PLAIN,
    held_back: CalibrationRows | None = None,
) -> ArtifactManifest:
    """Publish the artifact of a candidate; return at once if it is published there from the same inputs.

    Raises DataError, and publishes nothing, if the inputs do not belong together, if serving encodes a golden row
    otherwise than Spark did, or if the tables do not fit the columns. Whether the scores are right is for the gate to
    say, by a dry run of the published artifact; of a model that scores otherwise than the trainer's tables, by its
    config, it is asked here whether these give the trainer's scores.

    Args:
        candidate_dir: what the trainer published.
        state_dir: the encoder state that the candidate was trained under.
        holdout_dir: a data set of later days, with golden rows.
        output_dir: to publish.
        lineage: JSON values that say where the model comes from; the training settings and days are added.
        config: how tables are stored, and whether there is a calibration.
        held_back: what the calibration is fitted to.
    """
    if config.is_calibrated and held_back is None:
        raise UsageError("a calibration takes rows that the model has not learned from. Give them.")
    candidate = read_manifest(candidate_dir, CandidateManifest)
    state = read_manifest(state_dir, StateManifest)
    holdout = read_manifest(holdout_dir, DatasetManifest)
    settings = config.model_dump(mode="json", exclude_defaults=True)
    inputs = {
        "candidate": manifest_digest(candidate_dir),
        "state": manifest_digest(state_dir),
        "holdout": manifest_digest(holdout_dir),
        **({} if config.is_plain else {"config": digest(settings)}),
        **({"calibration": held_back.digest} if held_back and config.is_calibrated else {}),
    }
    if is_published(output_dir):
        published = read_manifest(output_dir, ArtifactManifest)
        if published.inputs == inputs:
            return published
    problems = list(_disagreements(candidate, state, inputs["state"], holdout))
    if held_back and manifest_digest(held_back.directory) == inputs["holdout"]:
        problems.append("the rows to calibrate by are the hold-out, by which the model is judged")
    elif held_back and read_manifest(held_back.directory, DatasetManifest).state != inputs["state"]:
        problems.append(f"the rows to calibrate by, of {held_back.directory}, were encoded under another state")
    if problems:
        raise DataError(
            f"candidate {candidate_dir}, state {state_dir} and hold-out {holdout_dir} do not belong together:"
            + "".join(f"\n  {problem}" for problem in problems)
        )
    verify(candidate_dir, _only(candidate, f"{SCORING}/"))
    verify(state_dir, state)
    verify(holdout_dir, _only(holdout, f"{GOLDEN}/"))
    _compare_encodings(state_dir, state, holdout_dir)

    begin(output_dir)
    _write_scoring(candidate_dir, candidate, output_dir, config)
    for path in [entry.path for entry in state.files] + [MANIFEST]:
        storage.copy(storage.join(state_dir, path), storage.join(output_dir, ENCODER, path))
    storage.copy(storage.join(holdout_dir, GOLDEN_RAW), storage.join(output_dir, GOLDEN_RAW))
    storage.copy(storage.join(candidate_dir, CANDIDATE_SCORES), storage.join(output_dir, GOLDEN_SCORES))
    copied = [entry.model_copy(update={"path": storage.join(ENCODER, entry.path)}) for entry in state.files]
    manifest = ArtifactManifest(
        format=manifests.FORMAT if config.is_plain else max(manifests.FORMAT, EXTENDED_FORMAT),
        inputs=inputs,
        files=describe_files(output_dir, copied),
        model=candidate.model,
        spec_fingerprint=candidate.spec_fingerprint,
        columns=candidate.columns,
        lineage=lineage.model_copy(
            update={
                "settings": candidate.settings,
                "parent": candidate.parent,
                **({} if config.is_plain else {"artifact": settings}),
                "state_first_date": state.first_date,
                "state_through_date": state.through_date,
            }
        ),
        metrics=candidate.statistics,
    )
    model = open_model(output_dir, manifest)
    if config.is_calibrated and held_back:
        write_calibration(model, held_back, config.calibration)
        manifest = manifest.model_copy(update={"files": describe_files(output_dir, manifest.files)})
        model = open_model(output_dir, manifest)
    if not config.is_plain:
        _write_own_golden_scores(model, candidate_dir, candidate)
        unchanged = [entry for entry in manifest.files if entry.path != GOLDEN_SCORES]
        manifest = manifest.model_copy(update={"files": describe_files(output_dir, unchanged)})
    commit(output_dir, manifest)
    return manifest


def _disagreements(
    candidate: CandidateManifest, state: StateManifest, state_digest: str, holdout: DatasetManifest
) -> Iterator[str]:
    for what, manifest in (("candidate", candidate), ("hold-out", holdout)):
        if manifest.state != state_digest:
            yield f"the {what} was made with the state {manifest.state[:12]}; this one is {state_digest[:12]}"
        if manifest.spec_fingerprint != state.spec_fingerprint:
            yield f"the {what} has the spec {manifest.spec_fingerprint}, not {state.spec_fingerprint}"
    expected = set(dataset_columns(state.spec, state.vocabulary_sizes, state.cross_sizes))
    encoded = set(map(_encoding, expected))
    # A model uses some of the columns, and each of them in the tables that it has.
    unknown = {column.name for column in candidate.columns if _encoding(column) not in encoded}
    differing = {column.name for column in set(holdout.columns) ^ expected}
    for what, names in (("candidate", unknown), ("hold-out", differing)):
        if names:
            yield f"the {what}'s columns {sorted(names)} are not what the state gives"
    listed = {entry.path for entry in holdout.files}
    absent = [path for path in (GOLDEN_RAW, GOLDEN_ENCODED) if path not in listed]
    if absent:
        yield f"the hold-out lacks {absent}; give a data set of later days than the state has seen"
    if CANDIDATE_SCORES not in {entry.path for entry in candidate.files}:
        yield f"the candidate lacks {CANDIDATE_SCORES}, the scores of the hold-out's golden rows"


def _encoding(column: layout.ColumnSpec) -> layout.ColumnSpec:
    """What is in the column, whichever tables a model looks its ids up in."""
    return column.model_copy(update={"wide": False, "embedding": 0})


def _only(manifest: Manifest, folder: str) -> Manifest:
    return manifest.model_copy(update={"files": tuple(e for e in manifest.files if e.path.startswith(folder))})


def _compare_encodings(state_dir: str, state: StateManifest, holdout_dir: str) -> None:
    """Encode the golden rows as serving will, and compare with what Spark made of them: ids must be equal."""
    fitted = load_state(state_dir, state)
    raw, encoded = (
        read_table(storage.read_bytes(url), url)
        for url in (storage.join(holdout_dir, path) for path in (GOLDEN_RAW, GOLDEN_ENCODED))
    )
    spark = to_columns(encoded)
    ours = Encoder(fitted.spec, fitted.encoder).encode(hash_rows(fitted, raw, as_logged=True))
    differing = [name for name, column in ours.items() if name not in spark or not _equal(column, spark[name])]
    if differing:
        raise DataError(
            f"serving encodes the golden rows of {holdout_dir} otherwise than Spark did, in the columns "
            f"{differing}. Frequency counts agree only for rows of the day after the state's last. "
            f"Build the data set again with this version, or correct the encoder."
        )


def _equal(ours: ColumnValues, theirs: ColumnValues) -> bool:
    if isinstance(ours, Ragged) or isinstance(theirs, Ragged):
        return (
            isinstance(ours, Ragged)
            and isinstance(theirs, Ragged)
            and np.array_equal(ours.offsets, theirs.offsets)
            and np.array_equal(ours.values, theirs.values)
        )
    if ours.dtype.kind == "f" and ours.shape == theirs.shape:
        return bool(np.allclose(ours, theirs, rtol=FLOAT_TOLERANCE, atol=FLOAT_TOLERANCE))
    return np.array_equal(ours, theirs)


def _write_scoring(candidate_dir: str, candidate: CandidateManifest, output_dir: str, config: ArtifactConfig) -> None:
    """What scoring needs: of the wide table only the non-zero coordinates, tables as the config says, all else as it
    is.
    """
    widths = {embedding_values(c.embedding): c.embedding for c in candidate.columns if c.embedding}
    paths = [e.path for e in candidate.files if e.path.startswith(f"{SCORING}/") and e.path != CANDIDATE_SCORES]
    for path in paths:
        source, target = storage.join(candidate_dir, path), storage.join(output_dir, path)
        if path.endswith(".npy") and not is_finite(read_array(source)):
            raise DataError(f"{source} holds NaN or infinite weights: the training diverged. Train again.")
        if path in widths and config.embeddings != "float32":
            _write_embeddings(source, output_dir, widths[path], config)
        elif path not in (WIDE_IDS, WIDE_WEIGHTS):
            storage.copy(source, target)
    if {WIDE_IDS, WIDE_WEIGHTS} <= set(paths):
        _write_wide(candidate_dir, output_dir, config)


def _write_wide(candidate_dir: str, output_dir: str, config: ArtifactConfig) -> None:
    ids, weights = (read_array(storage.join(candidate_dir, path)) for path in (WIDE_IDS, WIDE_WEIGHTS))
    nonzero = np.flatnonzero(weights)
    ids, weights = ids[nonzero], weights[nonzero]
    if config.wide != "float32":
        source = storage.join(candidate_dir, WIDE_WEIGHTS)
        ids, weights, bias = to_small_weights(ids, weights, config.wide, source)
        write_array(storage.join(output_dir, WIDE_BIAS), bias)
    for path, array in ((WIDE_IDS, ids), (WIDE_WEIGHTS, weights)):
        write_array(storage.join(output_dir, path), array)


def _write_embeddings(source: str, output_dir: str, width: int, config: ArtifactConfig) -> None:
    table, target = read_array(source), storage.join(output_dir, embedding_values(width))
    if config.embeddings == "float16":
        halves = (to_float16(rows, source) for rows in pieces(table))
        write_pieces(target, table.shape, np.dtype(np.float16), halves)
        return
    scales: list[np.ndarray] = []

    def quantised() -> Iterator[np.ndarray]:
        for rows in pieces(table):
            multiples, scale = to_int8(rows)
            scales.append(scale)
            yield multiples

    write_pieces(target, table.shape, np.dtype(np.int8), quantised())
    scale = np.concatenate([np.zeros(0, np.float32), *scales])
    write_array(storage.join(output_dir, embedding_scales(width)), scale)


def _write_own_golden_scores(model: ServingModel, candidate_dir: str, candidate: CandidateManifest) -> None:
    """In the place of the trainer's, which the model with the trainer's tables must have."""
    raw = storage.join(model.directory, GOLDEN_RAW)
    rows = read_table(storage.read_bytes(raw), raw)
    wide, embeddings = open_tables(candidate_dir, candidate, {node.name for node in model.head.get_inputs()})
    trained = read_array(storage.join(candidate_dir, CANDIDATE_SCORES))
    full = replace(model, wide=wide, embeddings=embeddings, calibration=None).score(rows, as_logged=True)
    problems = list(wrong_scores(full, trained))
    if problems:
        raise DataError(f"{candidate_dir} is not packed: with its own tables, {' '.join(problems)} Train again.")
    write_array(storage.join(model.directory, GOLDEN_SCORES), model.score(rows, as_logged=True))
