"""What features are and what is published of them: spec, layout of columns, manifests, metrics, storage. No Spark."""
