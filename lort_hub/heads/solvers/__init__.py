"""Minimise the objective of a linear head: exactly, in closed form, or by SGD."""
