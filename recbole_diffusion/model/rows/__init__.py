"""What models of users' interaction rows share."""
