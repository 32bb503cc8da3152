"""How networks learn: the loop, its state on disk, the evidence for it, several processes."""
