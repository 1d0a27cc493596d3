"""The autoencoder whose embeddings segments can be made of: its file, its training, and when to train again."""
