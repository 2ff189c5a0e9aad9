"""What the encoded columns of a data set may hold, checked whenever a file is read.

An id beyond its table would have the kernels write over other memory; a NaN or an infinity spreads to every weight.
"""

from __future__ import annotations

import numpy as np

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.layout import ColumnSpec

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def check_values(values: np.ndarray, column: ColumnSpec, url: str) -> None:
    """Raise DataError if a value is not what the column's role allows: it names file, column, row and value.

    values: of a list column those of all its lists. ids lie in [0, size); dense values are finite and not at the end of
    float32's range, where the encoder puts infinities; labels are 0 or 1; weights are finite and not negative.
    """
    if not len(values):
        return
    if column.role in ("field", "cross"):
        if int(values.view(np.uint32).max()) < column.size:  # one pass: a negative id is a large unsigned one
            return
        bad, wanted = (values < 0) | (values >= column.size), f"ids in [0, {column.size})"
    elif column.role == "dense":
        if float(values.min()) > -_FLOAT32_MAX and float(values.max()) < _FLOAT32_MAX:
            return
        bad = ~(np.abs(values) < _FLOAT32_MAX)
        wanted = f"finite (transform: quantile takes infinities, or take them out of {column.feature!r} in the log)"
    elif column.role == "label":
        bad, wanted = (values != 0) & (values != 1), "0 or 1"
    elif column.role == "weight":
        bad, wanted = ~((values >= 0) & (values <= _FLOAT32_MAX)), "finite and not negative"
    else:
        return
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"{url}: {int(bad.sum())} values of {column.name!r} are not {wanted}, the first at {first}: "
            f"{values[first]}. Build the data set again."
        )
