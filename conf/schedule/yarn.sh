#!/usr/bin/env bash
# A night, or several, on YARN: yarn.sh DATE [LAST DATE]
# The driver runs in the cluster; spark-submit's own status is then 0 for published and 1 for everything else: the hook
# (nightly.hook) and the night's record tell the rest. GPUs need YARN's own (yarn.io/gpu, isolation by cgroups).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source conf/schedule/nightjar.env

exec spark-submit --master yarn --deploy-mode cluster \
    --py-files "$NIGHTJAR_ZIP" --archives "$NIGHTJAR_ENV#env" --files "$NIGHTJAR_CONFIG" \
    --conf spark.yarn.appMasterEnv.PYSPARK_PYTHON=./env/bin/python \
    --conf spark.executorEnv.PYSPARK_PYTHON=./env/bin/python \
    --conf spark.yarn.maxAppAttempts=1 \
    --driver-memory 8g --num-executors 16 --executor-cores 4 --executor-memory 8g \
    "${gpus[@]}" "${job[@]}"
