"""Nightjar as an Airflow DAG (Airflow 2.10 or later with the standard provider): one task a step of the night.

Every task is one spark-submit of the same job, by a script like conf/schedule/yarn.sh. The scheduler decides when;
the job decides what is left to do, so that retries and cleared tasks cost nothing where nothing changed. `catchup`
fills the nights that were missed, one after the other: `max_active_runs=1`, and the lease of the output besides.

Of Nightjar the scheduler needs the sources at NIGHTJAR_HOME alone: the steps' names are in a module without
dependencies.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta

from airflow import DAG
from airflow.providers.standard.operators.bash import BashOperator

HOME = os.environ.get("NIGHTJAR_HOME", "/opt/nightjar")
SUBMIT = os.environ.get("NIGHTJAR_SUBMIT_SCRIPT", "conf/schedule/standalone.sh")
NOTHING_TO_DO = 4

sys.path.append(HOME)
from nightjar.features.contract.outputs import STEPS  # noqa: E402

with DAG(
    dag_id="nightjar",
    description="Nightly training of the ranking model",
    schedule="30 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=True,
    max_active_runs=1,
    default_args={
        "retries": 2,
        "retry_delay": timedelta(minutes=10),
        "execution_timeout": timedelta(hours=6),
    },
) as dag:
    before = None
    for step in STEPS:
        task = BashOperator(
            task_id=step,
            bash_command=f"{SUBMIT} {{{{ ds }}}}",  # ds: the day that has just ended
            env={"NIGHTJAR_ONLY": step},
            append_env=True,
            cwd=HOME,
            skip_on_exit_code=NOTHING_TO_DO,
            trigger_rule="none_failed",  # a step that had nothing to do does not hold up the next
        )
        if before is not None:
            before >> task
        before = task
