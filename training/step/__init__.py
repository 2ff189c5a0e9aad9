"""One joint step of the wide and the deep part: look-up, exchange, gradients, update."""
