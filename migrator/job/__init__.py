"""What to send: job files and items files, turned into requests."""
