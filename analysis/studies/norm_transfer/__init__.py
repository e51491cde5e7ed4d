"""The output layer's norm at the best settings, across scales."""
