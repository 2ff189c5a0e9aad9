"""Names of the files inside published directories: composed here and nowhere else.

A path is relative to its directory. features.contract.outputs has the directories' own names.
"""

from __future__ import annotations

# Aggregates, roll-ups and states have a folder of Parquet files for each feature; profiles have histograms.
VOCABULARY, FREQUENCY, CROSS, SKETCH = "vocabulary", "frequency", "cross", "sketch"
HISTOGRAM = "histogram"
# Rows that an aggregate leaves out, with their reasons.
QUARANTINE = "quarantine"
# Counters have deltas beside their tables: what differs from the counters before.
DELTA = "delta"

# The scores of raw candidates.
SCORES = "scores"

# Data sets: encoded rows, and the golden rows of a hold-out, raw and encoded.
DATA = "data"
GOLDEN = "golden"
GOLDEN_RAW = f"{GOLDEN}/raw.parquet"
GOLDEN_ENCODED = f"{GOLDEN}/encoded.parquet"

# Candidates: what serving scores with, and what a later run continues from. Artifacts have the first.
SCORING, OPTIMIZER = "scoring", "optimizer"
WIDE = "wide"
HEAD = f"{SCORING}/head.onnx"
CALIBRATION = f"{SCORING}/calibration.json"
HEAD_STATE = f"{OPTIMIZER}/head.npz"
WIDE_IDS = f"{SCORING}/{WIDE}_ids.npy"
WIDE_WEIGHTS = f"{SCORING}/{WIDE}_weights.npy"
# Of wide weights in 16 bits: the bias, which stays float32.
WIDE_BIAS = f"{SCORING}/{WIDE}_bias.npy"
WIDE_TOUCHED = f"{OPTIMIZER}/{WIDE}_ids.npy"
CANDIDATE_SCORES = f"{SCORING}/golden_scores.npy"
WARM_START = "warm_start.json"

# Artifacts: the encoder's state, and the scores of the golden rows beside GOLDEN_RAW.
ENCODER = "encoder"
GOLDEN_SCORES = f"{GOLDEN}/scores.npy"

# Evaluations and comparisons.
EVALUATION = "metrics.json"
REPORT = "report.html"
COMPARISON, TABLE = "comparison.json", "table.md"

# Records of nights.
LEDGER = "ledger.json"

# Decisions. The last is hidden, so that no manifest lists it: what was measured differs from run to run.
DECISION = "decision.json"
CHAMPION = "champion.json"
DRY_RUN = "_dry_run.json"


def table_folder(kind: str, name: str) -> str:
    """The Parquet files of one table. kind: VOCABULARY, FREQUENCY, CROSS, SKETCH or HISTOGRAM; name: its feature's."""
    return f"{kind}/{name}"


def part_file(folder: str, number: int) -> str:
    """One of the Parquet files of a table or of a data set."""
    return f"{folder}/part-{number:05d}.parquet"


def embedding(width: int) -> str:
    """What the table of embeddings of a width is called, as WIDE is of the wide table."""
    return f"embedding_{width}"


def embedding_values(width: int) -> str:
    """The values of the embeddings of a width."""
    return f"{SCORING}/{embedding(width)}.npy"


def embedding_scales(width: int) -> str:
    """The scales of the rows of the embeddings of a width, where these are stored in 8 bits."""
    return f"{SCORING}/{embedding(width)}_scales.npy"


def optimizer_state(table: str, part: str) -> str:
    """An array or a scalar that a table's rule remembers. table: WIDE, or what `embedding` gives."""
    return f"{OPTIMIZER}/{table}_{part}.npy"


def model_scores(number: int) -> str:
    """In an evaluation: the scores of its model of this number, from 0."""
    return f"scores/{number}.npy"


def training_log(candidate: str) -> str:
    """Beside a candidate: what its training recorded, as JSON lines (features.contract.records.Record)."""
    return f"{candidate}.jsonl"


def tensorboard_folder(candidate: str) -> str:
    """Beside a candidate: TensorBoard's events."""
    return f"{candidate}.tensorboard"
