"""Frappe_x1 as BARS publishes it (Zhu et al. 2022): test AUC and log loss of every model over five seeds.

    python -m benchmarks.frappe --train train.csv --valid valid.csv --test test.csv --work FOLDER [--seeds 5]

The files are comma-separated with a header: `label`, then one integer column a field (user, item, daytime, weekday,
isweekend, homework, cost, weather, country, city), whose values share one id space. An id that a field has nowhere in
the training file is out of vocabulary there. Every model learns by its file in conf/frappe, which says how the
validation file lowers learning rates, ends training and chooses the epoch that is published.

Published means of five seeds (test AUC): LR .9356, FM .9671, DNN (here: deep) .98405, Wide & Deep .98307,
DeepFM .98395.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq
from sklearn.metrics import log_loss, roc_auc_score

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import CANDIDATE_SCORES, DATA, GOLDEN_ENCODED, part_file
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.layout import dataset_columns
from nightjar.features.contract.manifests import DatasetManifest
from nightjar.features.contract.outputs import CANDIDATES, DATASETS
from nightjar.features.contract.publishing import begin, commit, describe_files, is_published, key_of
from nightjar.features.contract.spec import CategoricalField, FeatureSpec
from nightjar.features.contract.strict import load_yaml
from nightjar.jobs.common.cli import entry_point
from nightjar.training.config import TrainingConfig
from nightjar.training.evaluation.config import HeldOutValidationConfig
from nightjar.training.job import TrainingJob
from nightjar.training.trainer import run_job

WIDTH = 10
FILES = 8
LABEL = "label"
OUT_OF_VOCABULARY = 0


def read_csv(path: str) -> pa.Table:
    """The label and the fields, all int64. Raises DataError if the file is not like that."""
    try:
        table = csv.read_csv(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from error
    # Some copies write ids as 12.0; the cast refuses what is no whole number.
    try:
        table = table.cast(pa.schema([(name, pa.int64()) for name in table.column_names]))
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} must hold integers only: {error}") from error
    if table.column_names[:1] != [LABEL] or not set(pc.unique(table[LABEL]).to_pylist()) <= {0, 1}:
        raise DataError(f"{path} must begin with a column {LABEL!r} of 0 and 1; its columns are {table.column_names}.")
    return table


def encode(tables: dict[str, pa.Table]) -> tuple[FeatureSpec, dict[str, int], dict[str, pa.Table]]:
    """The spec, the vocabularies' sizes, and the tables with ids in each field's vocabulary of the training file."""
    fields = tables["train"].column_names[1:]
    for name, table in tables.items():
        if table.column_names[1:] != fields:
            raise DataError(f"the {name} file has the columns {table.column_names}, not {[LABEL, *fields]}.")
    vocabularies = {field: pc.unique(tables["train"][field]) for field in fields}
    spec = FeatureSpec(
        name="frappe",
        label=LABEL,
        timestamp="none",
        fields=tuple(CategoricalField(name=field, embedding=WIDTH) for field in fields),
    )
    encoded = {}
    for name, table in tables.items():
        columns = {LABEL: table[LABEL].cast(pa.float32())}
        for field, vocabulary in vocabularies.items():
            known = pc.index_in(table[field], vocabulary)
            columns[f"f_{field}"] = pc.fill_null(pc.add(known, 1), OUT_OF_VOCABULARY).cast(pa.int32())
        encoded[name] = pa.table(columns)
    return spec, {field: len(vocabulary) + 1 for field, vocabulary in vocabularies.items()}, encoded


def publish(directory: str, spec: FeatureSpec, sizes: dict[str, int], table: pa.Table, *, golden: bool) -> None:
    """A data set of these rows, dealt to the files in turn; golden: all of them are its golden rows as well."""
    begin(directory)
    counts = {}
    parts = {part_file(DATA, n): table.take(pa.array(range(n, len(table), FILES))) for n in range(FILES)}
    for path, rows in (parts | ({GOLDEN_ENCODED: table} if golden else {})).items():
        storage.make_folder(storage.join(directory, os.path.dirname(path)))
        pq.write_table(rows, storage.join(directory, path), row_group_size=max(len(rows), 1))
        counts[path] = len(rows)
    manifest = DatasetManifest(
        spec_fingerprint=spec.fingerprint,
        state=key_of(sizes=sizes),
        first_date="1970-01-01",
        last_date="1970-01-01",
        rows=len(table),
        positives=int(pc.sum(table[LABEL]).as_py()),
        columns=dataset_columns(spec, sizes),
        files=tuple(entry.model_copy(update={"rows": counts[entry.path]}) for entry in describe_files(directory)),
    )
    commit(directory, manifest)


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Print a Markdown table: test AUC and log loss, mean and standard deviation over seeds."""
    parser = argparse.ArgumentParser(prog="frappe", description=(__doc__ or "").partition("\n")[0])
    for split in ("train", "valid", "test"):
        parser.add_argument(f"--{split}", required=True, help=f"the {split} file")
    parser.add_argument("--work", required=True, help="folder for data sets and models")
    parser.add_argument("--config", default="conf/frappe", help="folder with a YAML file for each model")
    parser.add_argument("--models", default="all", help="names, separated by commas, or all that the folder has")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    models = (
        sorted(path.stem for path in Path(args.config).glob("*.yaml"))
        if args.models == "all"
        else args.models.split(",")
    )
    configs = {model: load_yaml(Path(args.config) / f"{model}.yaml", TrainingConfig, "training") for model in models}
    paths = {"train": args.train, "valid": args.valid, "test": args.test}
    key = key_of(files={name: storage.sha256(storage.absolute(path)) for name, path in paths.items()})
    directories = {name: storage.join(os.path.abspath(args.work), DATASETS, f"{name}-{key}") for name in paths}
    spec, sizes, tables = encode({name: read_csv(path) for name, path in paths.items()})
    for name, directory in directories.items():
        if not is_published(directory):
            publish(directory, spec, sizes, tables[name], golden=name == "test")
    print(f"| model, {args.seeds} seeds | AUC | log loss |\n| --- | --- | --- |")
    label = tables["test"][LABEL].to_numpy()
    for model, config in configs.items():
        found = []
        for seed in range(args.seeds):
            validation = (config.validation or HeldOutValidationConfig()).model_copy(
                update={"dataset": directories["valid"]}
            )
            training = config.model_copy(update={"seed": seed, "validation": validation})
            name = f"{model}-{key_of(data=key, training=training.settings)}"
            candidate = storage.join(os.path.abspath(args.work), CANDIDATES, name)
            run_job(TrainingJob.of(training, directories["train"], candidate, directories["test"]))
            score = np.load(storage.join(candidate, CANDIDATE_SCORES)).astype(np.float64)
            found.append((roc_auc_score(label, score), log_loss(label, score)))
        spread = zip(np.mean(found, axis=0), np.std(found, axis=0), strict=True)
        print(f"| {model} | {' | '.join(f'{mean:.5f} ± {deviation:.5f}' for mean, deviation in spread)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
