"""The page of a day's features: its figures, its order, and that nothing that a log holds can break it."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest
from scipy.stats import binomtest

from nightjar.features.contract.manifests import CrossFigures, DatasetManifest, ValidationCheck, ValidationManifest
from nightjar.features.contract.publishing import begin, commit
from nightjar.serving.reports.feature_report import Chart, Row, draw, render, wilson
from tests.kits.html_page import Page, require_accessible, require_self_contained
from tests.kits.summary_kit import make_summary


def checked(*checks: ValidationCheck) -> ValidationManifest:
    return ValidationManifest(
        files=(), date="2026-01-02", rows=200, reference=("2026-01-01",), allowed=(), passed=False, checks=checks
    )


DRIFTS = checked(
    ValidationCheck(check="drift", feature="item", value=0.01, high=0.1, passed=True, reason="0.01, at most 0.1."),
    ValidationCheck(check="drift", feature="tags", value=0.3, high=0.2, passed=False, reason="0.3, at most 0.2."),
    ValidationCheck(check="rows", value=200.0, low=1.0, high=150.0, passed=False, reason="200, [1, 150]."),
)


def test_the_page_is_self_contained_and_accessible_whatever_the_log_holds() -> None:
    html = render(make_summary(), DRIFTS, {"x_item_tags": 0.5}, "2026-01-02.html")
    require_self_contained(html)
    require_accessible(Page(html))
    assert "<b>&" not in html
    assert "\x00" not in html
    assert "\u202e" not in html
    assert "(empty)" in Page(html).text


def words(html: str) -> str:
    """The text, every element's by itself."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def card(html: str, anchor: str) -> str:
    """The words of a card."""
    part = html[html.index(f'<article id="{anchor}"') :]
    return words(part[: part.index("</article>")])


def test_a_fields_card_says_how_often_each_value_was_shown_and_clicked() -> None:
    text = card(render(make_summary()), "field-item")
    assert "(empty) no id 30 15.0 % 60.0 %" in text
    assert "3 others 30 15.0 % 20.0 %" in text
    assert "missing 20 10.0 % 20.0 %" in text  # 40 positives, of which 12, 18 and 6 have an item
    assert "Different values by day: 3, 5. Retired ids: 2." in text
    assert "an id from 2 impressions on" in text


def test_rows_without_any_of_several_values_have_no_label_rate() -> None:
    found = make_summary()
    tags = found.fields["tags"].model_copy(update={"missing": (0, 50)})
    html = render(found.model_copy(update={"fields": {**found.fields, "tags": tags}}))
    text = card(html, "field-tags")
    assert "missing 50 25.0 % –" in text
    assert "others" not in text


def test_a_dense_card_has_ranges_and_the_rows_without_a_number() -> None:
    text = card(render(make_summary()), "dense-price")
    assert "0 to 1.5 100 50.0 % 10.0 %" in text
    assert "1.5 to 123,456 70 35.0 % 42.9 %" in text
    assert "missing 30 15.0 % 0.0 %" in text
    assert "Missing by day: 0 %, 15 %." in text


def test_rates_of_keys_are_held_against_the_labels_that_followed() -> None:
    text = card(render(make_summary()), "frequency-item_rate_7d")
    assert "Mean rate before: 17 %. Label rate: 20 %." in text
    assert "8 % 50 25.0 % 10.0 %" in text
    assert "never seen 50 25.0 % 10.0 % 4 to 7 150 75.0 % 23.3 %" in text


def test_what_failed_comes_first_and_is_linked() -> None:
    html = render(make_summary(), DRIFTS)
    assert html.index('<article id="field-tags"') < html.index('<article id="field-item"')
    assert '<a href="#field-tags">tags</a>' in html[: html.index('id="days"')]
    assert "the whole log" in Page(html).text
    unchecked = render(make_summary())
    assert unchecked.index('<article id="field-item"') < unchecked.index('<article id="field-tags"')
    assert "What failed" not in unchecked


def test_coverage_of_fields_adds_up_and_that_of_crosses_is_the_data_sets(tmp_path: Path) -> None:
    figures = CrossFigures(distinct=90, exact=False, admitted=80, collision_rate=0.25, expected_collision_rate=0.3)
    place = str(tmp_path / "summary")
    begin(place)
    commit(place, make_summary(cross_figures={"item_tags": figures.model_dump()}))
    encoded = str(tmp_path / "holdout")
    assert "item × tags 64 about 90 80 – 25.0 % 30.0 %" in words(draw(place, None, encoded))
    begin(encoded)
    manifest = DatasetManifest(
        files=(),
        spec_fingerprint="",
        state="",
        first_date="2026-01-02",
        last_date="2026-01-02",
        rows=200,
        positives=40,
        columns=(),
        coverage={"x_item_tags": 0.875},
    )
    commit(encoded, manifest)
    text = words(draw(place, None, encoded))
    assert "item × tags 64 about 90 80 87.5 % 25.0 % 30.0 %" in text
    assert "item 75.0 % 15.0 % 10.0 % 5 3" in text  # 150 of 180 items have an id, in 180 of 200 rows


@pytest.mark.parametrize(("positives", "impressions"), [(0, 1), (1, 1), (0, 50), (3, 50), (50, 50), (190, 1000)])
def test_intervals_are_wilsons(positives: int, impressions: int) -> None:
    expected = binomtest(positives, impressions).proportion_ci(0.95, method="wilson")
    assert wilson(positives, impressions) == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_a_rare_value_does_not_stretch_the_axis_of_label_rates() -> None:
    common, rare = Row("common", 1000, (0.9, 0.8), 100), Row("rare", 2, (0.0, 0.002), 2)
    chart = Chart.of("values", [common, rare], base_rate=0.1)
    assert chart.most == (0.9, 0.2)
    others = Row("others", 1000, (0.99, 0.99), 100, others=True)
    assert Chart.of("values", [common, rare, others], base_rate=0.1) == Chart(
        "values", (common, rare, others), (0.9, 0.2)
    )
