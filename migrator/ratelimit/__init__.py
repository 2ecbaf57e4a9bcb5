"""When to send: rate-limit headers turned into a pace. Usable without the rest."""
