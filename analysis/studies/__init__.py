"""What can be asked of a sweep: a folder each, with its fit, its figures and its page. `table` lists them."""
