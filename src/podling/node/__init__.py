"""The kubelet: what a Pod object says, made true on this machine."""
