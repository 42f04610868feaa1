"""Metrics of users, of recommended lists and of predicted values."""
