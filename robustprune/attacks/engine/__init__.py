"""Runs any attack, guards the network meanwhile, and judges the numbers."""
