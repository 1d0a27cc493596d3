"""How good segments are: planted kinds of shoppers, the online methods that look for them, one table."""
