"""Pictures and sound that are made on the server rather than forwarded."""
