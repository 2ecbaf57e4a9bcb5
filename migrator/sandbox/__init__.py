"""A faithful local stand-in for Confluent Cloud's notifications API, with rate limits and faults to order."""
