"""One quota for several runs: what they have taken together, on one host or on many."""
