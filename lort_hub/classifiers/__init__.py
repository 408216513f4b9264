"""Load classifiers and use them: evaluate, predict, sort, export, and show them in the browser."""
