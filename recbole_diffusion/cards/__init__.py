"""The models' cards, and what is made from them. Imports no torch."""
