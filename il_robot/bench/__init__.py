"""The benchmark: methods x environments x seeds, what each costs, and one report."""
