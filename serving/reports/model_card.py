"""A model card (Mitchell et al. 2019): one page of Markdown on a published model, made from what its night left.

The same directories give the same bytes: nothing of it was measured on a clock.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator, Sequence

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import ENCODER
from nightjar.features.contract.manifests import ArtifactManifest, StateManifest
from nightjar.features.contract.metrics.registry import CALIBRATION, LOG_LOSS, METRICS
from nightjar.features.contract.outputs import MODELS
from nightjar.features.contract.publishing import is_published, read_manifest
from nightjar.features.encoder.inputs import input_columns
from nightjar.serving.evaluation.comparison import Evaluation
from nightjar.serving.gate.decision import Decision
from nightjar.serving.reports.nights import NightFindings

# What Markdown would read as more than text; < and & are escaped as HTML.
_MARKUP = re.compile(r"[\\`*\[\]|]")
_LIMITS = (
    "Scores are probabilities for impressions like those of the days above. Nothing is promised for other users, "
    "places or days, and a score says nothing of causes.",
    "What was shown, and where, was chosen by an earlier ranking; the model has not seen what was never shown.",
    "Golden rows prove that the model is computed as it was trained. They do not prove that it is good.",
)


class Code(str):
    """Text of a table that is set as code: a column's name."""

    __slots__ = ()


def draw(output: str, night: NightFindings) -> str | None:
    """The card of a night's model; None if it has no published artifact (any more)."""
    artifact = storage.join(output, MODELS, night.record.version) if night.record else ""
    if night.record is None or not is_published(artifact):
        return None
    fitted = read_manifest(storage.join(artifact, ENCODER), StateManifest)
    return render(night.record.version, read_manifest(artifact, ArtifactManifest), fitted, night)


def render(version: str, artifact: ArtifactManifest, fitted: StateManifest, night: NightFindings | None) -> str:
    """The card of a version.

    Args:
        version: its name.
        artifact: its manifest.
        fitted: the manifest of its encoder's state.
        night: that made it; None for an artifact that was packed by hand.
    """
    spec = fitted.spec
    lines = [
        f"# Model card: {_text(version)}",
        "",
        f"A `{artifact.model}` model that gives the probability of `{spec.label}` for an impression of the log "
        f"`{spec.name}`, for ranking candidates. Trained and packed by Nightjar; it scores raw rows by itself.",
        *_days(artifact, fitted, night),
        *(_checks(night) if night and night.validation else ()),
        *(_metrics(night.compared) if night and night.compared else ()),
        *(_judged(night.decision) if night and night.decision else ()),
        *(_calibration(night.evaluation, night.decision) if night and night.evaluation else ()),
        *_inputs(fitted),
        *_limits(fitted),
        *_lineage(artifact),
    ]
    return "\n".join(lines) + "\n"


def _days(artifact: ArtifactManifest, fitted: StateManifest, night: NightFindings | None) -> Iterator[str]:
    lineage = artifact.lineage
    yield from ("", "## Days and rows", "")
    rows: list[tuple[object, ...]] = [
        ("vocabularies and counts", f"{fitted.first_date} to {fitted.through_date}", ""),
        ("learned through", lineage.learned_through_date, ""),
        ("judged on", lineage.date or "–", night.rows if night else None),
        *([("judged before it learned that day, as", lineage.judged, "")] if lineage.judged else []),
    ]
    ledger = night.ledger if night else None
    if ledger:
        rows += [
            (f"log of {day.date}", day.date, f"{day.counted:,} rows, {day.positives:,} positives")
            for day in ledger.days
        ]
        rows += [
            (f"{model.model} trained on", f"{model.epochs} epochs", f"{model.rows:,} rows") for model in ledger.trained
        ]
    yield from _table(("what", "days", "rows"), rows)
    if night:
        said = f"Verdict of the gate: **{night.outcome}**."
        yield from ("", said if night.decision else f"Verdict on record: **{night.outcome}**.")


def _checks(night: NightFindings) -> Iterator[str]:
    assert night.validation is not None
    checks = night.validation.checks
    failed = [check for check in checks if not check.passed]
    yield from ("", "## Data checks", "")
    yield (
        f"{len(checks) - len(failed)} of {len(checks)} checks of the judged day's log passed, against the days "
        f"{', '.join(night.validation.reference) or '–'}."
    )
    if failed:
        yield ""
        yield from _table(
            ("check", "of", "what was found", "allowed by hand"),
            [(c.check, c.feature or "the log", c.reason, "yes" if c.overridden else "no") for c in failed],
        )


def _metrics(evaluation: Evaluation) -> Iterator[str]:
    shown = [m for m in METRICS.values() if any(_of(e.metrics, m.name) is not None for e in evaluation.models.values())]
    yield from ("", "## Metrics", "")
    days = " to ".join(dict.fromkeys((evaluation.first_date, evaluation.last_date)))
    yield f"On {evaluation.rows:,} impressions of {days}."
    yield ""
    yield from _table(
        ("", *(f"{metric.label} {metric.direction.symbol}" for metric in shown)),
        [
            (name, *(metric.text(_of(of.metrics, metric.name)) for metric in shown))
            for name, of in evaluation.models.items()
        ],
    )


