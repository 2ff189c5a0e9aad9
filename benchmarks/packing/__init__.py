"""What packing can change of a model: its tables and its calibrator."""
