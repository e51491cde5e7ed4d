"""What is trained: models and the data they are trained on, built in or the caller's."""
