"""Import of tables: any csv, parquet or json-lines file, or a data frame, becomes RecBole's atomic files."""
