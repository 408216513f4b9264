"""Parse arguments and run the recipes from the command line."""
