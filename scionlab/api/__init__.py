"""What Python callers use of the analysis, by plain names: tables in, laws and plans out (docs/python.md).

    import_table      a table of runs that somebody trained → runs, checked, in the project's columns
    fit_scaling_law   such a table → L(N, T) with intervals, predictions and best networks
    fit               such a table, or runs of the store → any study's result, by its name
    plan              a tuned small run → batch size and rate of a large one, by every rule

The command line is made of the same calls. All is found by importing `scionlab`. A mistake of the caller is a
`UserError`, a ValueError whose message says what is wrong and what is allowed, in arguments of the call, or in options
where a command makes it.
"""

from scionlab.own.packages import own_analysis

with own_analysis():  # whatever else is called so where the caller works
    from scionlab.api.importing import ImportedTable, import_table
    from scionlab.api.laws import ScalingLawFit, fit_scaling_law
    from scionlab.api.plans import plan
    from scionlab.api.studies import fit

__all__ = ["ImportedTable", "ScalingLawFit", "fit", "fit_scaling_law", "import_table", "plan"]
