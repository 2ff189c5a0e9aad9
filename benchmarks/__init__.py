"""What is measured, how, and the recorded results (RESULTS.md)."""
