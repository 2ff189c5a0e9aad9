"""Models over several seeds: what every run came to, means and deviations, as data and as a table in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from nightjar.features.contract.metrics.registry import EVALUATED, LESS, MORE, Metric
from nightjar.features.contract.strict import Strict
from nightjar.serving.evaluation.comparison import Evaluation, ModelEvaluation
from nightjar.serving.evaluation.metrics import Bin, Metrics

SIZE = Metric(
    name="megabytes",
    label="MB",
    digits=2,
    direction=LESS,
    meaning="size of the artifact: weights, encoder state and golden rows",
)
SPEED = Metric(
    name="rows_per_second",
    label="Rows/s",
    digits=0,
    direction=MORE,
    meaning="rows of training a second, all workers together, validation not counted",
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

    def value(self, metric: Metric) -> float | None:
        """A figure of the run."""
        source = self if metric in (SIZE, SPEED) else self.evaluation.metrics
        value: float | None = getattr(source, metric.name)
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
    def columns(self) -> tuple[Metric, ...]:
        """The metrics of the table: what is defined for any run."""
        runs = [run for of_model in self.models.values() for run in of_model]
        return tuple(m for m in (*EVALUATED, SIZE, SPEED) if any(run.value(m) is not None for run in runs))

    def values(self, model: str, metric: Metric) -> list[float]:
        """A figure of all runs of a model for which it is defined."""
        return [value for run in self.models[model] if (value := run.value(metric)) is not None]

    def mean(self) -> Evaluation:
        """Every model's figures and curves, averaged over its runs."""
        return Evaluation(
            first_date=self.first_date,
            last_date=self.last_date,
            rows=self.rows,
            models={name: _mean_of([run.evaluation for run in runs]) for name, runs in self.models.items()},
        )


def cell(values: Sequence[float], metric: Metric) -> tuple[str, str]:
    """Mean and standard deviation (of the sample) as text; an empty deviation where there is none."""
    if not values:
        return "–", ""
    return metric.text(fmean(values)), f"± {metric.text(stdev(values))}" if len(values) > 1 else ""


def best_models(comparison: SeedComparison, metric: Metric) -> set[str]:
    """The models whose mean reads best."""
    means = {name: fmean(found) for name in comparison.models if (found := comparison.values(name, metric))}
    return {name for name, mean in means.items() if metric.is_best(mean, list(means.values()))}


def markdown(comparison: SeedComparison) -> str:
    """The table, one row a model, the best means bold."""
    columns = comparison.columns
    lines = [
        "| Model | " + " | ".join(f"{m.label} {m.direction.symbol}" for m in columns) + " |",
        "|:--|" + "--:|" * len(columns),
    ]
    best = {metric: best_models(comparison, metric) for metric in columns}
    for name in comparison.models:
        cells = []
        for metric in columns:
            mean, deviation = cell(comparison.values(name, metric), metric)
            cells.append(f"{f'**{mean}**' if name in best[metric] else mean} {deviation}".rstrip())
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
