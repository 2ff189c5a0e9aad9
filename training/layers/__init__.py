"""What heads are composed of. A layer in training is given the global batch, and computes nothing that depends on how
the workers share it.
"""
