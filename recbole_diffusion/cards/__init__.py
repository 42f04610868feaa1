"""Which models there are, and what each needs. Imports no torch."""
