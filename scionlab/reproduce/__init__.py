"""Published numbers beside ours: public tables through the project's own fits (docs/reproduce.md).

    declare     what a table of published numbers is
    tables      one file a table: its numbers, where to get it, how it is read and fitted
    finding     which file of a folder is which table, by its columns
    run         fits what is there, and judges
    page        the HTML page

To add a table, write a file into tables/ and its line into `TABLES` there.
"""
