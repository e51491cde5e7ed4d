"""What an experiment or an import may be called: a name that leads nowhere else as one of files and folders."""

PATTERN = r"[a-z0-9][a-z0-9_-]*"
IN_WORDS = "a name has small letters, digits, - and _, and begins with a letter or digit"
