"""The recipe: its sections, their validation, and the search space of a sweep."""
