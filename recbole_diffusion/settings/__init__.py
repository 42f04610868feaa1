"""What a key may be: rules, sources and precedence of settings."""
