"""What was done: the state folder, its ledgers and its locks."""
