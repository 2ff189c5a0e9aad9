#!/usr/bin/env bash
# A night, or several, on a standalone Spark cluster: standalone.sh DATE [LAST DATE]
# The driver runs here, and its exit status is the night's (run_nightly --help). Workers that offer GPUs are started with
# SPARK_WORKER_OPTS="-Dspark.worker.resource.gpu.amount=4 -Dspark.worker.resource.gpu.discoveryScript=...".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source conf/schedule/nightjar.env
: "${SPARK_MASTER:=spark://spark-master:7077}"
: "${NIGHTJAR_SUBMIT:=}"                               # more options of spark-submit
read -ra more <<< "$NIGHTJAR_SUBMIT"
job[2]=$NIGHTJAR_CONFIG                                # the driver reads it where it lies

export PYSPARK_DRIVER_PYTHON=${PYSPARK_DRIVER_PYTHON:-.venv/bin/python}
export PYSPARK_PYTHON=${PYSPARK_PYTHON:-./env/bin/python}
exec spark-submit --master "$SPARK_MASTER" --deploy-mode client \
    --py-files "$NIGHTJAR_ZIP" --archives "$NIGHTJAR_ENV#env" \
    --executor-cores 4 --total-executor-cores 64 --executor-memory 8g \
    "${gpus[@]}" "${more[@]}" "${job[@]}"
