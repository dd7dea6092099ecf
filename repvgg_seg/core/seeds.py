"""Random seeds."""
# Seeds that NumPy accepts, and therefore MMEngine.
SEEDS = range(2**32)
