"""Tables that somebody else wrote: cells, arithmetic over their columns, rows as they are stored."""
