"""Which weights of a run are scored and kept: averages, the best so far, and when to stop."""
