"""Rolled-up counts to the encoder's fitted state: ids, vocabularies, quantile boundaries, moments."""
