"""What is known of an API: its server, credentials, collection and limits."""
