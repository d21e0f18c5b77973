"""What talks: to Label Studio, to people, to disk."""
