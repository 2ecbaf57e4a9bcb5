"""Views of a run, made from its ledger and its events."""
