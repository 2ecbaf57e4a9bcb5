"""Bulk PATCHes to a REST API, at the quota's edge, with every item accounted for."""

__version__ = "0.2.0"
