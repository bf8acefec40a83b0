"""Extraction of the published archives: all of them or nothing, by code that trusts nothing in them."""
