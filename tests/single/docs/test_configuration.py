"""The configuration reference is what the models say, and they say something of every key."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, Field

from docs.configuration import PAGE, meanings, models_by_path, reference
from nightjar.features.contract.spec import FeatureSpec, Strict
from nightjar.serving.gate.decision import GateRule
from nightjar.training.config import WideConfig

MODELS = tuple(dict.fromkeys(model for _, model in models_by_path()))


def test_the_page_is_what_the_models_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run `python -m docs.configuration`, and look at the diff"


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_key_has_a_meaning(model: type[BaseModel]) -> None:
    silent = [name for name in model.model_fields if not meanings(model).get(name)]
    assert silent == [], f"write a docstring below these fields of {model.__name__}"


def test_the_models_are_found_wherever_they_are_nested() -> None:
    assert {FeatureSpec, GateRule, WideConfig} <= set(MODELS)


class _Parent(Strict):
    inherited: int = 1
    """Of the parent."""


class _Child(_Parent):
    """Not a meaning."""

    silent: int = 2
    said: int = Field(3, ge=1)
    """Over two
    lines."""

    @property
    def other(self) -> int:
        """Not a meaning either."""
        return 4


def test_a_meaning_is_the_docstring_below_a_field_its_own_or_inherited() -> None:
    assert meanings(_Child) == {"inherited": "Of the parent.", "said": "Over two lines."}


@pytest.mark.parametrize(
    "row",
    [
        '| `column` | text | `""` | The log column that it reads; the feature\'s name if empty. |',
        "| `buckets` | integer in [2, 2^30] | `262144` | Of a hashed cross: the number of its ids, a power of two. |",
        "| `beta1` | number in [0, 1) | `0.9` | Of lazy_adam and adam: decay of the mean gradient. |",
        "| `epochs` | integer in [1, ∞) | `1` | Passes over the training rows. |",
        "| `fields` | list of 2: text | required | The two fields that they factorise, such as user and item. |",
    ],
)
def test_a_row_gives_type_bounds_default_and_meaning(row: str) -> None:
    assert row in reference().splitlines()
