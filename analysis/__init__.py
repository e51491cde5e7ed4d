"""From the run store to a report: tables → fits → figures → report. Loads neither torch nor Ray."""
