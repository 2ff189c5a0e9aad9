"""The rows of a batch, pooled, and the way back for their gradients: in the host's memory or on a device."""
