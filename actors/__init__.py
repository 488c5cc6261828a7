"""Ray actors: thin shells around session objects that know nothing of Ray."""
