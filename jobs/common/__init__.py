"""What entry points share: the command line, the Spark session, comparisons of models."""
