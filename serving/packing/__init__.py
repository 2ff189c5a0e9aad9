"""Candidate and encoder state to an artifact, and the trial of it in a fresh process."""
