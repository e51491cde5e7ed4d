"""How a named method of a trial starts a model, scales its outputs, and updates it: a `Recipe` each."""
