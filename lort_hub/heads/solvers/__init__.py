"""Solve the optimisation problems of heads: exactly, in closed form, or by SGD."""
