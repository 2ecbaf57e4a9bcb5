"""One run: from requests to a result for each item."""
