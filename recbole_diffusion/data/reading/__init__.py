"""Reader of RecBole's atomic files, with checks of every line."""
