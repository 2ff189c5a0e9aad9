"""The plan of build_features, and the encoded data set with its golden rows."""
