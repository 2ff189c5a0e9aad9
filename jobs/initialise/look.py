"""The look: everything that is told from the sample before anything is proposed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from nightjar.jobs.initialise.additive import LabelledRows
from nightjar.jobs.initialise.columns import LoggedColumn, look_at
from nightjar.jobs.initialise.history import Times, share_unknown
from nightjar.jobs.initialise.roles import Roles, choose_roles, day_numbers
from nightjar.jobs.initialise.sample import Sample, date_of, take_sample
from nightjar.jobs.initialise.screen import TELLING_SHARE, Screening, screen

# The part of the rows, the newest, that judges what the others tell.
_NEWEST = 0.25


@dataclass(frozen=True, eq=False)
class Look:
    """A sample, its columns and what they are. See the classes of its parts."""

    sample: Sample
    columns: Mapping[str, LoggedColumn]
    roles: Roles
    rows: LabelledRows
    times: Times
    screening: Screening

    @property
    def usable(self) -> list[LoggedColumn]:
        """The columns that features may read, in the log's order."""
        return [self.columns[name] for name in self.screening.auc]

    @cached_property
    def day_rows(self) -> dict[str, int]:
        """Rows of each sampled day, not the sample's alone: estimates where a day was not read whole."""
        if self.sample.day_R is not None:
            return dict(self.sample.days)
        days, counts = np.unique(self.times.day_R, return_counts=True)
        share = self.sample.share
        return {date_of(day): round(n / share) for day, n in zip(days.tolist(), counts.tolist(), strict=True)}

    @property
    def days(self) -> int:
        """How many days the log has."""
        return len(self.sample.found) or len(self.day_rows)

    @property
    def newest(self) -> str:
        """The newest day in the log."""
        return max(self.sample.found or tuple(self.day_rows))

    @property
    def usual_day(self) -> int:
        """Median of the rows a day."""
        return max(int(np.median(list(self.day_rows.values()))), 1)

    @property
    def is_telling(self) -> bool:
        """True if the sample is a large enough part of its days for what it does not hold to be rare in them."""
        return self.sample.share >= TELLING_SHARE

    def unknown(self, column: LoggedColumn) -> float:
        """The share of the newest rows whose value the older rows hardly hold; 0 where the sample cannot tell."""
        return share_unknown(column.code_V, self.rows, self.sample.share) if self.is_telling else 0.0


def take_look(location: str, rows: int, label: str | None, timestamp: str | None, group: str | None) -> Look:
    """Sample a log and look at it. Raises DataError and UsageError as its parts do.

    Args:
        location: of the log.
        rows: about how many are read.
        label, timestamp, group: columns of these roles; None where they are to be told.
    """
    sample = take_sample(location, rows)
    columns = look_at(sample.table)
    roles = choose_roles(columns, sample, label, timestamp, group)
    stamps = sample.table[roles.timestamp]
    micros = stamps.cast(pa.timestamp("us", tz=stamps.type.tz)).cast(pa.int64()).to_numpy().astype(np.int64)
    times = Times(micros, day_numbers(stamps) if sample.day_R is None else sample.day_R)
    newest_R = np.zeros(len(micros), dtype=bool)
    newest_R[np.lexsort((micros, times.day_R))[len(micros) - max(round(_NEWEST * len(micros)), 1) :]] = True
    label_R = columns[roles.label].number_R
    assert label_R is not None, "choose_roles has checked that the label is a number"
    labelled = LabelledRows(label_R, newest_R)
    return Look(sample, columns, roles, labelled, times, screen(columns, roles, labelled, sample.share))
