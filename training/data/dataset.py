"""A published data set as training sees it: its files, its columns, its tables' layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.layout import ColumnSpec, TableLayout, table_layout
from nightjar.features.contract.manifests import DatasetManifest, FileEntry
from nightjar.features.contract.verified import read_verified
from nightjar.features.encoder import files
from nightjar.features.encoder.ragged import Ragged, from_arrow
from nightjar.training.data.columns import Columns
from nightjar.training.data.values import check_values

REBUILD = "Restore the data set, or remove its directory and build it again."


@dataclass(frozen=True)
class Dataset:
    """A published data set or some of its files, and the columns of it that are read."""

    directory: str
    files: tuple[FileEntry, ...]
    columns: tuple[ColumnSpec, ...]

    @classmethod
    def of(cls, directory: str, manifest: DatasetManifest, *, grouped: bool = False) -> Dataset:
        """The data files of a data set whose manifest has been read; grouped: with the group column, if it has one.

        Raises DataError if the manifest does not add up.
        """
        uncounted = [entry.path for entry in manifest.data_files if entry.rows is None]
        if uncounted:
            raise DataError(f"the manifest of {directory} has no row count for {uncounted}. {REBUILD}")
        total = sum(entry.rows or 0 for entry in manifest.data_files)
        if total != manifest.rows:
            raise DataError(
                f"the manifest of {directory} claims {manifest.rows} rows, but its files add up to {total}. {REBUILD}"
            )
        left_out = ("truth",) if grouped else ("group", "truth")
        columns = tuple(column for column in manifest.columns if column.role not in left_out)
        return cls(directory, manifest.data_files, columns)

    @property
    def grouped(self) -> bool:
        """Whether the rows' groups are read."""
        return any(column.role == "group" for column in self.columns)

    @property
    def layout(self) -> TableLayout:
        """The tables that the columns' ids lie in."""
        return table_layout(self.columns)

    @property
    def rows(self) -> tuple[int, ...]:
        """Rows of each file."""
        return tuple(entry.rows or 0 for entry in self.files)

    def url(self, file: int) -> str:
        """Where a file is."""
        return storage.join(self.directory, self.files[file].path)


def hold_back(files: Sequence[FileEntry], share: float) -> tuple[tuple[FileEntry, ...], tuple[FileEntry, ...]]:
    """(files to train on, files held back): as few as hold this share of the rows, spread over the data set.

    Rows are dealt to files by a hash of their content, so that any file is a random sample. Raises UsageError if none
    would be left to train on.
    """
    wanted, held = share * sum(entry.rows or 0 for entry in files), 0
    chosen: set[int] = set()
    for index in np.random.Generator(np.random.Philox(0)).permutation(len(files)).tolist():
        if held >= wanted:
            break
        if files[index].rows:
            chosen.add(index)
            held += files[index].rows or 0
    kept = tuple(entry for index, entry in enumerate(files) if index not in chosen)
    if not any(entry.rows for entry in kept):
        raise UsageError(
            f"training.validation.share is {share}; files are held back as a whole, and of {len(files)} none with "
            f"rows would be left to train on. Build the data set with more --min-files, or lower the share."
        )
    return kept, tuple(files[index] for index in sorted(chosen))


def read_table(directory: str, entry: FileEntry, columns: Sequence[ColumnSpec]) -> Columns:
    """These columns of one Parquet file outside of the plan, such as the golden rows. Raises DataError if it
    is damaged.
    """
    url = storage.join(directory, entry.path)
    content = read_verified(directory, entry)
    table = files.read_table(content, url, [column.name for column in columns])
    return to_columns(table, columns, url)


def to_columns(table: pa.Table, columns: Sequence[ColumnSpec], url: str) -> Columns:
    """These columns of a table that was read from `url`. Raises DataError if one is not what its role
    demands.
    """
    return {column.name: _to_numpy(table, column, url) for column in columns}


def _to_numpy(table: pa.Table, column: ColumnSpec, url: str) -> np.ndarray | Ragged:
    """A column of one row group, without a copy where its pages lie in one chunk."""
    if column.name not in table.column_names:
        raise DataError(f"{url} has no column {column.name!r}, which its manifest names. {REBUILD}")
    kind = pa.type_for_alias(column.dtype)
    values = table.column(column.name)
    array = values.chunk(0) if values.num_chunks == 1 else pa.concat_arrays([pa.array([], values.type), *values.chunks])
    found = array.type.value_type if column.multi_valued and pa.types.is_list(array.type) else array.type
    if found != kind or pa.types.is_list(array.type) != column.multi_valued or array.null_count:
        raise DataError(
            f"{url}: {column.name!r} must be {'lists of ' if column.multi_valued else ''}{kind} without "
            f"nulls; it is {array.type} with {array.null_count} nulls. {REBUILD}"
        )
    found_values = from_arrow(array)
    check_values(found_values.values if isinstance(found_values, Ragged) else found_values, column, url)
    return found_values
