#!/usr/bin/env bash
# A night, or several, on Kubernetes: kubernetes.sh DATE [LAST DATE]
# The image holds Spark and Java; the Python environment, the code and the config travel through spark.kubernetes.file.upload.path.
# Credentials of the object store come from the service account. Pods with GPUs need the vendor's device plugin.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source conf/schedule/nightjar.env
: "${KUBERNETES_MASTER:=k8s://https://kubernetes.default.svc:443}"
: "${KUBERNETES_NAMESPACE:=nightjar}"
: "${SPARK_IMAGE:=registry.example.org/spark:4.0.5-python3.11}"
: "${SPARK_UPLOADS:=s3a://nightjar/uploads}"
if [ "$NIGHTJAR_GPUS" -gt 0 ]; then gpus+=(--conf spark.executor.resource.gpu.vendor=nvidia.com); fi
job[0]=local:///opt/nightjar/jobs/run_nightly.py       # of the image; the packages are those of the archive

exec spark-submit --master "$KUBERNETES_MASTER" --deploy-mode cluster --name nightjar \
    --conf spark.kubernetes.namespace="$KUBERNETES_NAMESPACE" \
    --conf spark.kubernetes.container.image="$SPARK_IMAGE" \
    --conf spark.kubernetes.authenticate.driver.serviceAccountName=nightjar \
    --conf spark.kubernetes.file.upload.path="$SPARK_UPLOADS" \
    --conf spark.kubernetes.submission.waitAppCompletion=true \
    --conf spark.pyspark.python=./env/bin/python \
    --py-files "$NIGHTJAR_ZIP" --archives "$NIGHTJAR_ENV#env" --files "$NIGHTJAR_CONFIG" \
    --driver-memory 8g --num-executors 16 --executor-cores 4 --executor-memory 8g \
    "${gpus[@]}" "${job[@]}"
