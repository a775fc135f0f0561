"""The Linux part: namespaces, roots, processes. Imports nothing of podling, so that the zygote stays tiny."""
