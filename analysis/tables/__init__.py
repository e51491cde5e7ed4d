"""Rows of the store as frames: a sweep, its keys and units, what layers did, runs trained elsewhere."""
