"""What the end-to-end tests share: clusters, users, kubectl, load."""
