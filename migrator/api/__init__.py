"""One API over HTTP: attempts, what answers mean, reading records."""
