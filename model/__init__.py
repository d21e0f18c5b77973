"""What learns: arrays and images in, arrays out. Knows nothing of HTTP, SQL or Label Studio."""
