"""How requests reach a server: over a session, below it, through proxies and TLS."""
