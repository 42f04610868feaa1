"""What models of item sequences share."""
