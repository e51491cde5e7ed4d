"""Tables with published numbers, in the order of the page. To add one, make a file here, and add its line."""

from scionlab.reproduce.declare import PublishedTable
from scionlab.reproduce.tables import (
    bst_plan,
    bst_table1,
    chinchilla,
    critical_batch,
    llama3,
    porian,
    steplaw,
)

TABLES: tuple[PublishedTable, ...] = (
    bst_table1.TABLE,
    bst_plan.TABLE,
    chinchilla.TABLE,
    porian.TABLE,
    llama3.TABLE,
    steplaw.TABLE,
    critical_batch.TABLE,
)
