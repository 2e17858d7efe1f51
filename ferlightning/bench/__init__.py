"""Many runs, one table: systems by data sets by folds and seeds."""
