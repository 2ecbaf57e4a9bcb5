"""What the headers of a rate limit are called and mean: names, resets, and the server's clock. Pure."""
