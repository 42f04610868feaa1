"""RecBole's atomic files, read and checked line by line."""
