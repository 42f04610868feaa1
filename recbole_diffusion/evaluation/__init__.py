"""How good a ranking is: metrics of users, lists and values."""
