"""APIs that tell nothing of their limit but refusals: what the refusals tell, and what to send by. Pure."""
