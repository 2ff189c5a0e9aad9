"""Models on the same later impressions, side by side."""
