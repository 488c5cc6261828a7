"""A simulated world with exact truth, and the measures and reports that rest on it."""
