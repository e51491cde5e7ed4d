"""Tables that ship with the project: bst_table1.csv, the 42 numbers of Table 1 of arXiv 2603.21191.

Each is the mean of five runs of 124M parameters and 1.3e9 tokens, with the published spread beside it in std_of_5.
"""
