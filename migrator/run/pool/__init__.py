"""The workers of a run, and the order in which they get their items."""
