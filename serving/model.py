"""A published artifact as a function from raw rows to probabilities, without Spark, Horovod or torch.

Shapes: B rows of a batch, E sum of the embeddings' widths, N dense columns.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from itertools import pairwise

import numpy as np
import onnxruntime

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import (
    CALIBRATION,
    ENCODER,
    GOLDEN_RAW,
    HEAD,
    WIDE_BIAS,
    WIDE_IDS,
    WIDE_WEIGHTS,
    embedding_scales,
    embedding_values,
)
from nightjar.features.contract.errors import DataError, NightjarError
from nightjar.features.contract.layout import TableLayout, table_layout
from nightjar.features.contract.manifests import (
    ArtifactManifest,
    CandidateManifest,
    CountersManifest,
    Manifest,
    StateManifest,
)
from nightjar.features.contract.publishing import read_manifest, verify
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.encoder.counters import Counters, load_counters, moved
from nightjar.features.encoder.encoder import ColumnValues, Encoder
from nightjar.features.encoder.files import read_array, read_table
from nightjar.features.encoder.inputs import InputColumn, input_columns
from nightjar.features.encoder.requests import Row
from nightjar.features.encoder.rows import Rows, hash_rows
from nightjar.features.encoder.state import FittedState, load_encoder_state
from nightjar.serving.calibration import Calibration, read_calibration
from nightjar.serving.encoded import batches, rows_in
from nightjar.serving.explain.explanation import Explanation, explain
from nightjar.serving.head_graph import BATCH_ROWS, check_head
from nightjar.serving.tables import EmbeddingTable, WideTable

HEAD_INPUTS = ("first_order", "embeddings", "dense")


def order_of(scores: np.ndarray) -> np.ndarray:
    """Positions from the highest to the lowest score, ties in the given order: int64[rows]."""
    return np.argsort(-scores, kind="stable")


def load(path: str, *, threads: int = 1, counters: str | None = None) -> ServingModel:
    """Load a published artifact: a local directory or an fsspec URL. Every file's checksum is compared.

    Args:
        path: of the artifact.
        threads: how many of them one call's dense layers use; calls may also come from several threads.
        counters: directory of published counters to serve with; None for those that the artifact was packed with, which
            are as of the day that it was judged on.

    Raises:
        DataError: the artifact or the counters are missing, damaged or inconsistent, or do not fit each other.
    """
    manifest = read_manifest(path, ArtifactManifest)
    verify(path, manifest)
    model = open_model(path, manifest, threads=threads)
    return model.with_counters(read_counters(counters, model.state.spec)) if counters else model


def read_counters(directory: str, spec: FeatureSpec, held: Counters | None = None) -> Counters:
    """Published counters, every file's checksum compared. held: what a model has now, of which a delta may be enough.

    Raises DataError if they are missing or damaged, or were published for other frequencies than the spec's.
    """
    manifest = read_manifest(directory, CountersManifest)
    verify(directory, manifest)
    return moved(held, directory, manifest, spec) if held else load_counters(directory, manifest, spec)


@dataclass(frozen=True, repr=False)
class ServingModel:
    """Scores rows by sigmoid(calibration(head(first_order, embeddings, dense))). Safe to share by threads.

    directory: of the artifact; fitted: the manifest of its encoder's state; calibration: None if the head's
    logits are served as they are.
    """

    manifest: ArtifactManifest
    state: FittedState
    head: onnxruntime.InferenceSession
    wide: WideTable | None
    embeddings: tuple[EmbeddingTable, ...]
    counters: Counters
    directory: str
    fitted: StateManifest
    calibration: Calibration | None = None

    @cached_property
    def _asked(self) -> tuple[str, ...]:
        """What the head asks for, of HEAD_INPUTS."""
        return tuple(node.name for node in self.head.get_inputs())

    def __repr__(self) -> str:
        spec = self.state.spec
        return (
            f"<{self.manifest.model} of {self.manifest.lineage.date}: {spec.name}, {len(spec.fields)} fields, "
            f"{len(spec.dense)} dense features, {len(spec.crosses)} crosses, {len(spec.frequencies)} frequencies; "
            f"counters as of {self.counters_as_of}>"
        )

    @property
    def counters_as_of(self) -> date:
        """The day whose requests the counters are for: they count what was logged before it."""
        return self.counters.as_of

    def with_counters(self, counters: Counters) -> ServingModel:
        """The same weights with other counters."""
        state = replace(self.state, frequencies=counters.frequencies(self.state.spec))
        return replace(self, state=state, counters=counters)

    @property
    def input_columns(self) -> tuple[str, ...]:
        """Names of the encoded columns that make up an example, in the data set's order."""
        return tuple(c.name for c in self.manifest.columns if c.role in ("field", "cross", "dense"))

    @property
    def inputs(self) -> tuple[InputColumn, ...]:
        """The columns of a request: name, type, whether it is required, meaning."""
        return input_columns(self.state.spec)

    def score(self, rows: Rows, *, as_logged: bool = False) -> np.ndarray:
        """Probabilities of raw rows: float32[rows].

        rows: a list of dicts, one dict of values, a mapping of columns, a pandas DataFrame, a pyarrow Table or
        RecordBatch; or any of them InContext. A key that a dict lacks is a missing value. Raises DataError for anything
        else, if columns are given and lack a required one of `inputs`, or if one is of another type.
        as_logged: rows of a log: the columns of features with `serve_as` are read. Otherwise that value stands in for
        them, whatever the rows hold.
        """
        hashed = hash_rows(self.state, rows, as_logged=as_logged)
        return self._score(Encoder(self.state.spec, self.state.encoder).encode(hashed), hashed.rows)

    def rank(self, rows: Rows, k: int | None = None) -> np.ndarray:
        """Positions of the k most probable rows (of all if None), the best first, ties in the given order: int64[k]."""
        return order_of(self.score(rows))[:k]

    def score_apart(self, requests: Sequence[Sequence[Row]]) -> list[np.ndarray]:
        """`score` of several small requests, each to the bit as if it came alone; in all at most BATCH_ROWS rows.

        They are encoded together, and the head is run for each: its matrix products may round one row otherwise than
        many. Raises DataError as `score` does of all their rows.
        """
        hashed = hash_rows(self.state, [row for rows in requests for row in rows])
        encoded = Encoder(self.state.spec, self.state.encoder).encode(hashed)
        inputs = self.head_inputs(encoded, hashed.rows)
        stops = np.cumsum([0, *map(len, requests)]).tolist()
        logits = [self.logits({name: values[a:b] for name, values in inputs.items()}) for a, b in pairwise(stops)]
        return np.split(self._probabilities(np.concatenate(logits), encoded).astype(np.float32), stops[1:-1])

    def score_encoded(self, columns: Mapping[str, ColumnValues]) -> np.ndarray:
        """Probabilities of encoded rows: float32[rows]. columns: by name, at least the `input_columns`."""
        missing = [name for name in self.input_columns if name not in columns]
        if missing:
            raise DataError(f"the encoded rows lack the columns {missing}, which the model reads.")
        columns = {name: columns[name] for name in self.input_columns}
        return self._score(columns, rows_in(next(iter(columns.values()))))

    def _score(self, columns: Mapping[str, ColumnValues], rows: int) -> np.ndarray:
        """Probabilities of encoded rows, of which some columns may have one for all: float32[rows]."""
        probabilities = np.empty(rows, dtype=np.float32)
        for start, stop, batch in batches(columns, rows, BATCH_ROWS):
            probabilities[start:stop] = self._probabilities(self.logits(self.head_inputs(batch, stop - start)), batch)
        return probabilities

    def _probabilities(self, logits: np.ndarray, columns: Mapping[str, ColumnValues]) -> np.ndarray:
        return np.exp(-np.logaddexp(0.0, -self.calibrated(logits, columns)))

    def explain(self, row: Rows, *, as_logged: bool = False) -> Explanation:
        """Why a row has its score: what every value, conjunction and number in it adds to the logit.

        row: as `score` takes it, of one row. Raises DataError as `score` does, and for more or fewer rows than one.
        """
        return explain(self, row, as_logged=as_logged)

    @cached_property
    def mean_inputs(self) -> Mapping[str, np.ndarray]:
        """The head's inputs, the golden rows' mean: `embeddings` float32[E] and `dense` float32[N], those it has.

        With the counters that the artifact was packed with, whichever serve, so that all begin at the same place.
        """
        golden, spec = storage.join(self.directory, GOLDEN_RAW), self.state.spec
        packed = load_counters(storage.join(self.directory, ENCODER), self.fitted, spec).frequencies(spec)
        rows = read_table(storage.read_bytes(golden), golden)
        hashed = hash_rows(replace(self.state, frequencies=packed), rows, as_logged=True)
        inputs = self.head_inputs(Encoder(self.state.spec, self.state.encoder).encode(hashed), hashed.rows)
        return {
            name: values.mean(axis=0, dtype=np.float64).astype(np.float32)
            for name, values in inputs.items()
            if name != "first_order"
        }

    def logits(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The head's logits, float64[B], of what `head_inputs` gives."""
        return self.head.run(["logit"], dict(inputs))[0].astype(np.float64)

    def calibrated(self, logits: np.ndarray, columns: Mapping[str, ColumnValues]) -> np.ndarray:
        """The logits that are served, float64[B], of the head's and the encoded rows."""
        return logits if self.calibration is None else self.calibration.applied(logits, columns)

    def head_inputs(self, columns: Mapping[str, ColumnValues], rows: int) -> dict[str, np.ndarray]:
        """What the head asks for, of encoded rows: first_order [B], embeddings [B, E], dense [B, N], all float32."""
        feed: dict[str, np.ndarray] = {}
        for name in self._asked:
            if name == "first_order":
                assert self.wide is not None
                feed[name] = self.wide.logit(columns, rows)
            elif name == "embeddings":
                feed[name] = self._embed(columns, rows)
            else:
                names = [c.name for c in self.manifest.columns if c.role == "dense"]
                feed[name] = np.empty((rows, len(names)), dtype=np.float32)
                for place, column in enumerate(names):
                    feed[name][:, place] = columns[column]
        return feed

    def _embed(self, columns: Mapping[str, ColumnValues], rows: int) -> np.ndarray:
        widths = [len(table.slots) * table.weights.shape[1] for table in self.embeddings]
        pooled = np.empty((rows, sum(widths)), dtype=np.float32)
        start = 0
        for table, width in zip(self.embeddings, widths, strict=True):
            table.write_pooled(columns, pooled[:, start : start + width])
            start += width
        return pooled


def open_model(directory: str, manifest: ArtifactManifest, *, threads: int = 1) -> ServingModel:
    """Load an artifact whose files are known to be whole; `load` is for everybody else.

    Only the tables that the head asks for are read. Raises DataError if one is missing or of another shape, or if the
    files do not belong together in any other way.
    """
    try:
        return _open(directory, manifest, threads)
    except (NightjarError, OSError):
        raise
    except Exception as error:  # files that are whole and make no sense fail wherever they are used first
        raise DataError(
            f"{directory} is no model that can be loaded: {type(error).__name__}: {str(error)[:300]}. Train and pack "
            f"it again."
        ) from error


def _open(directory: str, manifest: ArtifactManifest, threads: int) -> ServingModel:
    head = _open_head(directory, manifest, threads)
    wide, embeddings = open_tables(directory, manifest, {node.name for node in head.get_inputs()})
    encoder = storage.join(directory, ENCODER)
    of_state = read_manifest(encoder, StateManifest)
    counters = load_counters(encoder, of_state, of_state.spec)
    state = FittedState(of_state.spec, load_encoder_state(encoder, of_state), counters.frequencies(of_state.spec))
    calibration = _calibration(directory, manifest) if _lists(manifest, CALIBRATION) else None
    return ServingModel(manifest, state, head, wide, embeddings, counters, directory, of_state, calibration)


def open_tables(
    directory: str, manifest: ArtifactManifest | CandidateManifest, inputs: Container[str]
) -> tuple[WideTable | None, tuple[EmbeddingTable, ...]]:
    """The tables that the head asks for, of an artifact or of a candidate. Raises DataError as `open_model` does.

    Args:
        directory: of one or the other.
        manifest: its own.
        inputs: the head's, of HEAD_INPUTS.
    """
    layout = table_layout(manifest.columns)
    wide = None
    if "first_order" in inputs:
        ids, weights = (_array(directory, manifest, path) for path in (WIDE_IDS, WIDE_WEIGHTS))
        bias = _array(directory, manifest, WIDE_BIAS) if _lists(manifest, WIDE_BIAS) else None
        wide = WideTable(layout, ids, weights, bias)
    embedded = layout.embeddings if "embeddings" in inputs else ()
    return wide, tuple(_embeddings(directory, manifest, layout, width) for width in embedded)


def _embeddings(
    directory: str, manifest: ArtifactManifest | CandidateManifest, layout: TableLayout, width: int
) -> EmbeddingTable:
    path, rows = embedding_values(width), layout.embedding_rows(width)
    table = _array(directory, manifest, path)
    if table.shape != (rows, width):
        raise DataError(
            f"{directory}/{path} has the shape {table.shape}; the manifest's columns need "
            f"{(rows, width)}. Pack the candidate again."
        )
    scales = _array(directory, manifest, embedding_scales(width)) if table.dtype == np.int8 else None
    if table.dtype not in (np.float32, np.float16, np.int8) or (scales is not None and scales.shape != (rows,)):
        raise DataError(
            f"{directory}/{path} holds {table.dtype}{'' if scales is None else f', with scales of {scales.shape}'}; "
            f"serving knows float32, float16, and int8 with a scale for each of {rows} rows. Pack the candidate again."
        )
    return EmbeddingTable(layout.embeddings[width], table, scales)


def _calibration(directory: str, manifest: ArtifactManifest) -> Calibration:
    url = storage.join(directory, CALIBRATION)
    calibration = read_calibration(storage.read_bytes(url), url)
    fields = [c.name for c in manifest.columns if c.role == "field" and not c.multi_valued]
    if calibration.column not in (None, *fields):
        raise DataError(f"{url} goes by the column {calibration.column!r}; the model's fields are {fields}.")
    return calibration


def _open_head(directory: str, manifest: ArtifactManifest, threads: int) -> onnxruntime.InferenceSession:
    url = storage.join(directory, _listed(directory, manifest, HEAD))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    try:
        content = storage.read_bytes(url)
        check_head(content)
        head = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of onnxruntime's many kinds, without a base of their own
        raise DataError(f"{url} is no head that can be loaded: {str(error)[:300]}. Train and pack it again.") from error
    names = [node.name for node in head.get_inputs()]
    if not set(names) <= set(HEAD_INPUTS):
        raise DataError(f"{url} asks for the inputs {names}; serving knows {list(HEAD_INPUTS)}.")
    return head


def _array(directory: str, manifest: Manifest, path: str) -> np.ndarray:
    return read_array(storage.join(directory, _listed(directory, manifest, path)))


def _lists(manifest: Manifest, path: str) -> bool:
    return any(entry.path == path for entry in manifest.files)


def _listed(directory: str, manifest: Manifest, path: str) -> str:
    if not _lists(manifest, path):
        raise DataError(f"{directory} has no {path}, which its model needs. Train and pack it again.")
    return path
