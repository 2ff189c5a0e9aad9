"""What metrics mean: the registry of their names, directions and formulas, and the sums that they are made of."""
