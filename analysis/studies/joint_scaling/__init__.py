"""Best learning rate and batch size as laws of network size and tokens together."""
