"""What knows nothing of RecBole: files, versions, warnings, random state."""
