"""What shoal learns: segments and numbered versions of them, side models, encoders, and how they are judged."""
