"""Kinds of servers: each is held against every answer, and says when the next request may go. Pure."""
