"""One module for each controller: observe, decide, act."""
