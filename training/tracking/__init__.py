"""What a run says of itself, and where its figures go."""
