"""The same tokens spent in several ways, with restarts and without."""
