"""Runs as jobs: executed one by one or in parallel, each outcome kept."""
