"""Which pages a running target writes: engines, and the keeper that holds them."""
