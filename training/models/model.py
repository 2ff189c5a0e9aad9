"""What a file of this folder says of its model. It is read with the config, so it loads neither torch nor numba."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from nightjar.features.contract.categorical import Strict
from nightjar.features.contract.layout import ColumnSpec, TableLayout

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nightjar.training.config import TrainingConfig

Settings = TypeVar("Settings", bound=Strict)
Build = Callable[[TableLayout, "TrainingConfig", "torch.Generator"], "nn.Module"]
"""The head over the layout of a model's columns, its weights drawn from the generator. Raises UsageError if the layout
does not suit the model.
"""
Columns = Sequence[ColumnSpec]


@dataclass(frozen=True)
class Rules:
    """The update rules of a model's parts, where the config leaves them open: FTRL for the wide table, AdaGrad for the
    embedding tables and the head (Cheng et al. 2016).
    """

    wide: str = "ftrl"
    embeddings: str = "adagrad"
    head: str = "adagrad"


@dataclass(frozen=True)
class ModelSection(Generic[Settings]):
    """The section of TrainingConfig that holds a model's own settings.

    name: its key; kind: its type; default: what stands for a section that is not given, None for nothing. Published
    directories are named by a digest of the settings: of_every_model, the section is among the settings of all models
    and not only of those that have it.
    """

    name: str
    kind: type[Settings]
    default: Settings | None = None
    of_every_model: bool = False

    def of(self, config: TrainingConfig) -> Settings | None:
        """The section in a config."""
        section: Settings | None = getattr(config, self.name)
        return section


def every_column(config: TrainingConfig, columns: Columns) -> Columns:
    """A model that looks at all columns."""
    return columns


def hidden_units(config: TrainingConfig) -> Mapping[str, TrainingConfig]:
    """The axes of a head with the hidden layers of `deep`. A unit is of the kind of its layer: its activation, and
    whether batch norm comes before it.
    """
    deep = config.deep
    kind = f"{deep.activation} of batch norm" if deep.batch_norm else deep.activation
    larger = {}
    for n, units in enumerate(deep.layers):
        layers = (*deep.layers[:n], units + 1, *deep.layers[n + 1 :])
        larger[f"{kind} {n}"] = config.model_copy(update={"deep": deep.model_copy(update={"layers": layers})})
    return larger


@dataclass(frozen=True)
class Model:
    """A model of the family: the columns and tables that it uses, and a head that makes a logit of them.

    name: what training.model calls it.
    build: its head, see training.layers.head. Whatever needs torch is imported there.
    wide, embeddings: whether it has the wide table, and the embedding tables.
    rules: where the config leaves them open.
    nonnegative: whether its embeddings are never negative.
    section: its own settings.
    columns: which of a data set's columns it sees. Raises UsageError if they are not enough.
    axes: for a warm start, of a config: by what the axes of the head's weights stand for, beside its inputs, the config
    under which they are longer by one. Entries of an axis correspond by their number.
    """

    name: str
    build: Build
    wide: bool = True
    embeddings: bool = True
    rules: Rules = Rules()
    nonnegative: bool = False
    section: ModelSection | None = None
    columns: Callable[[TrainingConfig, Columns], Columns] = every_column
    axes: Callable[[TrainingConfig], Mapping[str, TrainingConfig]] = hidden_units
