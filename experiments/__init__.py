"""Experiments: one file, one question, one `SPEC`. The file's name is what the command line calls it."""
