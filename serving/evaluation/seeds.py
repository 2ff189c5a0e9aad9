"""Models over several seeds: what every run came to, means and deviations, as data and as a table in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from nightjar.features.contract.strict import Strict
from nightjar.serving.evaluation.comparison import Evaluation, ModelEvaluation
from nightjar.serving.evaluation.metrics import Bin, Metrics
from nightjar.serving.reports.report import HIGH, LOW, MEASURES, Measure

SIZE = Measure("MB", "megabytes", 2, "size of the artifact: weights, encoder state and golden rows", LOW)
SPEED = Measure(
    "Rows/s", "rows_per_second", 0, "rows of training a second, all workers together, validation not counted", HIGH
)


class SeedRun(Strict):
    """One model from one seed. rows_per_second, curve: as the run recorded them, the latter as (step, log loss) of
    held-out rows; None and empty where it recorded nothing.
    """

    seed: int
    megabytes: float
    rows_per_second: float | None
    curve: tuple[tuple[int, float], ...]
    evaluation: ModelEvaluation

    def value(self, measure: Measure) -> float | None:
        """A figure of the run."""
        source = self if measure in (SIZE, SPEED) else self.evaluation.metrics
        value: float | None = getattr(source, measure.attribute)
        return value


class SeedComparison(Strict):
    """Models by name, each with its runs by ascending seed, on the same rows. trained_rows: rows of an epoch."""

    first_date: str
    last_date: str
    rows: int
    trained_rows: int
    epochs: int
    models: Mapping[str, tuple[SeedRun, ...]]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that every model was trained from."""
        return tuple(run.seed for run in next(iter(self.models.values())))

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The columns of the table: what is defined for any run."""
        runs = [run for of_model in self.models.values() for run in of_model]
        return tuple(m for m in (*MEASURES, SIZE, SPEED) if any(run.value(m) is not None for run in runs))

    def values(self, model: str, measure: Measure) -> list[float]:
        """A figure of all runs of a model for which it is defined."""
        return [value for run in self.models[model] if (value := run.value(measure)) is not None]

    def mean(self) -> Evaluation:
        """Every model's figures and curves, averaged over its runs."""
        return Evaluation(
            first_date=self.first_date,
            last_date=self.last_date,
            rows=self.rows,
            models={name: _mean_of([run.evaluation for run in runs]) for name, runs in self.models.items()},
        )


def cell(values: Sequence[float], measure: Measure) -> tuple[str, str]:
    """Mean and standard deviation (of the sample) as text; an empty deviation where there is none."""
    if not values:
        return "–", ""
    return measure.text(fmean(values)), f"± {measure.text(stdev(values))}" if len(values) > 1 else ""


def best_models(comparison: SeedComparison, measure: Measure) -> set[str]:
    """The models whose mean reads best."""
    means = {name: fmean(found) for name in comparison.models if (found := comparison.values(name, measure))}
    return {name for name, mean in means.items() if measure.is_best(mean, list(means.values()))}


def markdown(comparison: SeedComparison) -> str:
    """The table, one row a model, the best means bold."""
    measures = comparison.measures
    lines = [
        "| Model | " + " | ".join(f"{m.title} {m.goal.symbol}" for m in measures) + " |",
        "|:--|" + "--:|" * len(measures),
    ]
    best = {measure: best_models(comparison, measure) for measure in measures}
    for name in comparison.models:
        cells = []
        for measure in measures:
            mean, deviation = cell(comparison.values(name, measure), measure)
            cells.append(f"{f'**{mean}**' if name in best[measure] else mean} {deviation}".rstrip())
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _mean_of(runs: Sequence[ModelEvaluation]) -> ModelEvaluation:
    figures = {
        name: fmean(found) if (found := [v for run in runs if (v := getattr(run.metrics, name)) is not None]) else None
        for name in Metrics.model_fields
    }
    return ModelEvaluation(
        artifact=runs[0].artifact,
        model=runs[0].model,
        dataset=runs[0].dataset,
        metrics=Metrics.model_validate(figures),
        calibration=_mean_bins([run.calibration for run in runs]),
        deciles=_mean_bins([run.deciles for run in runs]),
        distribution=tuple(fmean(shares) for shares in zip(*(run.distribution for run in runs), strict=True)),
    )


def _mean_bins(of_runs: Sequence[Sequence[Bin]]) -> tuple[Bin, ...]:
    """Bin by bin: they hold equal weights, so that the n-th of one run answers to the n-th of another."""
    return tuple(
        Bin.model_validate({name: fmean(getattr(b, name) for b in bins) for name in Bin.model_fields})
        for bins in zip(*of_runs, strict=False)
    )
