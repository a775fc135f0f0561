"""What the instances of a definition have to satisfy, and the defaults that it brings for them."""