def _judged(decision: Decision) -> Iterator[str]:
    """Differences from the champion before, overall and by slice, and what the gate warned of."""
    compared = [part for part in decision.parts if any(one.interval for one in part.figures)]
    if compared:
        yield from ("", "## Against the champion before", "")
        yield "Candidate minus champion; bounds of a paired bootstrap over groups, 95 % on each side."
        yield ""
        rows: list[tuple[object, ...]] = []
        for part in compared:
            for one in part.figures:
                if part.name is None or one.metric == LOG_LOSS.name:
                    bounds = f"{one.interval[0]:+.5f} to {one.interval[1]:+.5f}" if one.interval else "–"
                    rows.append((part.name or "all rows", part.rows, METRICS[one.metric].label, _signed(one), bounds))
        yield from _table(("slice", "rows", "metric", "difference", "bounds"), rows)
    found = [*(check.reason for check in decision.failures), *(warning.reason for warning in decision.warnings)]
    if found:
        yield from ("", "What failed, or was warned of:", "")
        yield from (f"* {_text(reason)}" for reason in found)


def _calibration(evaluation: Evaluation, decision: Decision | None) -> Iterator[str]:
    of = next(iter(evaluation.models.values()))
    yield from ("", "## Calibration", "")
    bounds = [
        c.interval for c in (decision.checks if decision else ()) if c.metric == "calibration_ratio" and c.interval
    ]
    between = f", between {bounds[0][0]:.3f} and {bounds[0][1]:.3f} by the bootstrap" if bounds else ""
    yield (
        f"Sum of scores over sum of labels: {CALIBRATION.text(of.metrics.calibration)}{between}. Expected calibration "
        f"error: {of.metrics.calibration_error:.4g}. By deciles of the score:"
    )
    yield ""
    yield from _table(
        ("share of rows", "mean score", "share of positives"),
        [(f"{b.weight:.3f}", f"{b.mean_score:.4g}", f"{b.mean_label:.4g}") for b in of.deciles],
    )


def _inputs(fitted: StateManifest) -> Iterator[str]:
    yield from ("", "## Inputs", "")
    yield from _table(
        ("column", "type", "required", "meaning"),
        [(Code(c.name), c.type, "yes" if c.required else "no", c.meaning) for c in input_columns(fitted.spec)],
    )


def _limits(fitted: StateManifest) -> Iterator[str]:
    yield from ("", "## Limits", "")
    yield from (f"* {said}" for said in _LIMITS)
    for name, figures in sorted(fitted.field_figures.items()):
        yield f"* field `{name}`: {figures.known:,} of {figures.distinct:,} values seen have an id; others are unknown."
    for name, of in sorted(fitted.cross_figures.items()):
        rate = of.expected_collision_rate if of.collision_rate is None else of.collision_rate
        yield (
            f"* cross `{name}`: {'' if of.exact else 'about '}{of.distinct:,} conjunctions seen; {100 * rate:.1f} % of "
            f"those with a weight share it with another."
        )


def _lineage(artifact: ArtifactManifest) -> Iterator[str]:
    lineage = artifact.lineage
    yield from ("", "## Lineage", "")
    rows: list[tuple[object, ...]] = [
        ("start", lineage.start or "–"),
        ("parent", lineage.parent.candidate if lineage.parent else "–"),
        ("seed", lineage.seed),
        *([("packed with", json.dumps(dict(lineage.artifact), sort_keys=True))] if lineage.artifact else []),
        ("spec", artifact.spec_fingerprint),
    ]
    if lineage.code:
        libraries = ", ".join(f"{name} {version}" for name, version in sorted(lineage.code.libraries.items()))
        rows += [("code", f"{lineage.code.version}, {lineage.code.sources[:16]}"), ("libraries", libraries)]
    rows += [(f"digest of {name}", digest) for name, digest in sorted(artifact.inputs.items())]
    rows += [(f"log of {day}", fingerprint) for day, fingerprint in sorted(lineage.logs.items())]
    yield from _table(("what", "value"), rows)
    yield from ("", "Training settings:", "", "```json")
    yield json.dumps(dict(lineage.settings), indent=1, sort_keys=True)
    yield "```"


def _of(metrics: object, name: str) -> float | None:
    value: float | None = getattr(metrics, name, None)
    return value


def _signed(one: object) -> str:
    difference = _of(one, "difference")
    return "–" if difference is None else f"{difference:+.5f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield "| " + " | ".join(map(_text, head)) + " |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield "| " + " | ".join(map(_cell, row)) + " |"


def _cell(value: object) -> str:
    if isinstance(value, Code):
        return f"`{value}`"
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else _text(str(value))


def _text(value: str) -> str:
    """A value of a log as text: neither markup, nor the end of a cell or of a line."""
    return " ".join(_MARKUP.sub(r"\\\g<0>", html.escape(value, quote=False)).split())
