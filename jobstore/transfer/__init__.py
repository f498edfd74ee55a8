"""Whole stores in and out."""
