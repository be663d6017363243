"""Running the frozen part over data, and keeping what it gave."""
