"""What is known of webhooks: which hosts are whose, which are alive, and which are used by nothing any more."""
