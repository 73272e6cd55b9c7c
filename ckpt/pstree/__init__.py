"""The pure model of tasks, groups, sessions and what they share."""
