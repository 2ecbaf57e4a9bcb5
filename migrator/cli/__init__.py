"""The command line: what the user types, and what they see."""
