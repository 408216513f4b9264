"""Compare methods and run the ablations of the paper, all on one set of features."""
