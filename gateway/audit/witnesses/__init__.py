"""Checkpoints shown to others, who keep them where the operator cannot reach them."""
