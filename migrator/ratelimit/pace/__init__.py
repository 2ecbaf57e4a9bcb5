"""How fast, and how long to pause: parts of the pacer that know nothing of servers."""
