"""A private Ray for one command."""
