"""Types, Arrow schemas, configuration and errors; knows neither torch nor Ray nor any I/O."""
