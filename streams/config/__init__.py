"""The settings: where they come from, what they mean, and what is made of them."""
