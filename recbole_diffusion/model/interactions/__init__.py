"""What models of (user, item) pairs share: triples and graph propagation."""
