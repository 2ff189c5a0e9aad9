"""Inner loops compiled by numba, the threads that share them, and the memory that they work in."""
