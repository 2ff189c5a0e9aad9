"""Sums of judged rows, and of the bootstrap's resamples of them: what metrics of models are read off."""
