"""Settings: allowed values, sources, precedence and consistency."""
