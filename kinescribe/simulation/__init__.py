"""The simulated world: scenes, actions, and clips with exact ground truth."""
