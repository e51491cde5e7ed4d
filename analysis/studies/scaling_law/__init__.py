"""The law of the loss in network size and tokens, from these three columns alone."""
