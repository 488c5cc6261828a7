"""The simulated world: scenes, actions and clips whose truth is known exactly."""
