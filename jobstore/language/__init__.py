"""What things mean: values, rules and errors. Pure; no file is touched here."""
