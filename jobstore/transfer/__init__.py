"""Whole stores: load, dump, export, check, back up and restore."""
