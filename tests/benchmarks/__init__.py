"""Speed and memory against the documented algorithms, both sides in one run: ``make bench``."""
