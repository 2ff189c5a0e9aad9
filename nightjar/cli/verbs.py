"""The verbs of `nightjar`. What a verb is called stands here; its options, help and work are the job's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NamedTuple

import click

import nightjar
from nightjar.jobs.common.cli import JobGroup, run

EXAMPLE = """
nightjar generate-logs --output logs --start-date 2026-01-01 --days 6
nightjar night --config conf/app_store.yaml --logs logs --output out --date 2026-01-06
nightjar models list --models out/models
"""


class Verb(NamedTuple):
    """A job as the list of verbs shows it. module: holds it under the name `main`."""

    module: str
    summary: str


JOBS = {
    "night": Verb("nightjar.jobs.run_nightly", "Run the night of a date, or of several."),
    "init": Verb("nightjar.jobs.initialise.init_config", "Write a config file from a look at your logs."),
    "doctor": Verb("nightjar.cli.doctor", "Say what is missing on this machine."),
    "train": Verb("nightjar.jobs.train_model", "Train a candidate model from a data set."),
    "pack": Verb("nightjar.jobs.pack_model", "Pack a candidate into an artifact."),
    "evaluate": Verb("nightjar.jobs.evaluate_model", "Evaluate artifacts on later data."),
    "compare": Verb("nightjar.jobs.compare_models", "Train and compare models over several seeds."),
    "models": Verb("nightjar.jobs.promote_model", "List, promote, roll back, prune published models."),
    "score": Verb("nightjar.jobs.score_candidates", "Score raw candidates by Spark."),
    "serve": Verb("nightjar.jobs.scoring.serve_champion", "Serve the champion over HTTP."),
    "replay": Verb("nightjar.jobs.replay_requests", "Score logged requests again, and say what differs."),
    "render": Verb("nightjar.jobs.render_reports", "Draw the pages of all nights again."),
    "generate-logs": Verb("nightjar.jobs.generate_logs", "Write impression logs with a known truth."),
}
FEATURES = {
    "build": Verb("nightjar.jobs.build_features", "Build the features of some days, without a night."),
    "report": Verb("nightjar.jobs.report_features", "Draw the features of a day on one page."),
}
IMPORT = {
    "movietweetings": Verb("nightjar.jobs.import_movietweetings", "MovieTweetings: ratings by time."),
    "adult": Verb("nightjar.jobs.import_adult", "UCI's census: incomes above 50,000 dollars."),
    "criteo": Verb("nightjar.jobs.import_criteo", "Criteo's click logs."),
}


class Verbs(JobGroup):
    """A group whose jobs are imported when they are called, so that its help costs nothing."""

    def __init__(self, name: str, summary: str, example: str, verbs: Mapping[str, Verb]) -> None:
        super().__init__(name, help=summary, short_help=summary, example=example)
        self.verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See click.Group."""
        return [*self.verbs, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See click.Group."""
        if cmd_name not in self.verbs:
            return super().get_command(ctx, cmd_name)
        command = import_module(self.verbs[cmd_name].module).main
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click.Group."""
        rows = [(name, verb.summary) for name, verb in self.verbs.items()]
        rows += [(name, command.get_short_help_str()) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; the exit status (jobs.common.cli)."""
    return run(command(), argv, "nightjar")


def command() -> click.Group:
    """The command with all its verbs."""
    summary = "Nightly training of click-through and ranking models on Spark, Horovod and PyTorch."
    group = Verbs("nightjar", summary, EXAMPLE, JOBS)
    group.params.append(
        click.Option(
            ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
        )
    )
    building = "nightjar features build --help"
    group.add_command(
        Verbs("features", "Encoded data sets without a night, and a page about them.", building, FEATURES)
    )
    adult = "nightjar import adult --source adult --output logs"
    group.add_command(Verbs("import", "Turn public data sets into logs.", adult, IMPORT))
    return group


def _version(ctx: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if asked:
        print(f"nightjar {nightjar.__version__}")
        ctx.exit()
