"""Compare methods and run the paper's ablations on one set of features."""
