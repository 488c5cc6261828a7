"""Ray actors, each of which delegates to a session object that knows nothing of Ray."""
