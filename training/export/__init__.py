"""A trained model as files: the candidate, its tables, its head as ONNX."""
