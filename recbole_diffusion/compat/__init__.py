"""What is wrong with RecBole 1.2.1 and with an installation, and the repairs."""
