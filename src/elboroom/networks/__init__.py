"""torch.nn and no more: networks end in features, and offer the last layer (`head`) to whoever owns it."""
