"""Load classifiers and use them: find one, by its folder or its name on the Hub."""
